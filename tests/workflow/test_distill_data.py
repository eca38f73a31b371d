"""The images of a run: their labels, their folders, their memory."""

import math
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import data

from keras_distill.workflow import data as images


def folder(path, *classes):
    """Writes one image for each class, or one without a class."""
    for name in classes or ("",):
        (path / name).mkdir(parents=True)
        keras.utils.save_img(path / name / "0.png", np.zeros((8, 8, 3)))
    return str(path)


def read(source, argument, class_names=None):
    return images.read(
        source,
        argument,
        image_size=8,
        channels=3,
        class_names=class_names,
        directory=None,
    )


def test_columns_of_one_hot_labels_are_classes():
    x, y = data(40)
    one_hot = keras.utils.to_categorical(y, 6)
    several = tf.data.Dataset.from_tensor_slices((x, one_hot)).batch(16)
    for given in (x, one_hot), several:
        source = images.in_memory(given, "data")
        np.testing.assert_array_equal(np.sort(source.y), np.sort(y))
        assert source.classes == 6
        assert images.divided(source, None, None, 0).classes == 6
    plain = images.in_memory((x, y), "data")
    assert images.divided(plain, None, None, 0).classes is None
    assert images.divided(plain, source, None, 0).classes == 6


def test_names_of_a_dataset_of_a_directory(tmp_path):
    first, second = (
        images.in_memory(
            keras.utils.image_dataset_from_directory(
                folder(tmp_path / classes, *classes),
                image_size=(8, 8),
                verbose=False,
            ),
            "data",
        )
        for classes in ("ba", "ac")
    )
    assert first.class_names == ["a", "b"]
    assert images.divided(first, first, None, 0).class_names == ["a", "b"]
    with pytest.raises(ValueError, match=r"\['a', 'b'\].*\['a', 'c'\]"):
        images.divided(first, second, None, 0)


@pytest.mark.parametrize("wrong", [np.full(32, 0.5), np.ones((32, 2))])
def test_labels_that_are_no_classes(wrong):
    x, _ = data(32)
    with pytest.raises(ValueError, match="distill is for one class per sample"):
        images.in_memory((x, wrong), "validation_data")


def test_sample_weights_are_refused():
    x, y = data(32)
    weighted = x, y, np.ones(32)
    batches = tf.data.Dataset.from_tensor_slices(weighted).batch(8)
    for given in weighted, batches:
        with pytest.raises(ValueError, match=r"data must be x or \(x, y\)"):
            images.in_memory(given, "data")
    assert images.in_memory((x,), "data").y is None


def test_without_meminfo_there_is_no_bound(monkeypatch):
    assert 0 < images._memory() < math.inf
    monkeypatch.setattr(pathlib.Path, "exists", lambda path: False)
    assert images._memory() == math.inf


@pytest.mark.parametrize(
    "classes, message",
    [
        ((), "validation_data has no labels"),
        (("cat",), "^validation_data=.* one class only[^`]*$"),
        (("cat", "dogs"), "must have the classes of data.*'dogs' is 'dog'"),
        (("train", "test"), "^The folders of validation_data are splits"),
    ],
)
def test_folders_that_do_not_fit(tmp_path, classes, message):
    path = folder(tmp_path / "images", *classes)
    with pytest.raises(ValueError, match=message) as raised:
        read(path, "validation_data", ["cat", "dog"])
    assert "class_names" not in str(raised.value)


def test_a_folder_that_does_not_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_memory", lambda: 100)
    with pytest.raises(ValueError, match="half of the free memory.*image_size"):
        read(folder(tmp_path, "cat", "dog"), "data")


def test_a_folder_of_one_class(tmp_path):
    path = folder(tmp_path / "images", "cat")
    with pytest.raises(ValueError, match="^data=.*Images without labels: give"):
        read(path, "data")
    assert read(f"{path}/cat", "data").y is None
