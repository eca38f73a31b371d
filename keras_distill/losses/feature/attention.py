from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import one_of
from keras_distill.losses.feature.feature_maps import check_maps
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.elementwise import safe_sqrt
from keras_distill.losses.ops.norms import over_norm
from keras_distill.losses.ops.pooling import match_spatial
from keras_distill.losses.ops.reductions import mean_per_sample
from keras_distill.losses.ops.reductions import weighted_mean


def attention_map(x, power=2):
    """Computes the attention map `sum_c x[..., c]^power`.

    Args:
        x: `(batch, height, width, channels)`.
        power: A positive integer. An odd one keeps the sign of `x`.

    Returns:
        `(batch, height, width)`.
    """
    return ops.sum(ops.power(x, power), axis=-1)


def unit_maps(maps):
    """Divides each sample's map by its L2 norm, held above 1e-12."""
    return over_norm(maps, (1, 2))


@keras.saving.register_keras_serializable(package="keras_distill")
class AttentionTransfer(LayerPairLoss):
    """Matches where the student looks to where the teacher looks.

        a(F) = sum_c F[:, :, c]^power          Q = a / max(||a||_2, 1e-12)
        form="paper":  l = (1 / batch) sum_b ||Q_student,b - Q_teacher,b||_2
        form="code":   l = mean over batch and positions of
                           (Q_student - Q_teacher)^2, a(F) a mean over channels
        loss = sum over pairs of layer_weight * l

    The authors' code squares the norm and divides by the number of positions,
    so the two values differ by a factor of tens. RepDistiller's weight of 1000
    is for `"code"`. Give the paper's factor beta / 2 as a
    `distillation_loss_weights`.

    Channels may differ. If two maps differ in size, the larger is averaged
    down to the smaller before the power is taken.

    Args:
        teacher_layer_name: A layer that gives a map, or a list of them.
        student_layer_name: The same, paired one to one.
        form: `"paper"` or `"code"`. Defaults to `"paper"`.
        power: A positive integer. Defaults to 2, as in paper and code.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"attention_transfer"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Per pair `(batch, height, width, channels)`. `sample_weight`:
        `(batch,)`; weights per position are averaged over each sample, and
        positions of weight 0 (void pixels) are left out.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists; in `build`, for features
            that are not maps, with both shapes.

    Example:

    ```python
    loss = kd.losses.AttentionTransfer(
        teacher_layer_name="a", student_layer_name="b"
    )
    teacher = np.zeros((1, 1, 2, 8), "float32")
    student = np.zeros((1, 1, 2, 4), "float32")
    teacher[:, :, 0] = student[:, :, 1] = 1.0  # They look elsewhere.
    loss.compute_loss(teacher, student)  # sqrt(2) = 1.414
    ```

    Reference:
        Zagoruyko, Komodakis, "Paying More Attention to Attention: Improving
        the Performance of Convolutional Neural Networks via Attention
        Transfer", 2017, eq. 2.
    """

    joins_positions = True

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        form: str = "paper",
        power: int = 2,
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            layer_weights=layer_weights,
            **kwargs,
        )
        self.form = one_of("form", form, ("paper", "code"))
        self.power = checked_integer("power", power)

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        check_maps(self, teacher_shape, student_shape)

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        teacher, student = match_spatial(teacher, student)
        difference = self._attention(student) - self._attention(teacher)
        squares = ops.square(difference)
        if self.form == "code":
            values = mean_per_sample(squares)
        else:
            values = safe_sqrt(ops.sum(squares, axis=(1, 2)))
        return weighted_mean(values, sample_weight)

    def _attention(self, x):
        maps = attention_map(x, self.power)
        if self.form == "code":
            # The same after the division by the norm, unless that is 1e-12.
            maps = maps / x.shape[-1]
        return unit_maps(maps)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "form": self.form,
            "power": self.power,
        }
