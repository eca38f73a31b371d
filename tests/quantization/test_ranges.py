"""The ranges of activations: calibrated, moving, frozen, kept."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_distill as kd
from keras_distill.quantization.ranges import range_layers


def student():
    return keras.Sequential(
        [keras.Input((2,)), layers.Dense(2, use_bias=False), layers.ReLU()]
    )


def bounds(layer):
    return float(layer.minimum), float(layer.maximum)


def test_calibration_takes_the_least_and_the_greatest_value():
    aware = kd.quantization.aware(student())
    x = np.array([[-3.0, 1.0], [2.0, 0.5], [5.0, 0.0]], "float32")
    kd.quantization.calibrate(aware, x)
    assert bounds(range_layers(aware)[0]) == (-3.0, 5.0)
    kd.quantization.calibrate(aware, x[1:], samples=1)  # forgets the first
    assert bounds(range_layers(aware)[0]) == (0.0, 2.0)


def test_no_data_and_no_ranges():
    aware = kd.quantization.aware(student())
    with pytest.raises(ValueError, match="empty"):
        kd.quantization.calibrate(aware, [])
    with pytest.raises(ValueError, match="no ranges"):
        kd.quantization.calibrate(student(), np.zeros((3, 2)))


def test_the_range_follows_the_batches_until_it_is_frozen():
    layer = kd.quantization.FakeQuantize(momentum=0.9)
    layer(np.array([[-1.0, 4.0]]), training=True)  # the first sets it
    assert bounds(layer) == (-1.0, 4.0)
    layer(np.array([[1.0, 2.0]]), training=True)
    np.testing.assert_allclose(bounds(layer), (-0.9, 3.8), rtol=1e-6)
    layer(np.array([[-50.0, 50.0]]), training=False)
    layer.freeze()
    layer(np.array([[-50.0, 50.0]]), training=True)
    np.testing.assert_allclose(bounds(layer), (-0.9, 3.8), rtol=1e-6)


def test_a_shared_range_holds_all_its_parts():
    image = keras.Input((2,))
    parts = layers.Concatenate()([image, layers.Rescaling(10.0)(image)])
    aware = kd.quantization.aware(keras.Model(image, parts))
    x = np.array([[-1.0, 1.0]], "float32")
    for _ in range(20):
        aware(x, training=True)
    shared = [layer for layer in range_layers(aware) if layer.is_shared]
    assert bounds(shared[0]) == pytest.approx((-10.0, 10.0), rel=0.1)


def test_rounding_has_the_integers_of_the_range_and_0_among_them():
    layer = kd.quantization.FakeQuantize(bits=3, value_range=(-1.0, 2.5))
    x = np.linspace(-3.0, 4.0, 200, dtype="float32")
    y = np.unique(np.array(layer(x)))
    np.testing.assert_allclose(y, np.arange(-2, 6) * 0.5, atol=1e-6)


@pytest.mark.parametrize("share, first", [(0.5, 4), (0.0, 0), (1.0, None)])
def test_ranges_are_frozen_after_a_share_of_the_steps(share, first):
    aware = kd.quantization.aware(student())
    frozen = []
    callback = kd.quantization.FreezeRanges(aware, share)
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: frozen.append(
            float(range_layers(aware)[0].momentum) == 1.0
        )
    )
    aware.compile("sgd", "mse")
    aware.fit(
        np.ones((8, 2)),
        np.ones((8, 2)),
        batch_size=2,
        epochs=2,
        callbacks=[callback, watch],
        verbose=0,
    )
    expected = [first is not None and step >= first for step in range(8)]
    assert frozen == expected


def test_saved_and_loaded(tmp_path):
    x = np.random.default_rng(0).normal(size=(16, 2)).astype("float32")
    aware = kd.quantization.aware(student(), weights=4, calibration_data=x)
    aware.save(tmp_path / "aware.keras")
    loaded = keras.models.load_model(tmp_path / "aware.keras")
    np.testing.assert_array_equal(loaded(x), aware(x))
    assert range_layers(loaded)[0].has_range
