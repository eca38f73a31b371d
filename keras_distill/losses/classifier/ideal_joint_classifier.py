from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill.losses.classifier.deployed_classifier import (
    DeployedClassifierLoss,
)
from keras_distill.losses.classifier.teacher_classifier import mean_square
from keras_distill.losses.ops.elementwise import at_least_float32
from keras_distill.losses.ops.labels import label_distribution
from keras_distill.losses.ops.probabilities import cross_entropy
from keras_distill.losses.ops.probabilities import log_probabilities
from keras_distill.losses.ops.reductions import weighted_mean


@keras.saving.register_keras_serializable(package="keras_distill")
class IdealJointClassifier(DeployedClassifierLoss):
    """Trains the student's features for the teacher's frozen classifier.

        z = connector(student)
        l_s = W mean_hw(z) + b,   l_t = W mean_hw(teacher) + b
        loss = cross_entropy_weight * mean -log softmax(l_s)_y
             + logit_weight * mean (l_s - l_t)^2
             + feature_weight * mean (z - teacher)^2
        deployed logits = l_s

    (IJCKD.) The connector is conv1x1 - conv3x3 - conv1x1, each with batch
    normalization and ReLU; `W`, `b` are the teacher's classifier, copied and
    frozen. The means are over batch and classes, and over all elements of the
    map.

    The three terms lower a bound on the student's error, which docs/losses.md
    explains and `kd.metrics.JointClassifierGap` measures.

    `evaluate`, `predict` and `export` use what is trained: trunk + connector +
    classifier, `distiller.deployable_student()`. The student's own head is not
    trained. The paper's objective is `kd.Distiller(alpha=1)`.

    If two maps differ in size, the larger is averaged down to the smaller.

    Cost: 8 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        teacher_layer_name: The map that the teacher averages for its
            classifier, after its ReLU.
        student_layer_name: The student's last map.
        teacher_classifier_layer_name: The teacher's classifier, a `Dense` or a
            1x1 convolution. Defaults to the one that makes its output.
        cross_entropy_weight: Defaults to 1, as in the authors' code. At 0 no
            labels are needed.
        logit_weight: Defaults to 1, as in the authors' code.
        feature_weight: Defaults to 1, as in the authors' code.
        reduction: The connector's bottleneck has `channels / reduction`
            channels. Defaults to 2, as in the authors' code.
        classes: Set by the loss. See `TeacherClassifierLoss`.
        name: Defaults to `"ideal_joint_classifier"`.
        dtype: dtype of connector and classifier. Defaults to `"float32"`.

    Input shapes:
        Maps `(batch, height, width, channels)`; sizes and channels may differ.
        `y`: sparse `(batch,)`, or one-hot or mixed `(batch, classes)`.
        `sample_weight`: `(batch,)`; the batch normalization ignores it.

    Returns:
        `compute_loss`: a scalar, float32, or float64 if an input is.

    Raises:
        ValueError: for arguments out of range; in `bind`, if the teacher has
            no such classifier; in `build`, for features that are not maps or
            do not fit the classifier; for missing or misshaped labels.

    Example:

    ```python
    loss = kd.losses.IdealJointClassifier(
        teacher_layer_name="conv2", student_layer_name="conv2"
    )
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=loss, alpha=1.0
    )
    distiller.compile(optimizer="adam", metrics=["accuracy"])
    distiller.fit(dataset, verbose=0)
    distiller.deployable_student().output_shape  # the teacher's classes
    ```

    Reference:
        Li et al., "Knowledge Distillation Under Ideal Joint Classifier
        Assumption", 2024.
    """

    def __init__(
        self,
        *,
        cross_entropy_weight: float = 1.0,
        logit_weight: float = 1.0,
        feature_weight: float = 1.0,
        reduction: int = 2,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.cross_entropy_weight = checked_number(
            "cross_entropy_weight", cross_entropy_weight, "[0, inf)"
        )
        self.logit_weight = checked_number(
            "logit_weight", logit_weight, "[0, inf)"
        )
        self.feature_weight = checked_number(
            "feature_weight", feature_weight, "[0, inf)"
        )
        self.reduction = checked_integer("reduction", reduction)
        self.needs_labels = self.cross_entropy_weight > 0.0

    def terms(
        self,
        teacher_outputs,
        student_outputs,
        y=None,
        sample_weight=None,
        connected=None,
    ):
        """Cross-entropy, logit and feature terms of two maps."""
        teacher, student = self.features(
            teacher_outputs, student_outputs, connected
        )
        features = mean_square(student, teacher)
        # Of its own map: windows that overlap would change the mean.
        own = ops.stop_gradient(at_least_float32(teacher_outputs))
        teacher_logits = self.classify(ops.mean(own, axis=(1, 2)))
        logits = self.classify(ops.mean(student, axis=(1, 2)))
        errors = ops.zeros_like(logits[:, 0])
        if self.needs_labels:
            labels = label_distribution(y, logits, type(self).__name__)
            errors = cross_entropy(labels, log_probabilities(logits))
        return [
            weighted_mean(values, sample_weight)
            for values in (
                errors,
                mean_square(logits, teacher_logits),
                features,
            )
        ]

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
        connected: Any = None,
    ) -> Any:
        errors, logits, features = self.terms(
            teacher_outputs, student_outputs, y, sample_weight, connected
        )
        return (
            self.cross_entropy_weight * errors
            + self.logit_weight * logits
            + self.feature_weight * features
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "cross_entropy_weight": self.cross_entropy_weight,
            "logit_weight": self.logit_weight,
            "feature_weight": self.feature_weight,
            "reduction": self.reduction,
        }
