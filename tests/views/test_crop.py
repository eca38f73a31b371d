import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_distill.views import crop

AREA, ASPECT = (0.05, 1.0), (3 / 4, 4 / 3)


def boxes(count, shape, area=AREA, aspect=ASPECT, epoch=0):
    key = (0, epoch, tf.range(count))
    return crop.random_boxes(key, shape, area, aspect).numpy()


def test_distribution_is_that_of_rejection_sampling():
    """The same algorithm, one box after another, in NumPy."""
    generator = np.random.default_rng(0)
    expected = []
    while len(expected) < 20_000:
        area, ratio = generator.uniform(*AREA), generator.uniform(*ASPECT)
        wide = np.sqrt(area * ratio * 40 / 60)
        high = np.sqrt(area / ratio * 60 / 40)
        if wide <= 1 and high <= 1:
            y, x = (
                generator.uniform(0, 1 - high),
                generator.uniform(0, 1 - wide),
            )
            expected.append([y, x, y + high, x + wide])
    expected = np.array(expected)
    found = boxes(20_000, (40, 60))
    sides = lambda b: (b[:, 2] - b[:, 0], b[:, 3] - b[:, 1])  # noqa: E731
    for one, other in (
        (sides(found)[0], sides(expected)[0]),
        (sides(found)[1], sides(expected)[1]),
        (found[:, 0], expected[:, 0]),
        (found[:, 1], expected[:, 1]),
        (np.prod(sides(found), 0), np.prod(sides(expected), 0)),
    ):
        assert stats.ks_2samp(one, other).pvalue > 1e-3
    ratio = sides(found)[1] * 60 / (sides(found)[0] * 40)
    assert ratio.min() > 3 / 4 - 1e-3 and ratio.max() < 4 / 3 + 1e-3
    assert found.min() >= -1e-6 and found.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((10, 40), [0, 1 / 3, 1, 2 / 3]),  # the widest allowed: 4 / 3
        ((40, 10), [1 / 3, 0, 2 / 3, 1]),  # the narrowest: 3 / 4
        ((10, 10), [0, 0, 1, 1]),
    ],
)
def test_fallback_is_the_centre(shape, expected):
    # No box with all of the area has another aspect ratio than the image.
    found = boxes(200, shape, area=(1.0, 1.0), aspect=ASPECT)
    centred = np.all(np.isclose(found, expected, atol=1e-6), axis=1)
    assert centred.all()


def test_other_epochs_and_samples_see_other_boxes():
    assert (
        not np.isclose(boxes(50, (32, 32)), boxes(50, (32, 32), epoch=1))
        .any(axis=1)
        .all()
    )
    assert len(np.unique(boxes(50, (32, 32)), axis=0)) == 50


def test_a_flip_mirrors_half_of_the_images():
    images = np.random.uniform(size=(400, 6, 8, 2)).astype("float32")
    whole = crop.centre_boxes(400, 1.0)
    mirrored = crop.flipped(whole, (0, 0, tf.range(400)))
    found = crop.crop_and_resize(images, mirrored, (6, 8)).numpy()
    flips = np.array(
        [np.allclose(a, b[:, ::-1]) for a, b in zip(found, images)]
    )
    same = np.array([np.allclose(a, b) for a, b in zip(found, images)])
    assert (flips ^ same).all()
    assert 150 < flips.sum() < 250


@pytest.mark.parametrize("sizes", [(192, 96), (128, 28), (56, 28), (28, 28)])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_edges_of_a_whole_image_are_read(sizes, compiled):
    old, new = sizes
    ramp = np.linspace(1, 2, old, dtype="float32")
    images = (ramp[:, None] * ramp)[None, ..., None]
    whole = np.array([[0, 0, 1, 1], [1, 1, 0, 0]], "float32")
    found = tf.function(crop.crop_and_resize, jit_compile=compiled)(
        np.repeat(images, 2, axis=0), whole, (new, new), compiled
    )
    ramp = np.linspace(1, 2, new)
    expected = (ramp[:, None] * ramp)[..., None]
    for image, turned in zip(found, (expected, expected[::-1, ::-1])):
        np.testing.assert_allclose(image, turned, atol=2e-3)
    if old == new and not compiled:
        np.testing.assert_array_equal(found[0], images[0])


@pytest.mark.parametrize("size", [(32, 32), (7, 50), (1, 1)])
def test_pixels_are_those_of_keras_cv(size):
    import keras_cv

    images = np.random.uniform(0, 255, (8, 40, 30, 3)).astype("float32")
    found = boxes(8, (40, 30))
    layer = keras_cv.layers.RandomCropAndResize(size, AREA, ASPECT)
    expected = np.stack(
        [
            layer.augment_image(image, transformation=box[None])
            for image, box in zip(images, found)
        ]
    )
    for compiled in (False, True):
        cut = tf.function(
            lambda x, b: crop.crop_and_resize(x, b, size, compiled),
            jit_compile=compiled,
        )
        np.testing.assert_allclose(cut(images, found), expected, atol=0.01)


def test_the_centre():
    np.testing.assert_allclose(
        crop.centre_boxes(2, 0.5), [[0.25, 0.25, 0.75, 0.75]] * 2
    )
