"""One iterator over everything that `fit` accepts."""

import keras
import numpy as np
import pytest
import scipy.sparse
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


class Column:
    """A column of pandas: an array's methods, but not its indices."""

    iloc, dtype = None, Y.dtype

    def __array__(self, dtype=None, copy=None):
        return Y


def test_a_column_of_pandas_becomes_an_array():
    assert sources.array_or_tensor(Column()) is Y
    tensor = tf.constant(Y)
    assert sources.array_or_tensor(tensor) is tensor
    assert sources.array_or_tensor([1, 2]).tolist() == [1, 2]


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
    chosen = sources.iterate(Y, "y", 4, lambda count: np.arange(count)[::-12])
    assert [b.tolist() for b in chosen] == [[69, 57, 45, 33], [21, 9]]
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
    teacher = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    for name, read in {
        "data": lambda: list(sources.batches(wrong, "data")),
        "images": lambda: Data(wrong, "images", 32),
        "dataset": lambda: kd.TeacherCache.build(teacher, wrong, tmp_path),
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


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.ones((65, 2)), 3),
        ((np.ones((64, 2)), None), 2),
        ({"a": np.ones((33, 2)), "b": np.ones(33)}, 2),
        (scipy.sparse.csr_matrix(np.ones((40, 2))), 2),
        ([np.ones((3, 2))] * 5, 5),
        (Sequence(), 3),
        (iter([1]), None),
        (lambda: iter([1]), None),
    ],
)
def test_the_number_of_batches_is_known_where_it_can_be(data, expected):
    assert sources.number_of_batches(data) == expected


def _sparse(kind):
    x, y = np.eye(6, 4, dtype="float32"), np.arange(6)
    sparse = tf.sparse.from_dense(x)
    return x, {
        "csr": lambda: (scipy.sparse.csr_matrix(x), y),
        "coo": lambda: (scipy.sparse.coo_array(x), y),
        "alone": lambda: scipy.sparse.csr_matrix(x),
        "tensor": lambda: (sparse, y),
        "dataset": lambda: tf.data.Dataset.from_tensor_slices(
            (sparse, y)
        ).batch(4),
        "batches": lambda: [(scipy.sparse.csr_matrix(x), y)],
    }[kind]()


@pytest.mark.parametrize(
    "kind", ["csr", "coo", "alone", "tensor", "dataset", "batches"]
)
def test_sparse_data_comes_as_dense_batches(kind):
    x, data = _sparse(kind)
    given = [batch for batch, _ in sources.batches(data, "dataset")]
    assert all(type(batch) is np.ndarray for batch in given)
    np.testing.assert_array_equal(np.concatenate(given), x)


def test_weights_come_with_the_batches():
    x, y, weights = np.ones((40, 2)), np.arange(40), np.arange(40.0)
    given = list(sources.weighted_batches((x, y, weights), "dataset"))
    np.testing.assert_array_equal(given[1][2], weights[32:])
    assert next(sources.weighted_batches((x, y), "dataset"))[2] is None
