"""The scale of the images that a teacher expects."""

import keras
import numpy as np
import pytest

import keras_distill as kd
from keras_distill.teachers.input_scale import input_scaling
from keras_distill.teachers.input_scale import scale_of_layers

SCALES = ["[0, 255]", "[0, 1]", "[-1, 1]", "ImageNet"]
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 4, 200)
X = np.clip(
    RNG.normal(40 + 60 * Y[:, None, None, None], 5, (200, 6, 6, 3)), 0, 255
).astype("uint8")


def teacher_for(scale, size=6):
    """A network that tells classes by their brightness in a scale."""
    steps = 40.0 + 60.0 * np.arange(4.0)[:, None, None, None]
    levels = keras.ops.convert_to_numpy(
        input_scaling(scale)(steps * np.ones((4, 1, 1, 3)))
    ).reshape(4, 3)
    inputs = keras.Input((size, size, 3))
    mean = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = keras.layers.Dense(4)(mean)
    model = keras.Model(inputs, outputs)
    # The nearest level: -|x - l|^2 up to |x|^2.
    bias = -(levels**2).sum(axis=-1)
    model.set_weights([2 * levels.T, bias])
    return model


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [6, 8])
def test_accuracies_tell_the_scale(scale, size):
    found, accuracies = kd.teachers.best_input_scale(
        teacher_for(scale, size), X, Y
    )
    assert found == scale
    assert list(accuracies) == SCALES and accuracies[scale] > 0.95


@pytest.mark.parametrize("scale", SCALES)
def test_grey_images_for_a_teacher_of_three_channels(scale):
    grey = X[..., :1]
    assert kd.teachers.best_input_scale(teacher_for(scale), grey, Y)[0] == scale


def test_images_sorted_by_class():
    x, y = (np.repeat(a[np.argsort(Y)], 20, axis=0) for a in (X, Y))
    found = kd.teachers.best_input_scale(teacher_for("[0, 1]"), x, y)
    assert found.name == "[0, 1]"


def test_classes_are_mapped():
    teacher = teacher_for("[0, 1]")
    order = [2, 0, 3, 1]
    y = np.argsort(order)[Y]
    found = kd.teachers.best_input_scale(teacher, X, y, class_map=order)
    assert found.name == "[0, 1]"


@pytest.mark.parametrize(
    "layer, scale",
    [
        (keras.layers.Rescaling(1 / 255), "[0, 255]"),
        (keras.layers.Rescaling(1.0, [-103.9, -116.8, -123.7]), "[0, 255]"),
        (keras.layers.Rescaling(2.0, -1.0), "[0, 1]"),
        (keras.layers.Normalization(mean=120.0, variance=900.0), "[0, 255]"),
        (keras.layers.Normalization(mean=0.5, variance=0.1), "[0, 1]"),
    ],
)
@pytest.mark.parametrize("labels", [None, np.zeros(200, int)])
def test_layers_tell_where_accuracies_do_not(layer, scale, labels):
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.GlobalAveragePooling2D()(layer(inputs))
    teacher = keras.Model(inputs, keras.layers.Dense(4)(x))
    assert kd.teachers.best_input_scale(teacher, X, labels).name == scale


def test_nothing_tells():
    teacher = teacher_for("[0, 1]")
    with pytest.raises(ValueError, match="no labels were given"):
        kd.teachers.best_input_scale(teacher, X)
    shuffled = np.random.default_rng(1).permutation(Y)
    with pytest.raises(ValueError, match="the accuracies.*do not tell"):
        kd.teachers.best_input_scale(teacher, X, shuffled)
    # Too few images say nothing.
    with pytest.raises(ValueError, match="the accuracies.*do not tell"):
        kd.teachers.best_input_scale(teacher, X[:5], Y[:5])


@pytest.mark.parametrize(
    "scale, offset, takes",
    [(1 / 255, 0.0, "[0, 255]"), (2.0, -1.0, "[0, 1]")],
)
def test_a_scaling_layer_is_not_always_one_for_bytes(scale, offset, takes):
    """`kd.distill` puts a layer before a student that takes [0, 1]."""
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Rescaling(scale, offset)]
    )
    assert scale_of_layers(model) == takes
