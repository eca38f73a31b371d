from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import one_of
from keras_distill.losses.response.base import ResponseLoss


@keras.saving.register_keras_serializable(package="keras_distill")
class LogitsMSE(ResponseLoss):
    """Squared differences of logits, or of the values of a regression head.

        class_reduction="sum":   l = sum_c (student_c - teacher_c)^2
        class_reduction="mean":  l = (1 / C) sum_c (student_c - teacher_c)^2
        loss = sum(weight * l) / number of positions

    Args:
        class_reduction: `"sum"`, the paper's squared L2 norm, or `"mean"`, as
            `MeanSquaredError` in most code: smaller by the number of classes.
            Defaults to `"sum"`. For a regression head take `"mean"`, which is
            the `"mse"` of `compile(loss=...)`.
        regression: Whether the outputs are quantities instead of logits. Then
            any last activation is allowed. Defaults to `False`.
        class_map: List of the teacher's class index of each student class.
        teacher_layer_name: The teacher's logits. Defaults to its output.
        student_layer_name: The student's logits. Defaults to its output.
        name: Defaults to `"logits_mse"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Teacher `(batch, ..., teacher_classes)`, student `(batch, ...,
        classes)`, any float dtype. `sample_weight`: `(batch,)` or one weight
        per position; a mask has weights of 0 and 1.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for a `class_reduction` not in the list; in `bind`, for a
            head that ends in a softmax or sigmoid; in `build`, if the
            classes or positions differ.

    Example:

    ```python
    loss = kd.losses.LogitsMSE()
    teacher = np.array([[1.0, 2.0], [0.0, 0.0]], "float32")
    student = np.zeros((2, 2), "float32")
    loss.compute_loss(teacher, student)  # (1 + 4 + 0 + 0) / 2 = 2.5
    ```

    Reference:
        Kim, Oh, Kim, Cho, Yun, "Comparing Kullback-Leibler Divergence and Mean
        Squared Error Loss in Knowledge Distillation", 2021, L_MSE (fig. 1b).
    """

    activation = None

    def __init__(
        self,
        *,
        class_reduction: str = "sum",
        regression: bool = False,
        class_map: Sequence[int | None] | None = None,
        **kwargs: Any,
    ):
        super().__init__(class_map=class_map, **kwargs)
        self.class_reduction = one_of(
            "class_reduction", class_reduction, ("sum", "mean")
        )
        self.regression = checked_boolean("regression", regression)
        self.reads_teacher_logits = not self.regression
        self.reads_student_logits = not self.regression

    def position_loss(self, teacher: Any, student: Any) -> Any:
        reduce = ops.sum if self.class_reduction == "sum" else ops.mean
        return reduce(ops.square(student - teacher), axis=-1)

    def how_to_get_logits(self, role):
        return (
            f"{super().how_to_get_logits(role)} If the outputs are quantities "
            "and not classes: LogitsMSE(regression=True)."
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "class_reduction": self.class_reduction,
            "regression": self.regression,
        }
