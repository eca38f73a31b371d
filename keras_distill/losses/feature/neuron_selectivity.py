from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import one_of
from keras_distill.losses.feature.feature_maps import check_maps
from keras_distill.losses.layer_pair import LayerPairLoss
from keras_distill.losses.ops.norms import over_norm
from keras_distill.losses.ops.pooling import match_spatial
from keras_distill.losses.ops.reductions import weighted_mean


def selectivities(x):
    """Divides each channel's flattened map by its L2 norm.

    Args:
        x: `(batch, height, width, channels)`.

    Returns:
        `(batch, height * width, channels)`. A dead channel stays 0.
    """
    batch, height, width, channels = ops.shape(x)
    x = ops.reshape(x, (batch, height * width, channels))
    return over_norm(x, 1)


def linear_discrepancy(teacher, student):
    """Squared MMD of the channels with `k(x, y) = x . y`, `(batch,)`.

    Compares the channels' means, so it needs no product of channels.
    """
    difference = ops.mean(teacher, axis=-1) - ops.mean(student, axis=-1)
    return ops.sum(ops.square(difference), axis=-1)


def polynomial_discrepancy(teacher, student):
    """Squared MMD of the channels with `k(x, y) = (x . y)^2`, `(batch,)`.

    Computed from the products of channels or, as
    `sum_ij (a_i . b_j)^2 = <A A', B B'>`, from those of positions, whichever
    are fewer:

        || T T' / C_teacher - S S' / C_student ||_F^2

    Args:
        teacher: `(batch, positions, teacher_channels)`.
        student: `(batch, positions, student_channels)`.
    """
    positions = student.shape[1]
    fewest = min(teacher.shape[2], student.shape[2])
    if positions is not None and positions <= fewest:
        difference = _position_products(teacher) - _position_products(student)
        return ops.sum(ops.square(difference), axis=(1, 2))

    def mean_kernel(a, b):
        products = ops.matmul(ops.transpose(a, (0, 2, 1)), b)
        return ops.mean(ops.square(products), axis=(1, 2))

    return (
        mean_kernel(teacher, teacher)
        + mean_kernel(student, student)
        - 2.0 * mean_kernel(student, teacher)
    )


KERNELS = {
    "polynomial": polynomial_discrepancy,
    "linear": linear_discrepancy,
}


@keras.saving.register_keras_serializable(package="keras_distill")
class NeuronSelectivityTransfer(LayerPairLoss):
    """Matches the distributions of what channels select.

        f_i = channel i, flattened over positions, over max(||.||_2, 1e-12)
        l_b = mean_ij k(t_i, t_j) + mean_ij k(s_i, s_j) - 2 mean_ij k(s_i, t_j)
        kernel="polynomial":  k(x, y) = (x . y)^2
        kernel="linear":      k(x, y) = x . y
        loss = sum over pairs of layer_weight * (1 / batch) sum_b l_b

    This is the squared maximum mean discrepancy of the channels; their order
    and number do not matter. Give the paper's factor lambda / 2 (lambda = 50
    with the polynomial kernel) as a `distillation_loss_weights`. The paper's
    third kernel, the Gaussian, is not offered.

    If two maps differ in size, the larger is averaged down to the smaller.

    Cost: 12 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        teacher_layer_name: A layer that gives a map, or a list of them.
        student_layer_name: The same, paired one to one.
        kernel: `"polynomial"` (degree 2, without constant) or `"linear"`.
            Defaults to `"polynomial"`, as in popular code.
        layer_weights: One weight per pair. Defaults to 1 each.
        name: Defaults to `"neuron_selectivity_transfer"`.
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
    loss = kd.losses.NeuronSelectivityTransfer(
        teacher_layer_name="a", student_layer_name="b"
    )
    teacher = np.zeros((1, 1, 2, 8), "float32")
    student = np.zeros((1, 1, 2, 4), "float32")
    teacher[:, :, 0] = student[:, :, 1] = 1.0  # They select other places.
    loss.compute_loss(teacher, student)  # 1 + 1 - 0 = 2.0
    ```

    Reference:
        Huang, Wang, "Like What You Like: Knowledge Distill via Neuron
        Selectivity Transfer", 2017.
    """

    joins_positions = True

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        kernel: str = "polynomial",
        layer_weights: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            layer_weights=layer_weights,
            **kwargs,
        )
        self.kernel = one_of("kernel", kernel, tuple(KERNELS))

    def build_pair(
        self, index: int, teacher_shape: Any, student_shape: Any
    ) -> None:
        check_maps(self, teacher_shape, student_shape)

    def pair_loss(
        self, index: int, teacher: Any, student: Any, sample_weight: Any = None
    ) -> Any:
        teacher, student = match_spatial(teacher, student)
        discrepancy = KERNELS[self.kernel]
        values = discrepancy(selectivities(teacher), selectivities(student))
        return weighted_mean(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel": self.kernel}


def _position_products(x):
    """`(batch, positions, positions)`, divided by the channels."""
    return ops.matmul(x, ops.transpose(x, (0, 2, 1))) / x.shape[2]
