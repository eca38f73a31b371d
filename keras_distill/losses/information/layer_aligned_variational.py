from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.information.layer_alignment import aligned
from keras_distill.losses.information.layer_alignment import checked_alignment
from keras_distill.losses.information.layer_alignment import fixed_alignment
from keras_distill.losses.information.layer_alignment import make_projection
from keras_distill.losses.information.running_moments import RunningMoments
from keras_distill.losses.information.variational import checked_variances
from keras_distill.losses.information.variational import gaussian_energy
from keras_distill.losses.information.variational import (
    inverse_softplus_variance,
)
from keras_distill.losses.information.variational import over_channels
from keras_distill.losses.information.variational import softplus_variance
from keras_distill.losses.ops.elementwise import at_least_float32
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.reductions import counted
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.structures import as_list
from keras_distill.losses.structures import in_order
from keras_distill.losses.structures import plain
from keras_distill.losses.structures import shape_list
from keras_distill.losses.structures import shapes_of


def gaussian_entropy(variance, epsilon=1e-5):
    """Entropy per element of a Gaussian, without `log(2 pi) / 2`.

    Held so that a dead channel has no information, see docs/losses.md.
    """
    held = ops.maximum(variance, epsilon)
    return 0.5 * (ops.log(held) + variance / held)


@keras.saving.register_keras_serializable(package="keras_distill")
class LayerAlignedVariationalInformation(DistillationLoss):
    """Assigns the layers of a teacher to those of a student.

        I(t_i, s_j) = H(t_i) - sum_{c,h,w} [log sigma_c
                             + (t_i - mu_ij(s_j))^2 / (2 sigma_c^2)]
        loss = - sum_ij lambda_ij I(t_i, s_j),    sum_i lambda_ij = 1
        sigma_c^2 = softplus(alpha_ijc) + epsilon

    `I` is a lower bound of the information in nats, a mean over the batch (and
    with `reduction="mean"` over the elements of `t_i`); `mu` is linear.
    docs/losses.md says why a learned lambda needs `H`.

    Networks may differ in kind and depth. A vector is projected and repeated
    over the positions of a map, a map is averaged and projected to meet a
    vector, and maps take the size of the teacher's. The running moments are
    always those of all replicas; there is no `cross_replica`. The paper's beta
    is `1 - alpha` of `kd.Distiller`.

    Cost: 25 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        teacher_layer_name: T layers, a name or a list.
        student_layer_name: S layers, a name or a list.
        alignment: lambda. `"uniform"`: 1 / T, all to all. `"identity"`: one to
            one, in order. `"learned"`: a softmax over the teacher's layers,
            which starts uniform. Or a T x S matrix; pairs with 0 cost nothing.
            Defaults to `"uniform"`.
        entropy: `"gaussian"`: H from the running variance of each channel.
            `"standardized"`: the teacher's layers are brought to running mean
            0 and variance 1. `None`: no H. Defaults to `"auto"`: `"gaussian"`
            for a learned lambda, else `None`.
        reduction: `"sum"`, the paper's, or `"mean"`. With a learned lambda the
            sum favours layers of many elements. Defaults to `"sum"`.
        momentum: Of the running moments. Defaults to 0.99.
        initial_variance: sigma^2 at the start. Defaults to 1.
        epsilon: Smallest variance. Defaults to 1e-5, as in
            `VariationalInformation`.
        name: Defaults to `"layer_aligned_variational_information"`.
        dtype: dtype of the weights. Defaults to `"float32"`.

    Input shapes:
        Each tap `(batch, height, width, channels)`, `(batch, time, channels)`
        or `(batch, channels)`. `sample_weight`: `(batch,)`, or one weight per
        position of a sequence.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments outside the lists, a matrix of another shape
            or with columns that do not sum to 1; in `build`, for layers that
            cannot be joined.

    Example:

    ```python
    loss = kd.losses.LayerAlignedVariationalInformation(
        teacher_layer_name=["t1", "t2"],
        student_layer_name=["s1"],
        alignment="learned",
    )
    maps, vectors = np.ones((2, 4, 4, 3)), np.ones((2, 8))
    loss.compute_loss({"t1": maps, "t2": vectors}, {"s1": vectors})
    loss.alignment_matrix()  # [[0.5], [0.5]]
    ```

    Reference:
        - Oleinik 2023, distillation over pairs of layers by variational
          information.
        - Ahn et al., "Variational Information Distillation for Knowledge
          Transfer", 2019.
    """

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        alignment: str | Sequence[Sequence[float]] = "uniform",
        entropy: str | None = "auto",
        reduction: str = "sum",
        momentum: float = 0.99,
        initial_variance: float = 1.0,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            **kwargs,
        )
        self._count = (
            len(as_list(self.teacher_layer_name)),
            len(as_list(self.student_layer_name)),
        )
        self.alignment = checked_alignment(plain(alignment), *self._count)
        self.entropy = one_of(
            "entropy", entropy, ("auto", "gaussian", "standardized", None)
        )
        self.reduction = one_of("reduction", reduction, ("sum", "mean"))
        self.momentum = checked_number("momentum", momentum, "[0, 1)")
        self.initial_variance, self.epsilon = checked_variances(
            initial_variance, epsilon
        )
        # The moments are those of the batch, too.
        self.batch_coupled = self._used_entropy() is not None
        self.logits = None  # Of a learned lambda.
        self.projections: list = []  # One per pair that counts, see `_pairs`.
        self.scales: list = []
        self.moments: list = []  # One per layer of the teacher.

    def _used_entropy(self):
        if self.entropy == "auto":
            return "gaussian" if self.alignment == "learned" else None
        return self.entropy

    def _pairs(self):
        """`(i, j)` of all pairs of layers that count."""
        matrix = fixed_alignment(self.alignment, *self._count)
        return [(int(i), int(j)) for i, j in np.argwhere(matrix > 0.0)]

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        teachers = shape_list(teacher_shape, self.teacher_layer_name, "teacher")
        students = shape_list(student_shape, self.student_layer_name, "student")
        if self.alignment == "learned":
            self.logits = self.add_weight(
                name="alignment", shape=self._count, initializer="zeros"
            )
        scale = inverse_softplus_variance(self.initial_variance, self.epsilon)
        for i, j in self._pairs():
            self.projections.append(
                make_projection(teachers[i], students[j], self.dtype)
            )
            self.scales.append(
                self.add_weight(
                    name="scale",
                    shape=(teachers[i][-1],),
                    initializer=keras.initializers.Constant(scale),
                )
            )
        if self._used_entropy() is not None:
            self.moments = [
                RunningMoments(shape[-1], self.momentum, self.dtype)
                for shape in teachers
            ]

    def alignment_matrix(self):
        """Returns lambda as a tensor `(T, S)` whose columns sum to 1."""
        if self.alignment == "learned":
            return ops.softmax(ops.convert_to_tensor(self.logits), axis=0)
        matrix = fixed_alignment(self.alignment, *self._count)
        return ops.convert_to_tensor(matrix, dtype=self.dtype)

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> Any:
        if not self.built:
            self.build(shapes_of(teacher_outputs), shapes_of(student_outputs))
        teachers = [
            self._with_entropy(
                i, ops.stop_gradient(at_least_float32(x)), sample_weight
            )
            for i, x in enumerate(
                in_order(teacher_outputs, self.teacher_layer_name)
            )
        ]
        students = in_order(student_outputs, self.student_layer_name)
        matrix = self.alignment_matrix()
        total = 0.0
        for index, (i, j) in enumerate(self._pairs()):
            teacher, entropy = teachers[i]
            values = self._information(index, teacher, entropy, students[j])
            information = weighted_mean(values, sample_weight)
            total = total - ops.cast(matrix[i, j], information.dtype) * (
                information
            )
        return total

    def _with_entropy(self, i, teacher, sample_weight):
        """Returns the teacher's layer and its entropy per element."""
        entropy = self._used_entropy()
        if entropy is None:
            return teacher, 0.0
        where = counted(sample_weight, teacher)
        mean, variance = self.moments[i].update(teacher, where)
        if entropy == "gaussian":
            return teacher, gaussian_entropy(variance, self.epsilon)
        # A dead channel has the variance 0, and not 1, afterwards.
        held = ops.maximum(variance, self.epsilon)
        teacher = (teacher - mean) / ops.sqrt(held)
        return teacher, gaussian_entropy(variance / held, self.epsilon)

    def _information(self, index, teacher, entropy, student):
        """`(batch, ...)`, to be averaged."""
        student = at_least_float32(student)
        mean = aligned(self.projections[index], student, teacher)
        teacher, mean, scale = same_precision(teacher, mean, self.scales[index])
        energy = gaussian_energy(
            teacher, mean, softplus_variance(scale, self.epsilon)
        )
        information = ops.sum(ops.cast(entropy, energy.dtype)) - energy
        return over_channels(information, teacher.shape[-1], self.reduction)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alignment": self.alignment
            if isinstance(self.alignment, str)
            else [plain(row) for row in self.alignment],
            "entropy": self.entropy,
            "reduction": self.reduction,
            "momentum": self.momentum,
            "initial_variance": self.initial_variance,
            "epsilon": self.epsilon,
        }
