"""Losses that read a layer of a network find it by the rules of the taps."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_distill as kd
from keras_distill.losses.classifier.teacher_classifier import (
    classifier_weights,
)


class Block(layers.Layer):
    """A user's layer with layers inside."""

    def __init__(self, name):
        super().__init__(name=name)
        self.norm = layers.BatchNormalization(name="norm")
        self.head = layers.Dense(3, name="head")

    def call(self, x):
        return self.head(self.norm(x))


def network(*names):
    x = inputs = keras.Input((4, 4, 3))
    for name in names:
        x = Block(name)(x)
    return keras.Model(inputs, x)


def margin_of(teacher, name):
    loss = kd.losses.OverhauledFeature(
        teacher_layer_name=name, student_layer_name="any"
    )
    loss.bind(teacher, None)
    loss.build((None, 4, 4, 3), (None, 4, 4, 3))
    return np.array(loss.margins[0])


def activation_is_checked(teacher, name):
    kd.losses.SoftTargets(teacher_layer_name=name).bind(teacher, network("any"))


READERS = {
    "norm": margin_of,
    "head": classifier_weights,
    "head#0": activation_is_checked,
}


@pytest.mark.parametrize("name, read", READERS.items(), ids=READERS)
def test_a_name_that_two_layers_have_is_an_error(name, read):
    message = f"2 layers named '{name[:4]}'.*'first/{name[:4]}', 'second/"
    with pytest.raises(ValueError, match=message):
        read(network("first", "second"), name)


def test_layers_inside_a_layer_are_found():
    teacher = network("first", "second")
    margin_of(teacher, "second/norm")
    activation_is_checked(teacher, "first/head")
    kernel, _ = classifier_weights(teacher, "second/head")
    second = teacher.get_layer("second").head
    np.testing.assert_array_equal(kernel, second.kernel)


def test_an_activation_inside_a_layer_is_found():
    teacher = network("first")
    teacher.get_layer("first").head.activation = keras.activations.softmax
    with pytest.raises(ValueError, match="'head' of.* ends in a softmax"):
        activation_is_checked(teacher, "head")
