"""DenseNet-BC."""

import keras
import numpy as np
import pytest

import keras_distill as kd


def trainable(model):
    return sum(w.shape.num_elements() for w in model.trainable_weights)


# Table 2 of the paper.
@pytest.mark.slow
@pytest.mark.parametrize(
    "depth, growth, millions",
    [
        (100, 12, "0.8"),
        pytest.param(250, 24, "15.3", marks=pytest.mark.nightly),
        pytest.param(190, 40, "25.6", marks=pytest.mark.nightly),
    ],
)
def test_has_the_weights_of_the_paper(depth, growth, millions):
    model = kd.models.densenet_bc(depth, growth)
    assert f"{trainable(model) / 1e6:.1f}" == millions
    weighted = [
        layer
        for layer in model.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
    ]
    assert len(weighted) == depth


# Table 1 of the born-again paper, and what is near its fourth.
@pytest.mark.slow
@pytest.mark.parametrize(
    "blocks, growth, classes, millions",
    [
        (15, 60, 100, "16.12"),
        (13, 80, 10, "22.41"),
        pytest.param(13, 120, 100, "50.47", marks=pytest.mark.nightly),
        (18, 33, 10, "6.62"),
    ],
)
def test_weights_of_born_again_networks(blocks, growth, classes, millions):
    model = kd.models.densenet_bc(
        blocks=(blocks,) * 3, growth=growth, stem_filters=16, classes=classes
    )
    assert f"{trainable(model) / 1e6:.2f}" == millions


def test_blocks_add_maps_and_transitions_leave_half():
    model = kd.models.densenet_bc(16, 6)
    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert shapes["stem_conv"] == (32, 32, 12)
    assert shapes["stage1_block2"] == (32, 32, 24)
    assert shapes["stage1"] == (32, 32, 12)
    assert shapes["stage2_block1_1_conv"] == (16, 16, 24)
    assert shapes["stage2_block1_2_conv"] == (16, 16, 6)
    assert shapes["stage2"] == (16, 16, 12)
    assert shapes["stage3"] == (8, 8, 24)


def test_blocks_of_each_stage():
    model = kd.models.densenet_bc(blocks=(1, 2), growth=4, stem_filters=6)
    shapes = {layer.name: layer.output.shape[1:] for layer in model.layers}
    assert shapes["stem_conv"] == (32, 32, 6)
    assert shapes["stage1"] == (32, 32, 5)
    assert shapes["stage2"] == (16, 16, 13)
    with pytest.raises(ValueError, match="depth or blocks, not both"):
        kd.models.densenet_bc(16, blocks=(2, 2, 2))


@pytest.mark.parametrize("compression, maps", [(1, 24), (0.3, 7), (0.01, 1)])
def test_compression_is_rounded_down_to_at_least_one_map(compression, maps):
    model = kd.models.densenet_bc(16, 6, compression)
    assert model.get_layer("stage1").output.shape[-1] == maps


def test_a_block_reads_all_maps_before_it():
    model = kd.models.densenet_bc(22, 4, input_shape=(8, 8, 3))
    names = ("stem_conv", *(f"stage1_block{k}" for k in (1, 2, 3)))
    maps = keras.Model(
        model.input, [model.get_layer(name).output for name in names]
    )
    maps = maps(np.random.default_rng(0).normal(size=(2, 8, 8, 3)))
    for before, after in zip(maps, maps[1:]):
        known = before.shape[-1]
        assert after.shape[-1] == known + 4
        np.testing.assert_array_equal(after[..., :known], before)
        assert np.any(after[..., known:])


def test_what_is_added_is_convolved_after_normalization():
    model = kd.models.densenet_bc(10, 4, input_shape=(8, 8, 3))
    names = ("stem_conv", "stage1_block1")
    taps = keras.Model(
        model.input, [model.get_layer(name).output for name in names]
    )
    x, after = taps(np.random.default_rng(0).normal(size=(2, 8, 8, 3)))
    for part in (1, 2):
        # Moving mean 0 and variance 1, scale 1 and shift 0.
        layer = model.get_layer(f"stage1_block1_{part}_bn")
        x = keras.ops.relu(x / np.sqrt(1 + layer.epsilon))
        kernel = model.get_layer(f"stage1_block1_{part}_conv").kernel
        x = keras.ops.conv(x, kernel, padding="same")
    np.testing.assert_allclose(after[..., 8:], x, rtol=1e-4, atol=1e-5)
