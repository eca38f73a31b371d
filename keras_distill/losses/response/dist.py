from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_temperature
from keras_distill._arguments import one_of
from keras_distill.losses.ops.elementwise import safe_sqrt
from keras_distill.losses.ops.reductions import flat_positions
from keras_distill.losses.relation.coupled import BatchCoupled
from keras_distill.losses.response.base import ResponseLoss

EPSILON = 1e-8


def pearson_correlation(a, b, axis=-1, weight=None, epsilon="add"):
    """Pearson's correlation of two arrays along an axis.

        rho = a'.b' / (|a'| |b'| + 1e-8)                        "add"
        rho = a'.b' / (max(|a'|, 1e-8) max(|b'|, 1e-8))         "clamp"

    with `a' = a - mean(a)`. If `a` is constant up to rounding (the softmax of
    a head that starts at zero, a batch of one sample), `|a'|` is taken as 1:
    the formula would divide rounding errors by 1e-8.

    Args:
        a: Any shape, float32 or higher.
        b: The same shape and dtype.
        axis: The axis to correlate along.
        weight: `None`, or weights >= 0 that broadcast against `a`: an entry
            counts as often as its weight says.
        epsilon: `"add"` or `"clamp"`.

    Returns:
        The correlations, `a` without `axis`.
    """
    if weight is None:
        weight = ops.ones_like(a)
    a, norm_a = _centered(a, axis, weight)
    b, norm_b = _centered(b, axis, weight)
    product = ops.sum(weight * a * b, axis=axis)
    if epsilon == "add":
        return product / (norm_a * norm_b + EPSILON)
    return product / (
        ops.maximum(norm_a, EPSILON) * ops.maximum(norm_b, EPSILON)
    )


def _centered(x, axis, weight):
    """Returns `x - mean`, and its norm without `axis`."""
    total = ops.sum(weight * ops.ones_like(x), axis=axis, keepdims=True)
    mean = ops.divide_no_nan(
        ops.sum(weight * x, axis=axis, keepdims=True), total
    )
    x = x - mean
    norm = safe_sqrt(ops.sum(weight * ops.square(x), axis=axis))
    wide = keras.backend.standardize_dtype(x.dtype) == "float64"
    size = ops.squeeze(ops.abs(mean) * safe_sqrt(total), axis=axis)
    rounding = ops.maximum((1e-14 if wide else 1e-6) * size, 1e-15)
    # The threshold is not part of the function to differentiate.
    constant = norm <= ops.stop_gradient(rounding)
    return x, ops.where(constant, ops.ones_like(norm), norm)


@keras.saving.register_keras_serializable(package="keras_distill")
class DIST(BatchCoupled, ResponseLoss):
    """Matches predictions by correlation instead of by value.

        p = softmax(teacher / T)        q = softmax(student / T)
        inter = T^2 (1 - mean over samples b of rho(q[b, :], p[b, :]))
        intra = T^2 (1 - mean over classes c of rho(q[:, c], p[:, c]))
        loss = beta * inter + gamma * intra

    `rho` is Pearson's correlation. A strong teacher may be surer than its
    student, as long as both rank the classes (inter), and the samples of each
    class (intra), in the same way. In sequences and maps every position is a
    sample.

    `intra` compares the samples of a batch, so its value depends on the batch
    size. `sample_weight` says how often a sample counts in it; the loss is
    multiplied by the mean weight.

    Args:
        beta: Weight of `inter`, >= 0. Defaults to 1, as in the authors' code.
        gamma: Weight of `intra`, >= 0. Defaults to 1, as in the authors' code.
        temperature: T, a positive number. Defaults to 1, as in the authors'
            code.
        epsilon: `"add"` adds 1e-8 to the product of the norms (the authors'
            code, mmrazor), `"clamp"` holds each norm above 1e-8
            (torchdistill). Defaults to `"add"`.
        cross_replica: Compare with the samples of all replicas. Defaults to
            `False`.
        class_map: List of the teacher's class index of each student class.
        teacher_layer_name: The teacher's logits. Defaults to its output.
        student_layer_name: The student's logits. Defaults to its output.
        name: Defaults to `"dist"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Teacher `(batch, ..., teacher_classes)`, student `(batch, ...,
        classes)`, any float dtype. `sample_weight`: `(batch,)` or one weight
        per position; a weight of 0 leaves a position out.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is. With one
        sample, `intra` is `T^2` without gradient.

    Raises:
        ValueError: for weights below 0 or an unknown `epsilon`; in `bind`, for
            a head that ends in a softmax or sigmoid; in `build`, if the
            classes or positions differ.

    Example:

    ```python
    loss = kd.losses.DIST()
    teacher = np.array([[2.0, 0.0, 1.0], [0.0, 4.0, 0.0]], "float32")
    loss.compute_loss(teacher, teacher)  # 0.0
    loss.compute_loss(teacher, -teacher)  # 3.93
    ```

    Reference:
        Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022.
    """

    def __init__(
        self,
        *,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 1.0,
        epsilon: str = "add",
        class_map: Sequence[int | None] | None = None,
        **kwargs: Any,
    ):
        super().__init__(class_map=class_map, **kwargs)
        self.beta = checked_number("beta", beta, "[0, inf)")
        self.gamma = checked_number("gamma", gamma, "[0, inf)")
        self.temperature = checked_temperature(temperature)
        self.epsilon = one_of("epsilon", epsilon, ("add", "clamp"))

    def terms(self, teacher, student, sample_weight=None):
        """`inter` and `intra` of two comparable outputs."""
        p = ops.softmax(teacher / self.temperature, axis=-1)
        q = ops.softmax(student / self.temperature, axis=-1)
        p, q, weight = flat_positions(p, q, sample_weight)
        scale = self.temperature**2
        mean_weight = ops.mean(weight)
        samples = pearson_correlation(q, p, axis=-1, epsilon=self.epsilon)
        classes = pearson_correlation(
            q, p, axis=0, weight=weight[:, None], epsilon=self.epsilon
        )
        return (
            scale * ops.mean(weight * (1.0 - samples)),
            scale * mean_weight * (1.0 - ops.mean(classes)),
        )

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> Any:
        teacher, student = self.comparable(teacher_outputs, student_outputs)
        inter, intra = self.terms(
            *self.together(teacher, student, sample_weight)
        )
        return self.beta * inter + self.gamma * intra

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta": self.beta,
            "gamma": self.gamma,
            "temperature": self.temperature,
            "epsilon": self.epsilon,
        }
