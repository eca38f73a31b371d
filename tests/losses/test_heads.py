"""The look at a model's last activation, and at the numbers it gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_distill._keras.heads import final_activation
from keras_distill._keras.heads import layer_activation
from keras_distill.losses.values import look_like_probabilities
from keras_distill.losses.values import may_be_probabilities
from keras_distill.taps.paths import find_layer


class Subclassed(keras.Model):
    def call(self, x):
        return keras.ops.softmax(x)


def functional(*stack):
    """A Functional model of layers or functions, in order."""
    x = inputs = keras.Input((6,))
    for layer in stack:
        x = layer(x)
    return keras.Model(inputs, x)


def dense(activation=None, **kwargs):
    return layers.Dense(4, activation=activation, **kwargs)


def linear():
    return layers.Activation("linear", dtype="float32")


def called_twice():
    cast = linear()
    cast(keras.Input((3,)))
    return functional(dense("softmax"), cast)


def gated():
    x = keras.Input((6,))
    gate = layers.Multiply()([dense("softmax")(x), dense()(x)])
    return keras.Model(x, gate)


def two_outputs():
    x = keras.Input((6,))
    return keras.Model(x, [dense("softmax")(x), dense("softmax")(x)])


def second_of_two_outputs():
    x = keras.Input((6,))
    inner = keras.Model(x, [dense("softmax")(x), dense("sigmoid")(x)])
    return keras.Model(x, inner(x)[1])


def sequence(layer):
    return keras.Sequential([keras.Input((3, 6)), layer])


HEADS = {
    "dense": (lambda: functional(dense("softmax")), "softmax"),
    "sigmoid": (lambda: functional(dense("sigmoid")), "sigmoid"),
    "softmax layer": (
        lambda: functional(dense(), layers.Softmax()),
        "softmax",
    ),
    "activation layer": (
        lambda: functional(dense(), layers.Activation("sigmoid")),
        "sigmoid",
    ),
    "operation": (lambda: functional(dense(), keras.ops.softmax), "softmax"),
    "function": (
        lambda: functional(dense(), keras.activations.sigmoid),
        "sigmoid",
    ),
    "of another library": (
        lambda: functional(dense(tf.nn.softmax)),
        "softmax",
    ),
    "layer as activation": (
        lambda: functional(dense(layers.Softmax())),
        "softmax",
    ),
    "cast": (
        lambda: functional(dense("softmax"), linear(), layers.Identity()),
        "softmax",
    ),
    "cast operation": (
        lambda: functional(
            dense("softmax"), lambda x: keras.ops.cast(x, "float16")
        ),
        "softmax",
    ),
    "reshape": (
        lambda: functional(
            dense("softmax"),
            layers.Dropout(0.1),
            layers.Reshape((2, 2)),
            layers.Flatten(),
        ),
        "softmax",
    ),
    "nested": (
        lambda: functional(functional(functional(dense("softmax"))), linear()),
        "softmax",
    ),
    "nested, second output": (second_of_two_outputs, "sigmoid"),
    "nested sequential": (
        lambda: functional(
            keras.Sequential([keras.Input((6,)), dense("sigmoid")])
        ),
        "sigmoid",
    ),
    "called twice": (called_twice, "softmax"),
    "unbuilt": (
        lambda: keras.Sequential([dense(), layers.Softmax(), linear()]),
        "softmax",
    ),
    "unbuilt, nested": (
        lambda: keras.Sequential([keras.Sequential([dense("softmax")])]),
        "softmax",
    ),
    "time steps": (
        lambda: sequence(layers.TimeDistributed(dense("softmax"))),
        "softmax",
    ),
    "logits": (lambda: functional(dense()), None),
    "unbuilt logits": (lambda: keras.Sequential([dense()]), None),
    "softmax, then dense": (
        lambda: functional(dense("softmax"), dense()),
        None,
    ),
    "cast logits": (lambda: functional(dense(), linear()), None),
    "relu": (lambda: functional(dense("relu")), None),
    "log softmax": (lambda: functional(dense("log_softmax")), None),
    "gate": (gated, None),
    "recurrent": (lambda: sequence(layers.GRU(4, activation="sigmoid")), None),
    "two outputs": (two_outputs, None),
    "subclassed": (Subclassed, None),
    "no model": (lambda: "model", None),
}


@pytest.mark.parametrize("make, expected", HEADS.values(), ids=HEADS)
def test_final_activation(make, expected):
    assert final_activation(make()) == expected


def test_final_activation_of_a_layer():
    x = keras.Input((6,))
    head = dense("softmax", name="head")
    inner = keras.Model(x, layers.Identity(name="out")(head(x)), name="inner")
    cast = layers.Activation("linear", name="cast")
    before = cast(x)
    after = cast(inner(x))
    outer = keras.Model(x, layers.Concatenate()([before, after]))
    for name in ("inner", "inner/head", "inner/out", "out", "cast#1"):
        found = layer_activation(*find_layer(outer, name))
        assert found == "softmax", name
    for name in ("cast", "cast#0"):
        assert layer_activation(*find_layer(outer, name)) is None, name
    for name in ("nowhere", "inner/nowhere", "nowhere/out"):
        with pytest.raises(ValueError, match="no layer"):
            find_layer(outer, name)


def test_look_like_probabilities():
    assert look_like_probabilities(np.array([[0.2, 0.8]]), "softmax")
    assert not look_like_probabilities(np.array([[0.2, 0.7]]), "softmax")
    assert not look_like_probabilities(np.array([[-0.2, 1.2]]), "softmax")
    assert not look_like_probabilities(np.array([[1.0]]), "softmax")
    units = np.full((16, 2), 0.7)
    assert look_like_probabilities(units, "sigmoid")
    units[3, 1] = 1.7
    assert not look_like_probabilities(units, "sigmoid")
    assert not may_be_probabilities(units, "sigmoid")


@pytest.mark.parametrize("size", [1, 8, 31])
def test_a_small_batch_of_logits_is_not_called_probabilities(size):
    values = np.full((size, 1), 0.5)
    assert may_be_probabilities(values, "sigmoid")
    assert not look_like_probabilities(values, "sigmoid")
    assert look_like_probabilities(np.full((32, 1), 0.5), "sigmoid")
