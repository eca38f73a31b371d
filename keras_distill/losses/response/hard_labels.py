from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import one_of
from keras_distill.losses.ops.probabilities import log_outcomes
from keras_distill.losses.ops.probabilities import log_probabilities
from keras_distill.losses.response.base import ResponseLoss


@keras.saving.register_keras_serializable(package="keras_distill")
class HardLabels(ResponseLoss):
    """Cross-entropy with the class that the teacher predicts.

        l = -log softmax(student)_c,   c = argmax_c teacher_c
        loss = sum(weight * l) / number of positions

    With `activation="sigmoid"` the sign of the teacher's logit decides each
    class, and `l` is the mean over the classes of the binary cross-entropy.
    The paper's objective is `kd.Distiller(alpha=0.5)` with this loss and
    cross-entropy on the labels.

    Args:
        activation: `"softmax"`, or `"sigmoid"` for binary and multi-label.
            A teacher may end in a softmax, which keeps the argmax, but not in
            a sigmoid.
        class_map: List of the teacher's class index of each student class; the
            argmax is taken among these.
        teacher_layer_name: The teacher's logits. Defaults to its output.
        student_layer_name: The student's logits. Defaults to its output.
        name: Defaults to `"hard_labels"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Teacher `(batch, ..., teacher_classes)`, student `(batch, ...,
        classes)`, any float dtype. `sample_weight`: `(batch,)` or one weight
        per position; a mask has weights of 0 and 1.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for an `activation` not in the list; in `bind`, for a
            student (with sigmoid, also a teacher) that gives probabilities; in
            `build`, if classes or positions differ.

    Example:

    ```python
    loss = kd.losses.HardLabels()
    teacher = np.array([[3.0, 1.0], [0.0, 0.1]], "float32")
    student = np.zeros((2, 2), "float32")
    loss.compute_loss(teacher, student)  # log 2 = 0.693
    ```

    Reference:
        Touvron et al., "Training data-efficient image transformers &
        distillation through attention" (DeiT), 2021, eq. 3.
    """

    def __init__(
        self,
        *,
        activation: str = "softmax",
        class_map: Sequence[int | None] | None = None,
        **kwargs: Any,
    ):
        super().__init__(class_map=class_map, **kwargs)
        self.activation = one_of(
            "activation", activation, ("softmax", "sigmoid")
        )
        self.reads_teacher_logits = activation == "sigmoid"

    def position_loss(self, teacher: Any, student: Any) -> Any:
        if self.activation == "sigmoid":
            log_on, log_off = ops.unstack(log_outcomes(student), 2, axis=-1)
            loss = -ops.where(teacher > 0.0, log_on, log_off)
            return ops.mean(loss, axis=-1)
        labels = ops.argmax(teacher, axis=-1)
        target = ops.one_hot(labels, student.shape[-1], dtype=student.dtype)
        return -ops.sum(target * log_probabilities(student), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": self.activation}
