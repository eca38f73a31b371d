"""One iterator over everything that `fit` accepts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd
from keras_distill._data import sources
from keras_distill.diagnosis.data import Data

COUNT = 70
X = np.arange(COUNT, dtype="float32")[:, None]
Y = np.arange(COUNT, dtype="int32")


def dataset():
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(32)


class Sequence(keras.utils.PyDataset):
    num_batches = 3

    def __getitem__(self, index):
        part = slice(32 * index, 32 * index + 32)
        return X[part], Y[part]


DATA = {
    "dataset": dataset,
    "PyDataset": Sequence,
    "arrays": lambda: (X, Y),
    "tensors": lambda: (tf.constant(X), tf.constant(Y)),
    "list": lambda: list(dataset()),
    "function": lambda: dataset,
    "generator": lambda: (batch for batch in dataset()),
}


@pytest.mark.parametrize("kind", DATA)
def test_every_kind_gives_the_same_batches(kind):
    found = list(sources.batches(DATA[kind](), "dataset"))
    assert [len(y) for _, y in found] == [32, 32, 6]
    for part, expected in zip(zip(*found), (X, Y)):
        assert all(type(array) is np.ndarray for array in part)
        np.testing.assert_array_equal(np.concatenate(part), expected)


def test_arrays_alone_weights_and_several_inputs():
    inputs = {"a": X, "b": X + 1}
    for data, last in (
        (X, X[64:]),
        (inputs, {"a": X[64:], "b": X[64:] + 1}),
        (([X, X], Y, Y), ([X[64:], X[64:]], Y[64:], Y[64:])),
        ((X, None), (X[64:], None)),
    ):
        *_, batch = sources.iterate(data, "dataset")
        keras.tree.map_structure(np.testing.assert_array_equal, batch, last)


def test_rows_batch_size_and_thinned_arrays():
    chosen = sources.iterate(Y, "y", 4, lambda count: np.arange(count)[::-7])
    assert [b.tolist() for b in chosen] == [[69, 62, 55, 48], [41, 34, 27, 20]]
    (thin,) = sources.batches((X, Y), "data", at_most=3)
    assert thin[1].tolist() == [0, 34, 69]
    mapped = sources.MappedData((X, Y), lambda x: x + 1)
    (thin,) = sources.batches(mapped, "data", at_most=3)
    assert thin[0][:, 0].tolist() == [1, 35, 70]


def test_arrays_of_unequal_length():
    for read in (sources.iterate, lambda *a: Data(*a, 32)):
        with pytest.raises(ValueError, match=r"`data` .*\[9, 70\]"):
            read((X, Y[:9]), "data")


@pytest.mark.parametrize("wrong", [3, "images", None, (1, 2), {"x": "y"}])
def test_unsupported_data_is_the_same_error_everywhere(wrong, tmp_path):
    batches = kd.datasets.batches(X, indexed=True)
    cache = kd.TeacherCache.build(
        keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)]),
        X,
        tmp_path,
        verbose=False,
    )
    cache.join(batches)
    for name, read in {
        "data": lambda: list(sources.batches(wrong, "data")),
        "images": lambda: Data(wrong, "images", 32),
        "dataset": lambda: cache.join(wrong),
    }.items():
        with pytest.raises(TypeError) as error:
            read()
        message = str(error.value)
        assert message.startswith(f"`{name}` must be a tf.data.Dataset")
        assert f"of type {type(wrong).__name__}" in message
    with pytest.raises(TypeError, match=r"`data` must be a tf\.data\.Dataset"):
        kd.views.indexed(wrong)


def test_a_look_at_the_first_batch():
    rest = iter(dataset())
    first = sources.first_batch(rest)
    again = list(sources.first_again(first, rest))
    assert [len(y) for _, y in again] == [32, 32, 6]
    with pytest.raises(ValueError, match="not one batch"):
        sources.first_batch([])
    sources.check_it_ends(dataset())
    with pytest.raises(ValueError, match="pass steps_per_epoch="):
        sources.check_it_ends(dataset().repeat())
