"""The pre-activation residual networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd


def weights(model, kind=keras.layers.Layer):
    return sum(
        w.shape.num_elements()
        for layer in model.layers
        if isinstance(layer, kind)
        for w in layer.trainable_weights
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "depth, bottleneck",
    [(110, False), pytest.param(164, True, marks=pytest.mark.nightly)],
)
def test_has_the_weights_of_the_paper(depth, bottleneck):
    model = kd.models.preactivation_resnet(depth, bottleneck=bottleneck)
    assert f"{weights(model) / 1e6:.1f}" == "1.7"
    weighted = [
        layer
        for layer in model.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
        and "shortcut" not in layer.name
    ]
    assert len(weighted) == depth


@pytest.mark.nightly
def test_resnet_1001_has_10_2_million_without_the_normalization():
    model = kd.models.preactivation_resnet(1001, bottleneck=True)
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    assert f"{weights(model, kinds) / 1e6:.1f}" == "10.2"
    assert f"{weights(model) / 1e6:.1f}" == "10.3"


def by_hand(model, x, prefix):
    """A unit, from the names of its layers."""

    def normalized(x, part):
        layer = model.get_layer(f"{prefix}_{part}_bn")
        x = (x - layer.moving_mean) / tf.sqrt(
            layer.moving_variance + layer.epsilon
        )
        return tf.nn.relu(x * layer.gamma + layer.beta)

    def convolved(x, name, strides=1):
        kernel = model.get_layer(f"{prefix}_{name}").kernel
        return tf.nn.conv2d(x, kernel, strides, "SAME")

    names = {layer.name for layer in model.layers}
    strides = model.get_layer(f"{prefix}_1_conv").strides
    y = normalized(x, 1)
    if f"{prefix}_shortcut" in names:
        x = convolved(y, "shortcut", strides)
    y = convolved(y, "1_conv", strides)
    for part in (2, 3):
        if f"{prefix}_{part}_conv" in names:
            y = convolved(normalized(y, part), f"{part}_conv")
    return x + y


@pytest.mark.parametrize("bottleneck", [False, True])
def test_units_are_those_of_the_paper(bottleneck):
    model = kd.models.preactivation_resnet(
        blocks=(1, 2),
        filters=(8, 8, 12),
        bottleneck=bottleneck,
        input_shape=(8, 8, 3),
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(
            rng.uniform(0.1, 0.5, weight.shape) - 0.2 * (len(weight.shape) > 1)
        )
    ends = ("stem_conv", "stage1", "stage2_block1_add", "stage2")
    maps = keras.Model(
        model.input, [model.get_layer(end).output for end in ends]
    )
    maps = maps(rng.normal(size=(2, 8, 8, 3)).astype("float32"))
    prefixes = ("stage1_block1", "stage2_block1", "stage2_block2")
    for prefix, before, after in zip(prefixes, maps, maps[1:]):
        expected = by_hand(model, before, prefix)
        np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)
    assert maps[-1].shape == (2, 4, 4, 12)


def test_the_shortcut_is_free():
    model = kd.models.preactivation_resnet(blocks=(3,), input_shape=(8, 8, 3))
    for layer in model.layers:
        if layer.name.endswith("_2_conv"):
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    taps = keras.Model(
        model.input,
        [model.get_layer(name).output for name in ("stem_conv", "stage1")],
    )
    stem, stage1 = (np.asarray(t) for t in taps(np.random.rand(2, 8, 8, 3)))
    np.testing.assert_array_equal(stage1, stem)
    assert stem.min() < 0  # nothing rectifies what the shortcut adds


def test_free_blocks_and_filters():
    model = kd.models.preactivation_resnet(blocks=(1, 3, 2, 1))
    assert model.name == "preactivation_resnet_1_3_2_1"
    shapes = [model.get_layer(f"stage{k}").output.shape for k in (1, 2, 3, 4)]
    assert [shape[1:] for shape in shapes] == [
        (32, 32, 16),
        (16, 16, 32),
        (8, 8, 64),
        (4, 4, 128),
    ]
    names = {layer.name for layer in model.layers}
    assert {"stage2_block2_add", "stage3_block1_add"} <= names
    assert not {"stage2_block3_add", "stage3_block2_add"} & names


@pytest.mark.slow
def test_first_and_last_layer_of_a_densenet_fit():
    dense = kd.models.densenet_bc(22, 8)
    ends = [dense.get_layer(f"stage{k}").output.shape[-1] for k in (1, 2, 3)]
    model = kd.models.preactivation_resnet(
        blocks=(1, 1, 1), filters=(16, *ends)
    )
    for name in ("stem_conv", "logits"):
        model.get_layer(name).set_weights(dense.get_layer(name).get_weights())
