from typing import Any

import keras
from keras import ops

from keras_distill._arguments import one_of
from keras_distill.losses.ops.labels import label_distribution
from keras_distill.losses.ops.labels import labelled
from keras_distill.losses.ops.probabilities import cross_entropy
from keras_distill.losses.ops.probabilities import log_probabilities
from keras_distill.losses.ops.reductions import flat_positions
from keras_distill.losses.relation.coupled import BatchCoupled
from keras_distill.losses.response.born_again import GRADIENT_PARTS
from keras_distill.losses.response.born_again import BornAgainLoss
from keras_distill.losses.response.born_again import gradient_parts


def confidence_weights(log_confidence, sample_weight=None):
    """Confidences as weights that sum to 1 over all positions of a batch.

        w_b = s_b exp(log_confidence_b) / sum_u s_u exp(log_confidence_u)

    Takes logarithms, because confidences that underflow still have ratios.

    Args:
        log_confidence: `(positions,)`.
        sample_weight: `s`, `(positions,)` numbers >= 0, or `None` for 1.

    Returns:
        `(positions,)`; zeros if all of `s` are 0.
    """
    if sample_weight is None:
        sample_weight = ops.ones_like(log_confidence)
    # Without those that do not count, whose confidence may be the largest.
    log_confidence = ops.where(sample_weight > 0.0, log_confidence, -1e30)
    largest = ops.max(log_confidence)
    confidence = sample_weight * ops.exp(log_confidence - largest)
    return ops.divide_no_nan(confidence, ops.sum(confidence))


@keras.saving.register_keras_serializable(package="keras_distill")
class ConfidenceWeightedByTeacherMax(BatchCoupled, BornAgainLoss):
    """Cross-entropy with the labels, weighted by the teacher's confidence.

        p = softmax(teacher)
        w_b = c_b / sum_u c_u,   c_b = max_k p_bk     confidence="max"
                                 c_b = p_b,y          confidence="true_class"
        loss = sum_b w_b (-log softmax(student)_b,y)

    (CWTM.) The teacher says how much a sample counts, and nothing about the
    other classes: distillation without dark knowledge. The weights sum to 1
    over the batch, or over all positions of sequences and maps.

    `sample_weight` says how often a sample counts in these sums; the loss is
    multiplied by the mean weight.

    Args:
        confidence: `"max"`, the paper's experiment, or `"true_class"`, the
            probability of the label, which is the weight of this gradient in
            distillation. Defaults to `"max"`.
        cross_replica: Weigh the samples of all replicas against each other.
            Defaults to `False`.
        log_gradient_parts: Also log the sizes of the two parts of the gradient
            by the student's logits (see `gradient_parts`):
            `<name>_correct_class` and `<name>_dark_knowledge`. Defaults to
            `False`.
        class_map: List of the teacher's class index of each student class.
        teacher_layer_name: The teacher's logits. Defaults to its output.
        student_layer_name: The student's logits. Defaults to its output.
        name: Defaults to `"confidence_weighted_by_teacher_max"`.
        dtype: See `DistillationLoss`. This loss has no weights.

    Input shapes:
        Teacher `(batch, ..., teacher_classes)`, student `(batch, ...,
        classes)`, any float dtype. `y`: sparse `(batch, ...)`, or one-hot or
        mixed `(batch, ..., classes)`. `sample_weight`: `(batch,)` or one
        weight per position; a weight of 0 leaves a position out.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for an unknown `confidence`; without labels or for labels
            of another shape; in `bind`, for a head that ends in a softmax or
            sigmoid; in `build`, if classes or positions differ.

    Example:

    ```python
    loss = kd.losses.ConfidenceWeightedByTeacherMax()
    teacher = np.array([[9.0, 0.0], [0.0, 0.0]], "float32")
    student = np.array([[0.0, 0.0], [0.0, 3.0]], "float32")
    loss.compute_loss(teacher, student, y=np.array([0, 1]))  # 0.478
    ```

    Reference:
        Furlanello et al., "Born-Again Neural Networks", 2018, section 3.2.
    """

    needs_labels = True

    def __init__(self, *, confidence: str = "max", **kwargs: Any):
        super().__init__(**kwargs)
        self.confidence = one_of(
            "confidence", confidence, ("max", "true_class")
        )

    def log_confidence(self, teacher, labels):
        """Computes `log c` from logits and one-hot labels, `(...)`."""
        log_p = log_probabilities(teacher)
        if self.confidence == "max":
            return ops.max(log_p, axis=-1)
        return ops.sum(labels * log_p, axis=-1)

    def compute_loss_and_logs(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> tuple[Any, dict[str, Any]]:
        teacher, student = self.comparable(teacher_outputs, student_outputs)
        labels = label_distribution(y, student, type(self).__name__)
        teacher, student, labels, weight = flat_positions(
            *self.together(teacher, student, labels, sample_weight)
        )
        weight = weight * labelled(labels)
        shares = confidence_weights(
            self.log_confidence(teacher, labels), weight
        )
        shares = shares * ops.mean(weight)
        values = cross_entropy(labels, log_probabilities(student))
        logs = {}
        if self.log_gradient_parts:
            parts = gradient_parts(labels, student, labels)
            parts = [ops.sum(shares * part) for part in parts]
            logs = dict(zip(GRADIENT_PARTS, parts))
        return ops.sum(shares * values), logs

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "confidence": self.confidence}
