from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_number
from keras_distill.losses.classifier.teacher_classifier import (
    TeacherClassifierLoss,
)
from keras_distill.losses.classifier.teacher_classifier import mean_square
from keras_distill.losses.connectors import conv_bn_relu
from keras_distill.losses.ops.reductions import weighted_mean


@keras.saving.register_keras_serializable(package="keras_distill")
class SoftmaxRegression(TeacherClassifierLoss):
    """Passes the student's features through the teacher's own classifier.

        z = relu(BN(conv1x1(student)))
        m_t, m_s = means of teacher and z over height and width
        loss = feature_weight * mean (m_s - m_t)^2
             + logit_weight * mean (W m_s + b - W m_t - b)^2

    (SRRL.) `W`, `b` are the teacher's classifier, copied and frozen. The means
    are over batch and channels, and over batch and classes. Like the authors'
    code, the loss compares logits rather than their softmax. The student keeps
    its own head, which learns from the labels and ships: the paper's objective
    is `kd.Distiller(alpha=0.5)`, up to the factor 2.

    Args:
        teacher_layer_name: The map that the teacher averages for its
            classifier, after its ReLU.
        student_layer_name: The student's last map.
        teacher_classifier_layer_name: The teacher's classifier, a `Dense` or a
            1x1 convolution. Defaults to the one that makes its output.
        feature_weight: Weight of the difference of the averaged features.
            Defaults to 1, as in the authors' code.
        logit_weight: Weight of the difference of the logits. Defaults to 1, as
            in the authors' code.
        classes: Set by the loss. See `TeacherClassifierLoss`.
        name: Defaults to `"softmax_regression"`.
        dtype: dtype of connector and classifier. Defaults to `"float32"`.

    Input shapes:
        Maps `(batch, height, width, channels)`; sizes and channels may differ.
        `sample_weight`: `(batch,)`; the batch normalization ignores it.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments out of range; in `bind`, if the teacher has
            no such classifier; in `build`, for features that are not maps or
            do not fit the classifier.

    Example:

    ```python
    loss = kd.losses.SoftmaxRegression(
        teacher_layer_name="conv2", student_layer_name="conv2"
    )
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=loss
    )
    loss.classifier_kernel.shape  # channels and classes of the teacher
    ```

    Reference:
        Yang et al., "Knowledge Distillation via Softmax Regression
        Representation Learning", 2021.
    """

    def __init__(
        self,
        *,
        feature_weight: float = 1.0,
        logit_weight: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.feature_weight = checked_number(
            "feature_weight", feature_weight, "[0, inf)"
        )
        self.logit_weight = checked_number(
            "logit_weight", logit_weight, "[0, inf)"
        )

    def connector_layers(self, channels):
        return conv_bn_relu(channels, 1, self.dtype)

    def pooled(self, features):
        # Only the means over positions are compared.
        return features

    def terms(self, teacher_outputs, student_outputs, sample_weight=None):
        """The difference of the averaged features, and that of the logits."""
        teacher, student = self.features(teacher_outputs, student_outputs)
        teacher = ops.mean(teacher, axis=(1, 2))
        student = ops.mean(student, axis=(1, 2))
        logits = self.classify(teacher), self.classify(student)
        return (
            weighted_mean(mean_square(student, teacher), sample_weight),
            weighted_mean(mean_square(*logits), sample_weight),
        )

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
    ) -> Any:
        features, logits = self.terms(
            teacher_outputs, student_outputs, sample_weight
        )
        return self.feature_weight * features + self.logit_weight * logits

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "feature_weight": self.feature_weight,
            "logit_weight": self.logit_weight,
        }
