from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_temperature
from keras_distill.losses.ops.labels import hard_labels
from keras_distill.losses.ops.labels import labelled
from keras_distill.losses.ops.probabilities import kl_divergence
from keras_distill.losses.ops.probabilities import log_probabilities
from keras_distill.losses.ops.reductions import weighted_mean
from keras_distill.losses.response.base import ResponseLoss

# Takes a class out of a softmax. Finite, because infinity minus infinity is not
# a number.
NO_LOGIT = -1e30


def decoupled_divergences(teacher, student, target, temperature=1.0):
    """Splits the KL divergence of soft targets into its two parts.

        target:      T^2 [p_y log(p_y / q_y)
                          + (1 - p_y) log((1 - p_y) / (1 - q_y))]
        non-target:  T^2 sum_{c != y} p'_c log(p'_c / q'_c)

    with `p = softmax(teacher / T)`, `p'` the softmax over the classes other
    than `y`, and `q`, `q'` the student's. The whole divergence is
    `target + (1 - p_y) * non-target`.

    Args:
        teacher: Logits `(batch, ..., classes)`.
        student: Logits of the same shape and dtype.
        target: One-hot labels of that shape.
        temperature: T.

    Returns:
        Both parts, `(batch, ...)`.
    """
    log_p, rest_p = _target_and_rest(teacher / temperature, target)
    log_q, rest_q = _target_and_rest(student / temperature, target)
    scale = temperature**2
    return (
        scale * kl_divergence(ops.exp(log_p), log_p, log_q),
        scale * kl_divergence(ops.exp(rest_p), rest_p, rest_q),
    )


def _target_and_rest(logits, target):
    """Log-probabilities `[y, not y]`, and those among the other classes."""
    others = ops.where(target > 0.5, NO_LOGIT, logits)
    # log p_y = log sigmoid(margin): log(1 - p_y) keeps all its digits if p_y
    # rounds to 1.
    margin = ops.sum(target * logits, axis=-1) - ops.logsumexp(others, axis=-1)
    binary = ops.stack(
        [ops.log_sigmoid(margin), ops.log_sigmoid(-margin)], axis=-1
    )
    return binary, log_probabilities(others)


@keras.saving.register_keras_serializable(package="keras_distill")
class DecoupledKD(ResponseLoss):
    """Weights the true class and the other classes separately.

        l = alpha * TCKD + beta * NCKD
        TCKD = T^2 KL([p_y, 1 - p_y] || [q_y, 1 - q_y])
        NCKD = T^2 KL(p' || q')
        loss = sum(weight * l) / number of positions

    `p = softmax(teacher / T)`, `q = softmax(student / T)`, `y` the label, and
    `p'`, `q'` the softmax over the classes other than `y`. In the ordinary
    divergence (`SoftTargets`), NCKD has the weight `1 - p_y`: the surer the
    teacher, the less the student learns from the other classes. Here it is
    `beta`.

    The authors' code adds this to the cross-entropy with weight 1 each and
    raises it linearly over the first 20 epochs. Use a schedule of
    `kd.Distiller(alpha=...)` for that.

    Args:
        alpha: Weight of TCKD, >= 0. Defaults to 1, as in all of the paper's
            experiments. Not the `alpha` of the Distiller.
        beta: Weight of NCKD, >= 0. Defaults to 8, for CIFAR-100 in the
            authors' code (0.5 for ImageNet); the surer the teacher, the more.
        temperature: T, a positive number. Defaults to 4, for CIFAR-100 in the
            authors' code (1 for ImageNet).
        class_map: List of the teacher's class index of each student class.
        teacher_layer_name: The teacher's logits. Defaults to its output.
        student_layer_name: The student's logits. Defaults to its output.
        name: Defaults to `"decoupled_kd"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Teacher `(batch, ..., teacher_classes)`, student `(batch, ...,
        classes)`, any float dtype. `y`: sparse `(batch, ...)` or one-hot
        `(batch, ..., classes)`, of mixed labels the largest counts.
        `sample_weight`: `(batch,)` or one weight per position.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for weights below 0; without labels or for labels of
            another shape; in `bind`, for a head that ends in a softmax or
            sigmoid; in `build`, if classes or positions differ.

    Example:

    ```python
    loss = kd.losses.DecoupledKD(alpha=1.0, beta=2.0, temperature=1.0)
    teacher = np.array([[2.0, 0.0, 1.0], [0.0, 4.0, 0.0]], "float32")
    student = np.zeros((2, 3), "float32")
    loss.compute_loss(teacher, student, y=np.array([0, 1]))  # 0.686
    ```

    Reference:
        Zhao et al., "Decoupled Knowledge Distillation", 2022.
    """

    needs_labels = True

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        class_map: Sequence[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(class_map=class_map, **kwargs)
        self.alpha = checked_number("alpha", alpha, "[0, inf)")
        self.beta = checked_number("beta", beta, "[0, inf)")
        self.temperature = checked_temperature(temperature)

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> Any:
        teacher, student = self.comparable(teacher_outputs, student_outputs)
        target = hard_labels(y, student, type(self).__name__)
        target_part, other_part = decoupled_divergences(
            teacher, student, target, self.temperature
        )
        values = self.alpha * target_part + self.beta * other_part
        return weighted_mean(values * labelled(target), sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "temperature": self.temperature,
        }
