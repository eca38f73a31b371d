"""Networks of keras.applications in int8: two steps, a file of integers."""

import keras
import numpy as np
import pytest

import keras_distill as kd

SIDE = 96


def network(name):
    arguments = {
        "input_shape": (SIDE, SIDE, 3),
        "weights": None,
        "classes": 10,
        "classifier_activation": None,
    }
    if name == "MobileNetV2":
        arguments["alpha"] = 0.35
    return getattr(keras.applications, name)(**arguments)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("MobileNetV3Small", marks=pytest.mark.nightly),
        pytest.param("MobileNetV2", marks=pytest.mark.nightly),
        pytest.param("EfficientNetV2B0", marks=pytest.mark.weekly),
    ],
)
def test_it_is_trained_and_every_operator_is_integer(name, tmp_path):
    keras.utils.set_random_seed(0)
    student = network(name)
    images = np.random.default_rng(0).uniform(size=(8, SIDE, SIDE, 3))
    images = 255.0 * images.astype("float32")
    if name == "MobileNetV2":  # The others rescale themselves.
        images = images / 127.5 - 1.0
    for layer in student.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    # Without statistics, activations of random weights vanish.
    student(images, training=True)
    aware = kd.quantization.fine_tune(
        student, images, epochs=2, learning_rate=1e-5, verbose=0
    )
    path = kd.export.tflite(
        aware, tmp_path / "aware.tflite", quantization="int8", verbose=False
    )
    # Random weights of so many layers magnify each rounding, so that outputs
    # say little; what is in the file does not depend on that.
    row = kd.export.verify(
        path, aware, images, measure_memory=False, latency_runs=0, verbose=False
    ).rows[1]
    assert row["integer_throughout"]
    for equal, number in row["equal_kernels"], row["equal_ranges"]:
        assert equal == number > 10
