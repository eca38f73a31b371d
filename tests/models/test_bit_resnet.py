"""BiT R50x1."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd


@pytest.fixture(scope="module")
def model():
    return kd.models.bit_resnet50((64, 64, 3))


@pytest.mark.slow
def test_has_the_weights_of_the_paper(model):
    assert model.count_params() == 25_549_352
    convolutions = [
        layer
        for layer in model.layers
        if isinstance(layer, kd.models.StandardizedConv2D)
    ]
    # 49 on the way (with the head: 50) and one in each stage's shortcut.
    assert len(convolutions) == 49 + 4


@pytest.mark.slow
def test_stages_have_the_sizes_of_a_resnet50(model):
    shapes = [model.get_layer(f"stage{n}").output.shape for n in (1, 2, 3, 4)]
    assert [shape[1:] for shape in shapes] == [
        (16, 16, 256),
        (8, 8, 512),
        (4, 4, 1024),
        (2, 2, 2048),
    ]


def test_kernels_are_standardized_when_used():
    layer = kd.models.StandardizedConv2D(2, 1, use_bias=False)
    layer.build((None, 1, 1, 3))
    kernel = np.array([[1.0, 5.0], [2.0, 5.0], [6.0, 8.0]], "float32")
    layer.kernel.assign(kernel[None, None])
    used = layer(np.eye(3)[:, None, None, :])[:, 0, 0]
    expected = (kernel - kernel.mean(0)) / kernel.std(0)
    np.testing.assert_allclose(used, expected, rtol=1e-5)
    np.testing.assert_array_equal(layer.kernel, kernel[None, None])


def test_pools_like_a_padded_window_of_3(model):
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype("float32")
    pools = [model.get_layer(name) for name in ("stem_pool", "stem")]
    got = pools[1](pools[0](x))
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-9e9)
    expected = tf.nn.max_pool2d(padded, 3, 2, "VALID")
    np.testing.assert_array_equal(got, expected)


@pytest.mark.slow
def test_does_not_depend_on_the_batch_nor_on_training(model):
    x = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3))
    maps = keras.Model(model.input, model.get_layer("stage4").output)
    together = maps(x, training=True)
    alone = maps(x[:1], training=False)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-2, atol=1e-2)
    # The head begins at 0.
    assert not np.any(model(x))


def test_is_saved_and_loaded(tmp_path):
    layer = kd.models.StandardizedConv2D(4, 3)
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.rand(1, 8, 8, 3)
    np.testing.assert_array_equal(model(x), loaded(x))
