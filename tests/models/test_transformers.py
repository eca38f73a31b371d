"""The transformers: padding, causality, taps by name, files."""

import keras
import numpy as np
import pytest
from exporting import exported

import keras_distill as kd

models = kd.models
SIZES = {"length": 6, "width": 8, "depth": 2, "heads": 2}


def classifier(**options):
    keras.utils.set_random_seed(0)
    return models.transformer_classifier(20, 3, **{**SIZES, **options})


def language_model(**options):
    keras.utils.set_random_seed(0)
    return models.transformer_language_model(20, **{**SIZES, **options})


def test_padding_on_either_side_changes_nothing():
    model = classifier()
    right = model(np.array([[4, 7, 9, 0, 0, 0]]))
    left = model(np.array([[0, 4, 7, 0, 9, 0]]))
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
    other = model(np.array([[4, 9, 7, 0, 0, 0]]))
    assert np.abs(np.subtract(other, right)).max() > 1e-4  # Order counts.
    assert np.all(np.isfinite(model(np.zeros((1, 6), "int32"))))


def test_a_token_does_not_see_the_tokens_after_it():
    model = language_model()
    one = model(np.array([[4, 0, 9, 1, 2, 3]]))
    two = model(np.array([[4, 0, 9, 5, 0, 0]]))
    np.testing.assert_allclose(one[:, :3], two[:, :3], rtol=1e-5, atol=1e-6)
    assert np.abs(np.subtract(one[:, 3], two[:, 3])).max() > 1e-4


def test_weights_are_those_of_the_layers():
    # Norms 2 (2 w), attention 4 (w w + w), dense 2 w 4w + 5w; per block.
    block = 4 * 8 + 4 * (8 * 8 + 8) + 2 * 8 * 32 + 32 + 8
    ends = 2 * 8
    assert classifier().count_params() == (
        20 * 8 + 7 * 8 + 2 * block + ends + 8 * 3 + 3
    )
    assert language_model().count_params() == (
        20 * 8 + 6 * 8 + 2 * block + ends + 8 * 20 + 20
    )


@pytest.mark.parametrize("make", [classifier, language_model])
def test_taps_by_name(make):
    names = ["embeddings", "block1", "block2/attention", "logits"]
    taps = kd.taps.Taps(make(), names)
    output, taken = taps(np.array([[4, 7, 9, 1, 0, 0]]))
    assert [tuple(taken[n].shape) for n in names[:3]] == 3 * [(1, 6, 8)]
    np.testing.assert_array_equal(taken["logits"], output)
    expected = [1, 1, 1, 1, 0, 0] if make is classifier else None
    for name in names[:3]:
        mask = getattr(taken[name], "_keras_mask", None)
        assert (mask is None) == (expected is None), name
        if expected:
            np.testing.assert_array_equal(mask[0], expected)


@pytest.mark.parametrize("make", [classifier, language_model])
def test_sizes_that_do_not_fit(make):
    with pytest.raises(ValueError, match="multiple of heads.*width=8, heads=3"):
        make(heads=3)


@pytest.mark.slow
@pytest.mark.parametrize("make", [classifier, language_model])
def test_is_saved_and_exported_with_integer_ids(make, tmp_path):
    model = make()
    ids = np.array([[4, 7, 9, 1, 0, 0], [3, 3, 1, 0, 0, 0]], "int32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(ids), model(ids))
    path = exported(model, tmp_path / "model.tflite")
    file = kd.export.load(path)
    np.testing.assert_allclose(file(ids), model(ids), rtol=1e-4, atol=1e-5)
