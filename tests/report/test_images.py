"""Arrays as pictures."""

import base64
import re

import numpy as np
import pytest
import tensorflow as tf

from keras_distill.report.images import are_images
from keras_distill.report.images import picture
from keras_distill.report.images import to_bytes


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 8, 8, 1), True),
        ((2, 8, 8, 3), True),
        ((2, 8, 8, 4), False),
        ((2, 8, 8), False),  # could be a sequence
        ((2, 8), False),
        ((2, 1, 8, 1), False),
    ],
)
def test_what_is_an_image(shape, expected):
    assert are_images(np.zeros(shape)) == expected
    assert not are_images({"image": np.zeros((2, 8, 8, 1))})


@pytest.mark.parametrize(
    ("values", "expected", "words"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255], None),
        ([0.0, 100.0, 255.0], [0, 100, 255], None),
        ([-1.0, 0.0, 1.0], [0, 128, 255], "-1 is black"),
        ([-2.0, 0.0, 2.0], [0, 128, 255], "-2 is black, 2 is white"),
        ([0.0, np.nan, 1.0], [0, 0, 255], None),
    ],
)
def test_every_range_of_values(values, expected, words):
    images = np.reshape(values, (1, 3, 1, 1))
    made, found = to_bytes(images)
    assert made.reshape(-1).tolist() == expected
    assert (found or "").startswith(words or "")
    assert (words is None) == (found is None)


def test_bytes_are_kept_even_if_dark():
    images = np.array([0, 1], "uint8").reshape(1, 1, 2, 1)
    made, words = to_bytes(images)
    assert made is images and words is None


@pytest.mark.parametrize("channels", [1, 3])
def test_the_file_holds_the_pixels(channels):
    image = np.random.default_rng(0).integers(0, 256, (8, 6, channels))
    image = image.astype("uint8")
    made = picture(image, "a <digit>")
    assert 'alt="a &lt;digit&gt;"' in made
    assert 'class="pixels"' in made
    (code,) = re.findall(r'base64,([^"]*)"', made)
    decoded = tf.io.decode_png(base64.b64decode(code)).numpy()
    np.testing.assert_array_equal(decoded, image)


def test_large_images_are_made_smaller():
    made = picture(np.full((300, 600, 3), 7, "uint8"), "large")
    assert 'width="128" height="64"' in made and "pixels" not in made
    (code,) = re.findall(r'base64,([^"]*)"', made)
    decoded = tf.io.decode_png(base64.b64decode(code)).numpy()
    assert decoded.shape == (64, 128, 3) and (decoded == 7).all()
