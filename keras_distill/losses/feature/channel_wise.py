from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_temperature
from keras_distill.losses.feature.connected import Connected
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.reductions import counted
from keras_distill.losses.ops.reductions import weighted_mean

# Of a position without weight: its probability is 0.
NO_ACTIVITY = -1e30


def log_position_probabilities(x, temperature=1.0, where=None):
    """Computes the log-softmax over positions, per channel.

    Args:
        x: `(batch, height, width, channels)`.
        temperature: A positive number.
        where: `None`, or booleans `(batch, height, width, 1)`: the positions
            that have a probability.

    Returns:
        `(batch, height * width, channels)`.
    """
    batch, height, width, channels = ops.shape(x)
    if where is not None:
        x = ops.where(where, x, NO_ACTIVITY * ops.ones_like(x))
    x = ops.reshape(x, (batch, height * width, channels))
    return ops.log_softmax(x / temperature, axis=1)


@keras.saving.register_keras_serializable(package="keras_distill")
class ChannelWise(Connected, LayerPairLoss):
    """Matches how each channel's activity is spread over positions.

        phi(x_c) = softmax over positions of x_c / T
        l = (1 / batch) sum_b T^2 / C sum_c KL(phi(t_c) || phi(r(s)_c))
        loss = sum over pairs of layer_weight * l

    `r` is the connector, trained with the student and not part of it. For
    logit maps of dense prediction, tap both networks' logits.

    If two maps differ in size, the larger is averaged down to the smaller.

    Args:
        teacher_layer_name: A layer that gives a map, or a list of them.
        student_layer_name: The same, paired one to one.
        temperature: T, a positive number. Defaults to 4, as in the paper.
        connector: `"auto"`: a 1x1 convolution if the channels differ, as
            in the paper. `"conv1x1"`: always. `None`: never.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"channel_wise"`.
        dtype: dtype of the connector's weights. Defaults to `"float32"`.

    Input shapes:
        Per pair `(batch, height, width, channels)`. `sample_weight`:
        `(batch,)`; weights per position are averaged over each sample, and
        positions of weight 0 (void pixels) are left out.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists; in `build`, for features
            that are not maps or, without connector, differ in channels.

    Example:

    ```python
    loss = kd.losses.ChannelWise(
        teacher_layer_name="a", student_layer_name="b", temperature=1.0
    )
    teacher = np.zeros((1, 1, 2, 3), "float32")
    student = np.zeros((1, 1, 2, 3), "float32")
    teacher[:, :, 0] = 20.0  # All on the left; the student: everywhere.
    loss.compute_loss(teacher, student)  # log(2) = 0.693
    ```

    Reference:
        Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction",
        2021.
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        temperature: float = 4.0,
        connector: str | None = "auto",
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            layer_weights=layer_weights,
            connector=connector,
            **kwargs,
        )
        self.temperature = checked_temperature(temperature)

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        teacher, student = self.connected(index, teacher, student)
        where = counted(sample_weight, student)
        log_p, log_q = (
            log_position_probabilities(x, self.temperature, where)
            for x in (teacher, student)
        )
        divergence = ops.sum(ops.exp(log_p) * (log_p - log_q), axis=1)
        values = self.temperature**2 * ops.mean(divergence, axis=-1)
        return weighted_mean(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}
