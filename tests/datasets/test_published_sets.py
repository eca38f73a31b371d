"""The data sets of the function matching paper, on made-up images."""

import sys

import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd
from keras_distill.datasets.published_sets import SOURCES

CLASSES = {
    "flowers102": 102,
    "pets": 37,
    "food101": 101,
    "sun397": 397,
    "imagenet2012": 1000,
}
# Training, validation and test of the paper.
SPLITS = {
    "flowers102": ["train", "validation", "test"],
    "pets": ["train[:90%]", "train[90%:]", "test"],
    "food101": ["train[:90%]", "train[90%:]", "validation"],
    "sun397": ["train", "validation", "test"],
    "imagenet2012": ["train[:98%]", "train[99%:]", "validation"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_batches_of_all_parts(name, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    asked = []
    load = tfds.load

    def recorded(name, split, **kwargs):
        asked.append((name, split))
        return load(name, split=split, **kwargs)

    monkeypatch.setattr(tfds, "load", recorded)
    with tfds.testing.mock_data(num_examples=5):
        data = kd.datasets.published(name, 20, batch_size=2)
        x, y = next(iter(data.train))
        again = next(iter(kd.datasets.published(name, 20, batch_size=2).train))
        (x_test, y_test), *others = data.test
    assert x.shape == (2, 20, 20, 3) and x.dtype == tf.float32
    assert 0 <= np.min(x) and np.max(x) <= 1 and np.max(x) > 0.1
    assert y.dtype == tf.float32 and y.shape == (2, CLASSES[name])
    np.testing.assert_array_equal(np.sum(y, axis=1), 1)
    np.testing.assert_array_equal(x, again[0])
    # A model without an input layer is built from this.
    assert data.train.element_spec[0].shape == (2, 20, 20, 3)
    assert data.train.cardinality() == tf.data.INFINITE_CARDINALITY
    assert x_test.shape == (2, 20, 20, 3) and y_test.shape == y.shape
    assert [len(label) for _, label in others] == [2, 1]
    source = SOURCES[name]
    assert asked[:3] == [(source.builder, split) for split in SPLITS[name]]
    with tfds.testing.mock_data(num_examples=1):
        info = tfds.builder(source.builder).info
    assert info.features["label"].num_classes == data.classes == CLASSES[name]


@pytest.mark.slow
def test_the_centre_is_that_of_the_resized_image(monkeypatch):
    # 64 x 128: the shorter side becomes 40 for 32, and 32 in the middle stay.
    image = np.zeros((64, 128, 3), "uint8")
    image[:, 64:] = 255
    file = tf.io.encode_png(image)
    files = tf.data.Dataset.from_tensors((file, 1))
    monkeypatch.setattr(
        kd.datasets.published.__module__ + "._files", lambda *_: files
    )
    data = kd.datasets.published("pets", 32, batch_size=1)
    x, _ = next(iter(data.test))
    assert x.shape == (1, 32, 32, 3)
    np.testing.assert_allclose(x[0, :, :15], 0)
    np.testing.assert_allclose(x[0, :, 17:], 1, rtol=1e-5)
    # Crops differ, and keep what is left and right.
    crops = [x for x, _ in data.train.take(20)]
    shares = {round(float(tf.reduce_mean(crop)), 3) for crop in crops}
    assert len(shares) > 5
    for crop in crops:
        assert np.all(np.diff(crop[0, 0, :, 0]) >= -1e-6)


def test_evaluation_takes_the_mean_over_areas(monkeypatch):
    # One column of four is white. 160 columns become 40, 32 of which stay.
    image = np.zeros((160, 160, 3), "uint8")
    image[:, ::4] = 255
    files = tf.data.Dataset.from_tensors((tf.io.encode_png(image), 1))
    monkeypatch.setattr(
        kd.datasets.published.__module__ + "._files", lambda *_: files
    )
    data = kd.datasets.published("pets", 32, batch_size=1)
    x, _ = next(iter(data.test))
    np.testing.assert_allclose(x, 0.25, atol=1e-6)


def test_without_tensorflow_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install"):
        kd.datasets.published("pets")


def test_another_name_and_a_wrong_size():
    with pytest.raises(ValueError, match="name.*'flowers102'.*'flower'"):
        kd.datasets.published("flower")
    with pytest.raises(ValueError, match="image_size"):
        kd.datasets.published("pets", 0)
