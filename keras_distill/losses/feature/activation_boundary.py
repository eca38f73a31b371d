from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill.losses.feature.feature_maps import PreActivationConnectors
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.pooling import match_spatial
from keras_distill.losses.ops.reductions import sum_of_positions


def boundary_distance(teacher, student, margin=1.0):
    """How far a response is from the teacher's side of its boundary.

        relu(margin - student)  if teacher > 0
        relu(margin + student)  otherwise

    Args:
        teacher: Responses before the activation.
        student: The same shape.
        margin: A positive number.
    """
    side = ops.where(teacher > 0, ops.ones_like(teacher), -1.0)
    return ops.relu(margin - side * student)


@keras.saving.register_keras_serializable(package="keras_distill")
class ActivationBoundary(PreActivationConnectors, LayerPairLoss):
    """Makes the same neurons fire, by a hinge on their pre-activations.

        d = relu(margin - r(student))  if teacher > 0
            relu(margin + r(student))  otherwise
        l = (1 / batch) sum_b sum over positions and channels of d^2
        form="paper":  loss = sum over pairs of layer_weight * l
        form="code":   loss = 3 / 1000 * the same, and the weight of pair k of
                       n is 2^(k - n + 1) if none is given (k from 0)

    `"code"` is RepDistiller's scaling; list the layers from first to last. Tap
    the convolution or batch normalization *before* the activation. `r` is the
    connector, trained with the student and not part of it.

    If two maps differ in size, the larger is averaged down to the smaller.

    Cost: 17 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        teacher_layer_name: A layer before its activation, or a list of them.
        student_layer_name: The same, paired one to one.
        margin: A positive number. Defaults to 1, as in the paper.
        form: `"paper"` or `"code"`. Defaults to `"paper"`.
        connector: `"auto"`: 1x1 convolution and batch normalization (with the
            statistics of the batch) if the channels differ, as in the
            paper. `"conv_bn"`: always. `None`: never.
        layer_weights: One weight per pair. Defaults to 1 each (`"paper"`).
        name: Defaults to `"activation_boundary"`.
        dtype: dtype of the connector's weights. Defaults to `"float32"`.

    Input shapes:
        Per pair `(batch, height, width, channels)`. `sample_weight`:
        `(batch,)`, or one weight per position of a map.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists; in `build`, for features
            that are not maps or, without connector, differ in channels.

    Example:

    ```python
    loss = kd.losses.ActivationBoundary(
        teacher_layer_name="a", student_layer_name="b"
    )
    teacher = np.full((1, 1, 1, 2), 3.0, "float32")  # Both neurons fire.
    student = np.array([[[[5.0, -1.0]]]], "float32")  # Here only the first.
    loss.compute_loss(teacher, student)  # 0 + (1 + 1)^2 = 4.0
    ```

    Reference:
        Heo et al., "Knowledge Transfer via Distillation of Activation
        Boundaries Formed by Hidden Neurons", 2019 (AAAI).
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        margin: float = 1.0,
        form: str = "paper",
        connector: str | None = "auto",
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            connector=connector,
            layer_weights=layer_weights,
            **kwargs,
        )
        self.margin = checked_number("margin", margin)
        self.form = one_of("form", form, ("paper", "code"))

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        teacher, student = match_spatial(teacher, student)
        student = self.connected(index, student)
        teacher, student = same_precision(teacher, student)
        distance = boundary_distance(teacher, student, self.margin)
        values = ops.sum(ops.square(distance), axis=-1)
        loss = sum_of_positions(values, sample_weight)
        return loss * self._scale(index)

    def _scale(self, index):
        if self.form == "paper":
            return 1.0
        if self.layer_weights is not None:
            return 3.0 / 1000.0
        return 3.0 / 1000.0 * 2.0 ** (index - len(self.connectors) + 1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "margin": self.margin,
            "form": self.form,
        }
