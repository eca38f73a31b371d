"""The residual networks for CIFAR."""

import keras
import numpy as np
import pytest

import keras_distill as kd


def trainable(model):
    return sum(w.shape.num_elements() for w in model.trainable_weights)


# Table 6 of the paper, in millions.
@pytest.mark.slow
@pytest.mark.parametrize(
    "depth, millions",
    [
        (20, 0.27),
        pytest.param(32, 0.46, marks=pytest.mark.nightly),
        pytest.param(44, 0.66, marks=pytest.mark.nightly),
        pytest.param(56, 0.85, marks=pytest.mark.nightly),
    ],
)
def test_has_the_weights_of_the_paper(depth, millions):
    model = kd.models.cifar_resnet(depth)
    assert round(trainable(model) / 1e6, 2) == millions
    weighted = [
        layer
        for layer in model.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
    ]
    assert len(weighted) == depth


def test_shortcuts_take_every_other_pixel_and_add_no_weights():
    model = kd.models.cifar_resnet(8, (8, 8, 3))
    # With all convolutions at 0, what is left are the shortcuts.
    for layer in model.layers:
        if "block" in layer.name and isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    taps = keras.Model(
        model.input, [model.get_layer(n).output for n in ("stem", "stage3")]
    )
    stem, stage3 = (np.asarray(t) for t in taps(np.random.rand(2, 8, 8, 3)))
    np.testing.assert_allclose(stage3[..., 24:40], stem[:, ::4, ::4])
    assert not stage3[..., :24].any() and not stage3[..., 40:].any()


@pytest.mark.slow
def test_stage_ends_are_what_is_suggested():
    teacher, student = kd.models.cifar_resnet(20), kd.models.cifar_resnet(8)
    suggestion = kd.taps.suggest(teacher, student)
    ends = ["stage1", "stage2", "stage3"]
    assert suggestion.teacher_layer_names == ends
    assert suggestion.student_layer_names == ends


def test_is_saved_and_loaded(tmp_path):
    model = kd.models.cifar_resnet(8, (16, 16, 1), classes=3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.rand(2, 16, 16, 1)
    np.testing.assert_array_equal(model(x), loaded(x))
    assert model(x).shape == (2, 3)


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_refuses_other_depths(depth):
    with pytest.raises(ValueError, match="6 n"):
        kd.models.cifar_resnet(depth)


@pytest.mark.slow
def test_free_blocks():
    model = kd.models.cifar_resnet(blocks=(1, 3))
    assert model.name == "cifar_resnet_1_3"
    shapes = [model.get_layer(f"stage{k}").output.shape for k in (1, 2)]
    assert [shape[1:] for shape in shapes] == [(32, 32, 16), (16, 16, 32)]
    adds = [n.name for n in model.layers if isinstance(n, keras.layers.Add)]
    assert adds == [
        "stage1_block1_add",
        *(f"stage2_block{block}_add" for block in (1, 2, 3)),
    ]
    same = kd.models.cifar_resnet(blocks=(2, 2, 2), name="same")
    assert trainable(same) == trainable(kd.models.cifar_resnet(14))
    assert kd.models.cifar_resnet().name == "cifar_resnet20"
