from typing import Any

import keras

from keras_distill._arguments import checked_integer
from keras_distill.losses.classifier.deployed_classifier import (
    DeployedClassifierLoss,
)
from keras_distill.losses.classifier.teacher_classifier import mean_square
from keras_distill.losses.ops.reductions import weighted_mean


@keras.saving.register_keras_serializable(package="keras_distill")
class ReusedClassifier(DeployedClassifierLoss):
    """Fits the student's features to the teacher's, and ships its classifier.

        z = connector(student)
        loss = mean over all elements of (z - teacher)^2
        deployed logits = W mean_hw(z) + b

    (SimKD.) The connector is conv1x1 - conv3x3 - conv1x1, each with batch
    normalization and ReLU; `W`, `b` are the teacher's classifier, copied and
    frozen. It needs no labels.

    `evaluate`, `predict` and `export` use what is trained: trunk + connector +
    classifier, `distiller.deployable_student()`. The student's own head is not
    trained. The paper trains with this loss alone: `kd.Distiller(alpha=1)`.

    If two maps differ in size, the larger is averaged down to the smaller.

    Cost: 7 % of the student's forward and backward pass, measured on a
    ResNet-20 (docs/losses.md).

    Args:
        teacher_layer_name: The map that the teacher averages for its
            classifier, after its ReLU.
        student_layer_name: The student's last map.
        teacher_classifier_layer_name: The teacher's classifier, a `Dense` or a
            1x1 convolution. Defaults to the one that makes its output.
        reduction: The connector's bottleneck has `channels / reduction`
            channels. Defaults to 2, as in the authors' code.
        classes: Set by the loss. See `TeacherClassifierLoss`.
        name: Defaults to `"reused_classifier"`.
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
    loss = kd.losses.ReusedClassifier(
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
        Chen et al., "Knowledge Distillation with the Reused Teacher
        Classifier", 2022.
    """

    def __init__(self, *, reduction: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.reduction = checked_integer("reduction", reduction)

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        y: Any = None,
        sample_weight: Any = None,
        sample_index: Any = None,
        connected: Any = None,
    ) -> Any:
        teacher, student = self.features(
            teacher_outputs, student_outputs, connected
        )
        return weighted_mean(mean_square(student, teacher), sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reduction": self.reduction}
