from keras import layers
from keras import ops

from keras_distill.losses.classifier.teacher_classifier import (
    TeacherClassifierLoss,
)
from keras_distill.losses.connectors import conv_bn_relu


class DeployedClassifierLoss(TeacherClassifierLoss):
    """A loss whose student ships as trunk + connector + teacher's classifier.

    `kd.Distiller` asks for `deployed_logits`, and takes them in the place of
    the student's output.
    """

    def connector_layers(self, channels):
        hidden = max(1, channels // self.reduction)
        return [
            *conv_bn_relu(hidden, 1, self.dtype),
            *conv_bn_relu(hidden, 3, self.dtype),
            *conv_bn_relu(channels, 1, self.dtype),
        ]

    def deployed_logits(self, student_outputs, training=False, connected=None):
        """What ships: the teacher's classifier on the student's map.

        Args:
            student_outputs: The student's tap.
            training: Whether the connector normalizes by the batch.
            connected: What `connect` gave for it, if that was called before:
                the connector then runs once per step.
        """
        if connected is None:
            connected = self.connect(student_outputs, training)
        return self.classify(ops.mean(connected, axis=(1, 2)))

    def deployed_graph(self, student_outputs):
        """The same on a symbolic tensor, of plain Keras layers only."""
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
