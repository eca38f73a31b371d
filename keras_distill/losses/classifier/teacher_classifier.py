"""The base class of the losses that use the teacher's classifier."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_string
from keras_distill._keras.heads import is_classifier
from keras_distill._keras.heads import output_classifier
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.ops.elementwise import at_least_float32
from keras_distill.losses.ops.elementwise import same_precision
from keras_distill.losses.ops.pooling import adaptive_average_pool
from keras_distill.losses.structures import shapes_of
from keras_distill.losses.values import no_weights
from keras_distill.taps.paths import find_layer
from keras_distill.taps.paths import layer_paths
from keras_distill.taps.places import from_config


def classifier_weights(teacher, layer_name=None):
    """Returns the weights of a teacher's classifier as NumPy arrays.

    Args:
        teacher: A `keras.Model`.
        layer_name: Name or path of a `Dense` layer or a 1x1 convolution.
            `None` for the layer that makes the output.

    Returns:
        `(kernel, bias)` of shapes `(channels, classes)` and `(classes,)`;
        zeros for a layer without bias.

    Raises:
        ValueError: if the teacher has no such layer. Lists those it has.
    """
    if layer_name is None:
        layer = output_classifier(teacher)
        missing = "does not end in a Dense layer that can be seen"
    else:
        layer, _ = find_layer(teacher, layer_name, "teacher")
        missing = f"has no Dense layer '{layer_name}'"
    if layer is None or not is_classifier(layer):
        paths = layer_paths(teacher)
        found = [path for path in paths if is_classifier(paths[path])]
        raise ValueError(
            f"The teacher '{teacher.name}' {missing}. Name its classifier with "
            "teacher_classifier_layer_name=. Its Dense layers and 1x1 "
            f"convolutions are {found[-20:]}."
        )
    kernel = ops.convert_to_numpy(layer.kernel)
    kernel = kernel.reshape(kernel.shape[-2:])
    if layer.bias is None:
        return kernel, np.zeros(kernel.shape[-1:], kernel.dtype)
    return kernel, ops.convert_to_numpy(layer.bias)


class TeacherClassifierLoss(DistillationLoss):
    """Base class: a connector, and the teacher's classifier, frozen.

    `bind` copies the classifier into weights of the loss that are not trained,
    so a saved Distiller evaluates and is deployed without its teacher.

    Subclasses implement `connector_layers(channels)`.

    Args:
        teacher_layer_name: The map that the teacher averages for its
            classifier.
        student_layer_name: The student's last map.
        teacher_classifier_layer_name: The teacher's classifier. Defaults to
            the layer that makes its output.
        classes: Number of the teacher's classes. `bind` finds it; the
            configuration keeps it so that a saved loss can be built.
        **kwargs: See `DistillationLoss`.
    """

    needs_teacher = "trained"
    compares_classes = True
    layer_arguments = {
        "teacher": ("teacher_layer_name", "teacher_classifier_layer_name"),
        "student": ("student_layer_name",),
    }

    def __init__(
        self,
        *,
        teacher_layer_name: str | Sequence[str],
        student_layer_name: str | Sequence[str],
        teacher_classifier_layer_name: str | None = None,
        classes: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            teacher_layer_name=teacher_layer_name,
            student_layer_name=student_layer_name,
            **kwargs,
        )
        for argument in ("teacher_layer_name", "student_layer_name"):
            if not isinstance(getattr(self, argument), str):
                raise ValueError(
                    f"{type(self).__name__} needs one feature map per network: "
                    f"{argument} must be a layer name. Received: "
                    f"{getattr(self, argument)!r}"
                )
        self.teacher_classifier_layer_name = checked_string(
            "teacher_classifier_layer_name",
            from_config(teacher_classifier_layer_name),
            or_none=True,
        )
        self.classes = checked_integer("classes", classes, or_none=True)
        self._copied = None

    def connector_layers(self, channels):
        """Returns layers that give the student's map `channels` channels."""
        raise NotImplementedError

    def bind(self, teacher: keras.Model | None, student: keras.Model) -> None:
        if teacher is not None:
            self.set_classifier(
                *classifier_weights(teacher, self.teacher_classifier_layer_name)
            )
        elif self._copied is None and not self.built:
            raise ValueError(no_weights(self, "classifier"))

    def set_classifier(self, kernel, bias):
        """Copies a classifier: `(channels, classes)` and `(classes,)`."""
        kernel, bias = np.array(kernel), np.array(bias)
        self.classes = int(kernel.shape[-1])
        self._copied = kernel, bias
        if self.built:
            self._check_channels(self.classifier_kernel.shape[0])
            self.classifier_kernel.assign(kernel)
            self.classifier_bias.assign(bias)

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        self._check_maps(tuple(teacher_shape), tuple(student_shape))
        channels = teacher_shape[-1]
        self._check_channels(channels)
        self.map_size = [
            _smaller(*sizes)
            for sizes in zip(teacher_shape[1:3], student_shape[1:3])
        ]
        self.connector = keras.Sequential(
            self.connector_layers(channels),
            name="connector",
        )
        self.connector.build((None, *self.map_size, student_shape[-1]))
        self.classifier_kernel = self.add_weight(
            name="classifier_kernel",
            shape=(channels, self.classes),
            initializer="glorot_uniform",
            trainable=False,
        )
        self.classifier_bias = self.add_weight(
            name="classifier_bias",
            shape=(self.classes,),
            initializer="zeros",
            trainable=False,
        )
        if self._copied is not None:
            kernel, bias = self._copied
            self.classifier_kernel.assign(kernel)
            self.classifier_bias.assign(bias)

    def connect(self, student_outputs, training=False):
        """Returns the student's map in the teacher's size and channels."""
        return self.connector(self.pooled(student_outputs), training=training)

    def pooled(self, features):
        """Averages a map down to the smaller of the two sizes."""
        return adaptive_average_pool(at_least_float32(features), *self.map_size)

    def classify(self, features):
        """Computes the teacher's logits from `(batch, channels)`."""
        features, kernel, bias = same_precision(
            features,
            ops.convert_to_tensor(self.classifier_kernel),
            ops.convert_to_tensor(self.classifier_bias),
        )
        return ops.matmul(features, kernel) + bias

    def features(self, teacher_outputs, student_outputs, connected=None):
        """Returns both maps with equal size and channels."""
        if not self.built:
            self.build(shapes_of(teacher_outputs), shapes_of(student_outputs))
        if connected is None:
            connected = self.connect(student_outputs, training=True)
        teacher, student = same_precision(
            self.pooled(teacher_outputs), connected
        )
        return ops.stop_gradient(teacher), student

    def _check_maps(self, teacher, student):
        problem = None
        if len(teacher) != 4 or len(student) != 4:
            problem = "both must be maps (batch, height, width, channels)"
        elif None in (teacher[-1], student[-1]):
            problem = "the number of channels must be known"
        elif any((t is None) != (s is None) for t, s in zip(teacher, student)):
            problem = "a size is known for one of the two only"
        if problem:
            raise ValueError(
                f"{type(self).__name__} cannot join these features: {problem}. "
                f"Received: teacher {teacher}, student {student}. Name the "
                "last map before the pooling with teacher_layer_name= and "
                "student_layer_name=."
            )

    def _check_channels(self, channels):
        if self.classes is None:
            raise ValueError(
                f"{type(self).__name__} does not know the teacher's classifier "
                "yet. It is copied in `bind(teacher, student)`, which "
                "kd.Distiller calls; or give it: loss.set_classifier(kernel, "
                "bias)."
            )
        if self._copied is not None and len(self._copied[0]) != channels:
            raise ValueError(
                f"The teacher's classifier reads {len(self._copied[0])} "
                f"features, but its map '{self.teacher_layer_name}' has "
                f"{channels} channels. Expected the map that the teacher "
                "averages for its classifier: choose teacher_layer_name= and "
                "teacher_classifier_layer_name= accordingly."
            )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "teacher_classifier_layer_name": self._name_to_save(
                "teacher_classifier_layer_name"
            ),
            "classes": self.classes,
        }


def mean_square(a, b):
    """Mean over the last axis of `(a - b)^2`."""
    return ops.mean(ops.square(a - b), axis=-1)


def _smaller(a, b):
    """The smaller of two sizes, or `None` if both are unknown."""
    return None if a is None else min(a, b)
