import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill.losses.connectors import perceptron
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.pooling import match_spatial
from keras_distill.losses.ops.reductions import weighted_mean


def softplus_variance(scale, epsilon=1e-5):
    """`log(1 + exp(scale)) + epsilon`, without overflow or cancellation."""
    return ops.softplus(scale) + epsilon


def inverse_softplus_variance(variance, epsilon=1e-5):
    """Returns the `scale` whose `softplus_variance` is `variance`, a float."""
    wanted = variance - epsilon
    return wanted + math.log(-math.expm1(-wanted))


def gaussian_energy(x, mean, variance):
    """`-log N(x; mean, variance)` without its constant `log(2 pi) / 2`.

        sum_c log sigma_c + (x_c - mean_c)^2 / (2 sigma_c^2)

    Sums the channels before it adds the logarithm, and divides no map: three
    passes over the map instead of six.

    Args:
        x: `(batch, ..., channels)`.
        mean: The same shape.
        variance: sigma^2, `(channels,)`.

    Returns:
        `(batch, ...)`.
    """
    deviation = (x - mean) * ops.rsqrt(2.0 * variance)
    squares = ops.sum(ops.square(deviation), axis=-1)
    return squares + 0.5 * ops.sum(ops.log(variance))


def over_channels(values, channels, reduction):
    """Scales sums over channels so that `weighted_mean` reduces them.

    Args:
        values: `(batch, ...)`, each a sum over the channels.
        channels: The number of channels.
        reduction: `"mean"` over all elements of a sample, or their `"sum"`.

    Returns:
        `(batch, ...)`; for the sum, times the number of positions that the
        mean will divide by.
    """
    if reduction == "mean":
        return values / channels
    for size in ops.shape(values)[1:]:
        values = values * ops.cast(size, values.dtype)
    return values


@keras.saving.register_keras_serializable(package="keras_distill")
class VariationalInformation(LayerPairLoss):
    """Maximizes a lower bound of the information shared by two layers.

        -log q(t|s) = sum_{c,h,w} log sigma_c + (t - mu(s))^2 / (2 sigma_c^2)
        sigma_c^2 = softplus(alpha_c) + epsilon
        reduction="sum":   l = (1 / batch) sum_b -log q(t_b | s_b)
        reduction="mean":  l = mean over batch, positions and channels
        loss = sum over pairs of layer_weight * l

    `mu` is a trained network of three 1x1 convolutions without biases and ReLU
    between them (dense layers for vectors and sequences); `alpha` is a trained
    vector. Neither is part of the student. The constant `log(2 pi) / 2` is
    left out. The loss can be negative.

    The sum is the paper's equation. RepDistiller takes the mean with weight 1:
    the sum divided by `height * width * channels`. Give the sum a weight
    smaller by that factor, in `layer_weights`.

    If two maps differ in size, the larger is averaged down to the smaller.

    Cost: 25 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        teacher_layer_name: A layer of the teacher, or a list of them.
        student_layer_name: The same, paired one to one.
        reduction: `"sum"` or `"mean"`. Defaults to `"sum"`, the paper's.
        hidden_channels: Channels between the three layers of `mu`. Defaults
            to the teacher's channels, as in RepDistiller.
        initial_variance: sigma^2 at the start. Defaults to 5, as in
            RepDistiller.
        epsilon: Smallest sigma^2. Defaults to 1e-5, as in RepDistiller.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"variational_information"`.
        dtype: dtype of `mu` and `alpha`. Defaults to `"float32"`.

    Input shapes:
        Per pair: `(batch, height, width, channels)`, `(batch, time, channels)`
        or `(batch, channels)`. `sample_weight`: `(batch,)`, or one weight per
        position of a sequence.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists; in `build`, for shapes
            that cannot be joined, with both shapes.

    Example:

    ```python
    loss = kd.losses.VariationalInformation(
        teacher_layer_name="a", student_layer_name="b", reduction="mean"
    )
    teacher = np.zeros((2, 4, 4, 8), "float32")
    student = np.zeros((2, 4, 4, 3), "float32")
    loss.compute_loss(teacher, student)  # log(5) / 2 = 0.805
    ```

    Reference:
        Ahn et al., "Variational Information Distillation for Knowledge
        Transfer", 2019.
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        reduction: str = "sum",
        hidden_channels: int | None = None,
        initial_variance: float = 5.0,
        epsilon: float = 1e-5,
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            layer_weights=layer_weights,
            **kwargs,
        )
        self.reduction = one_of("reduction", reduction, ("sum", "mean"))
        self.hidden_channels = checked_integer(
            "hidden_channels", hidden_channels, or_none=True
        )
        self.initial_variance, self.epsilon = checked_variances(
            initial_variance, epsilon
        )
        self.means: list = []  # mu, one per pair.
        self.scales: list = []  # alpha, one vector per pair.

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        channels = teacher_shape[-1]
        hidden = self.hidden_channels or channels
        self.means.append(
            perceptron(student_shape, teacher_shape, hidden, self.dtype)
        )
        self.scales.append(
            self.add_weight(
                name="scale",
                shape=(channels,),
                initializer=keras.initializers.Constant(
                    inverse_softplus_variance(
                        self.initial_variance, self.epsilon
                    )
                ),
            )
        )

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        if len(teacher.shape) == len(student.shape) == 4:
            teacher, student = match_spatial(teacher, student)
        mean = self.means[index](student, training=True)
        teacher, mean, scale = same_precision(teacher, mean, self.scales[index])
        variance = softplus_variance(scale, self.epsilon)
        energy = gaussian_energy(teacher, mean, variance)
        values = over_channels(energy, teacher.shape[-1], self.reduction)
        return weighted_mean(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "hidden_channels": self.hidden_channels,
            "initial_variance": self.initial_variance,
            "epsilon": self.epsilon,
        }


def checked_variances(initial_variance, epsilon):
    """Checks that 0 < epsilon < initial_variance, and returns both."""
    initial_variance = checked_number("initial_variance", initial_variance)
    epsilon = checked_number("epsilon", epsilon)
    if epsilon >= initial_variance:
        raise ValueError(
            "initial_variance must be larger than epsilon, and epsilon larger "
            f"than 0. Received: initial_variance={initial_variance}, "
            f"epsilon={epsilon}"
        )
    return initial_variance, epsilon
