from typing import Any

from keras import layers
from keras import ops

from keras_distill.losses.classifier.teacher_classifier import (
    TeacherClassifierLoss,
)
from keras_distill.losses.connectors import conv_bn_relu


class DeployedClassifierLoss(TeacherClassifierLoss):
    """A loss whose student ships as trunk + connector + teacher's classifier.

    `kd.Distiller` uses `deployed_logits` instead of the student's output.
    """

    def connector_layers(self, channels):
        hidden = max(1, channels // self.reduction)
        return [
            *conv_bn_relu(hidden, 1, self.dtype),
            *conv_bn_relu(hidden, 3, self.dtype),
            *conv_bn_relu(channels, 1, self.dtype),
        ]

    def deployed_logits(
        self,
        student_outputs: Any,
        training: bool = False,
        connected: Any = None,
    ) -> Any:
        """Computes the logits that ship.

        Args:
            student_outputs: The student's tap.
            training: Whether the connector normalizes by the batch.
            connected: The result of `connect`, if it was called before. The
                connector then runs once per step.
        """
        if connected is None:
            connected = self.connect(student_outputs, training)
        return self.classify(ops.mean(connected, axis=(1, 2)))

    def deployed_graph(self, student_outputs: Any) -> Any:
        """Does the same on a symbolic tensor, with Keras layers only."""
        x = self.connector(self.pooled(student_outputs))
        x = layers.GlobalAveragePooling2D(
            data_format="channels_last", dtype=self.dtype
        )(x)
        classifier = layers.Dense(
            self.classes, name="teacher_classifier", dtype=self.dtype
        )
        x = classifier(x)
        classifier.set_weights(
            [
                ops.convert_to_numpy(self.classifier_kernel),
                ops.convert_to_numpy(self.classifier_bias),
            ]
        )
        return x
