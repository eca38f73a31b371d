"""The wide residual networks."""

import keras
import numpy as np
import pytest

import keras_distill as kd


def trainable(model):
    return sum(w.shape.num_elements() for w in model.trainable_weights)


# Born-again networks, table 1; the last also in the paper's table 5. They are
# the counts of 100 classes: with 10, the published 0.38 would be 0.37.
@pytest.mark.slow
@pytest.mark.parametrize(
    "width, millions, with_10",
    [(1, "0.38", 369_498), (2, "1.48", 1_467_610), (5, "9.16", 9_132_634)],
)
def test_has_the_weights_of_the_paper(width, millions, with_10):
    model = kd.models.wide_resnet(28, width, classes=100)
    assert f"{trainable(model) / 1e6:.2f}" == millions
    features = 64 * width
    assert trainable(model) - 90 * (features + 1) == with_10


@pytest.mark.slow
def test_wrn_28_10():
    model = kd.models.wide_resnet()
    with_10 = trainable(model)
    for weights in (with_10, with_10 + 90 * (640 + 1)):  # 10 and 100 classes
        assert f"{weights / 1e6:.1f}" == "36.5"
    assert model.get_layer("logits").kernel.shape == (640, 10)
    convolutions = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert len(convolutions) == 28


@pytest.mark.slow
def test_dropout_is_between_the_convolutions_and_in_training_only():
    model = kd.models.wide_resnet(16, 1, 0.5, (8, 8, 3), classes=2)
    dropouts = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Dropout)
    ]
    assert [layer.rate for layer in dropouts] == [0.5] * 6
    second = model.get_layer("stage2_block1_2_conv")
    assert second.input is model.get_layer("stage2_block1_dropout").output
    x = np.random.rand(2, 8, 8, 3)
    np.testing.assert_array_equal(model(x), model(x))
    assert np.any(model(x, training=True) != model(x, training=True))
    without = kd.models.wide_resnet(16, 1, 0.0, (8, 8, 3), classes=2)
    assert not any("dropout" in layer.name for layer in without.layers)
    assert trainable(without) == trainable(model)
