"""What a file computes: preprocessing, the model, an activation.

The file and the student in `verify` use the same function, so "preprocessed"
means the same for both.
"""

import keras
import tensorflow as tf

from keras_distill._data.for_network import for_network
from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.heads import activation_of
from keras_distill._keras.layers import flatten_layers
from keras_distill._shapes import sizes_agree

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
        actual = [
            tuple(tensor.shape)
            for tensor in keras.tree.flatten(
                traced.get_concrete_function(*signature).structured_outputs
            )
        ]
        expected = [
            tuple(tensor.shape)
            for tensor in keras.tree.flatten(symbolic_inputs(self.model))
        ]
        if len(actual) != len(expected) or not all(
            map(sizes_agree, actual, expected)
        ):
            raise ValueError(
                f"`preprocessing` gives {actual}, but the inputs of "
                f"'{self.model.name}' are {expected}."
            )

    def layers(self):
        """Lists all layers that are traced, including layers in layers."""
        layers = flatten_layers(self.model)
        if isinstance(self.preprocessing, keras.layers.Layer):
            layers += flatten_layers(self.preprocessing)
        return layers


def activated(outputs, activation):
    """Applies an activation to each output of a model (`None`: nothing)."""
    if activation is None:
        return outputs
    function = getattr(keras.ops, activation)
    return keras.tree.map_structure(function, outputs)


def check_activation(model, activation):
    """Raises if an activation does not fit a model's outputs.

    Subclassed models, which do not show their outputs, pass.
    """
    if activation is None:
        return
    for output in getattr(model, "outputs", None) or []:
        last = activation_of(output)
        if last is not None:
            raise ValueError(
                f"'{model.name}' ends in a {last} already: `activation="
                f"{activation!r}` would add another one. Leave `activation` "
                "out."
            )
        check_units(model, activation, output.shape)


def check_units(model, activation, shape):
    """Raises for a softmax of one unit, which is always 1."""
    if activation == "softmax" and shape[-1] == 1:
        raise ValueError(
            f"'{model.name}' has an output of one unit: its softmax is always "
            '1. Use activation="sigmoid".'
        )


def student_input(model, x, preprocessing, role="student"):
    """Turns the dataset's `x` into what a network takes in evaluation.

    Args:
        model: The network.
        x: Tensors. uint8 (of a camera) is cast to float32 first.
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
    """Raises unless it can be called on `x`, or is `None`."""
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
