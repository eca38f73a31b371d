"""What a file computes: preprocessing, the model, an activation.

The same function goes into the file and before the student in `verify`, so
that both mean the same by "preprocessed".
"""

import keras
import tensorflow as tf

from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.heads import activation_of
from keras_distill._shapes import sizes_agree
from keras_distill.views import for_network

ACTIVATIONS = (None, "softmax", "sigmoid")


class Network:
    """The function that is converted, on TensorFlow's tensors.

    Args:
        model: A built `keras.Model`.
        preprocessing: As in `kd.export.tflite`, or `None`.
        activation: One of `ACTIVATIONS`.
    """

    def __init__(self, model, preprocessing=None, activation=None):
        self.model = model
        self.preprocessing = preprocessing
        self.activation = activation

    def __call__(self, *inputs):
        if self.preprocessing is None:
            outputs = self.model(*inputs, training=False)
        else:
            outputs = self.model(self._preprocessed(*inputs), training=False)
        return activated(outputs, self.activation)

    def _preprocessed(self, *inputs):
        x = inputs[0] if len(inputs) == 1 else list(inputs)
        return student_input(self.model, x, self.preprocessing)

    def check_shapes(self, signature):
        """Raises if the preprocessing does not give what the model takes."""
        if self.preprocessing is None or not getattr(
            self.model, "inputs", None
        ):
            return
        traced = tf.function(self._preprocessed, autograph=False)
        given = [
            tuple(tensor.shape)
            for tensor in keras.tree.flatten(
                traced.get_concrete_function(*signature).structured_outputs
            )
        ]
        wanted = [
            tuple(tensor.shape)
            for tensor in keras.tree.flatten(symbolic_inputs(self.model))
        ]
        fits = len(given) == len(wanted) and all(
            map(sizes_agree, given, wanted)
        )
        if not fits:
            raise ValueError(
                f"`preprocessing` gives {given}, but the inputs of "
                f"'{self.model.name}' are {wanted}."
            )

    def layers(self):
        """All layers that are traced, also those inside of layers."""
        layers = list(self.model._flatten_layers())
        if isinstance(self.preprocessing, keras.layers.Layer):
            layers += self.preprocessing._flatten_layers()
        return layers


def activated(outputs, activation):
    """Outputs of a model, each with the activation (`None`: as they are)."""
    if activation is None:
        return outputs
    function = getattr(keras.ops, activation)
    return keras.tree.map_structure(function, outputs)


def check_activation(model, activation):
    """Raises if an activation does not fit behind a model's outputs.

    What is not to be seen (subclassed models) passes.
    """
    if activation is None:
        return
    for output in getattr(model, "outputs", None) or []:
        found = activation_of(output)
        if found is not None:
            raise ValueError(
                f"'{model.name}' ends in a {found} already: `activation="
                f"{activation!r}` would put another one behind it. Leave "
                "`activation` out."
            )
        check_units(model, activation, output.shape)


def check_units(model, activation, shape):
    """Raises for a softmax over one unit, which is always 1."""
    if activation == "softmax" and shape[-1] == 1:
        raise ValueError(
            f"'{model.name}' has an output of one unit: its softmax is always "
            '1. Use activation="sigmoid".'
        )


def student_input(model, x, preprocessing, role="student"):
    """The dataset's `x` as a network takes it in evaluation.

    Args:
        model: The network.
        x: Tensors. uint8 (a camera's) is cast to float32 first.
        preprocessing: A view (`evaluation`, `teacher_evaluation`), a Keras
            layer or model, a function, or `None`.
        role: `"student"` or `"teacher"`.
    """
    if preprocessing is not None:
        name = "teacher_evaluation" if role == "teacher" else "evaluation"
        x = keras.tree.map_structure(_as_float, x)
        if hasattr(preprocessing, name):
            x = getattr(preprocessing, name)(x)
        elif isinstance(preprocessing, keras.layers.Layer):
            x = preprocessing(x, training=False)
        else:
            x = preprocessing(x)
    return for_network(model, x, role)


def check_preprocessing(preprocessing):
    """Raises unless this can be called on `x`, or is `None`."""
    if preprocessing is None or hasattr(preprocessing, "evaluation"):
        return
    if not callable(preprocessing):
        raise TypeError(
            "`preprocessing` must be a kd.views.Views, a Keras layer or model, "
            f"or a function of x. Received: {preprocessing!r} of type "
            f"{type(preprocessing).__name__}"
        )


def _as_float(x):
    return tf.cast(x, tf.float32) if x.dtype == tf.uint8 else x
