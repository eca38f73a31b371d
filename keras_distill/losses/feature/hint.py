from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import one_of
from keras_distill.losses.connectors import REGRESSORS
from keras_distill.losses.connectors import make_regressor
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.pooling import match_spatial
from keras_distill.losses.ops.reductions import weighted_mean


@keras.saving.register_keras_serializable(package="keras_distill")
class Hint(LayerPairLoss):
    """Regresses features of the teacher from features of the student.

        d = teacher - regressor(student)
        form="mean":   l = mean over all elements of d^2
        form="paper":  l = (1 / batch) sum_b 1/2 ||d_b||^2
        loss = sum over pairs of layer_weight * l

    `"mean"` is the form of RepDistiller and mdistiller and of their published
    comparisons. Its value does not grow with the map, so one weight suits
    every layer (docs/losses.md).

    If two maps differ in size, the larger is averaged down to the smaller.

    Args:
        teacher_layer_name: The hint layer, or a list of them.
        student_layer_name: The guided layer, or a list, paired one to one.
        regressor: `"auto"`: none if the channels agree, else `"conv1x1"` for
            maps and `"dense"` for vectors and sequences, and for a student's
            map and a teacher's vector, after averaging over the map.
            `"conv1x1"`, `"dense"`: always. `"conv_bn_relu"`: 1x1 convolution,
            batch normalization with the statistics of the batch, ReLU
            (mdistiller); for hints after a ReLU. `None`: never. It is trained
            with the student and not part of it. Defaults to `"auto"`.
        form: `"mean"` or `"paper"`. Defaults to `"mean"`.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"hint"`.
        dtype: dtype of the regressor's weights. Defaults to `"float32"`.

    Input shapes:
        Per pair: `(batch, height, width, channels)`, `(batch, time, channels)`
        or `(batch, channels)`. `sample_weight`: `(batch,)`, or one weight per
        position of a sequence.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists; in `build`, for shapes
            that the regressor cannot join, with both shapes.

    Example:

    ```python
    loss = kd.losses.Hint(teacher_layer_name="a", student_layer_name="b")
    teacher = np.ones((2, 4, 4, 8), "float32")
    student = np.zeros((2, 4, 4, 8), "float32")
    loss.build(teacher.shape, student.shape)
    loss.compute_loss(teacher, student)  # 1.0
    ```

    Reference:
        Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, eq. 3.
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        regressor: str | None = "auto",
        form: str = "mean",
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            layer_weights=layer_weights,
            **kwargs,
        )
        self.regressor = one_of("regressor", regressor, REGRESSORS)
        self.form = one_of("form", form, ("mean", "paper"))
        self.regressors: dict = {}  # Of each pair, or `None`.

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        self.regressors[index] = make_regressor(
            self.regressor, teacher_shape, student_shape, self.dtype
        )

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        if len(teacher.shape) == len(student.shape) == 4:
            teacher, student = match_spatial(teacher, student)
        if self.regressors[index] is not None:
            student = self.regressors[index](student, training=True)
        teacher, student = same_precision(teacher, student)
        squares = ops.square(teacher - student)
        if self.form == "mean":
            values = ops.mean(squares, axis=-1)
        else:
            # Times the number of positions, which the mean will divide by.
            values = 0.5 * ops.sum(squares, axis=-1)
            for size in ops.shape(values)[1:]:
                values = values * ops.cast(size, values.dtype)
        return weighted_mean(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "regressor": self.regressor,
            "form": self.form,
        }
