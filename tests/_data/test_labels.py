"""Labels as integers, whatever form they have."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_distill._data.labels import class_indices

NUMBERS = np.array([0, 2, 1])


@pytest.mark.parametrize("classes", [3, None])
def test_forms_of_labels(classes):
    one_hot = keras.utils.to_categorical(NUMBERS, 3)
    for y in (
        NUMBERS,
        NUMBERS[:, None].astype("float32"),
        one_hot,
        one_hot.astype(bool),
        tf.cast(one_hot, tf.bfloat16),
    ):
        np.testing.assert_array_equal(
            class_indices(y, classes, "data"), NUMBERS
        )
    np.testing.assert_array_equal(
        class_indices(np.array([True, False]), classes, "data"), [1, 0]
    )
    assert class_indices(None, classes, "data") is None


@pytest.mark.parametrize("classes", [3, None])
@pytest.mark.parametrize(
    "y, message",
    [
        ([[1, 1, 0]], "do not sum to 1"),
        ([[1, np.nan, 0]], "do not sum to 1"),
        ([0.5], "one is 0.5"),
        ([np.nan], "one is nan"),
        ([-1], "data has others, such as -1"),
        ([["0", "1", "0"]], "dtype <U1"),
        (["cat"], "dtype <U3"),
        (np.zeros((2, 3, 3)), r"shape \(2, 3, 3\)"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_labels_that_are_no_classes(classes, y, message):
    with pytest.raises(ValueError, match=message):
        class_indices(np.array(y), classes, "data", "distill")


def test_messages_name_what_is_known():
    with pytest.raises(ValueError, match=r"in \[0, 2\]: the student has 3"):
        class_indices(np.array([3]), 3, "data")
    with pytest.raises(ValueError, match="one-hot rows of 3"):
        class_indices(np.eye(4), 3, "data")
    with pytest.raises(ValueError, match="distill is for .* several tensors"):
        class_indices({"a": NUMBERS}, None, "data", "distill")
