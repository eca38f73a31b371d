"""Everything that `fit` accepts, as batches, and a look at the first of them.

`iterate` is the one place that knows the kinds of data; `batches` gives the
same as NumPy arrays `(x, y)`. Neither imports tensorflow: the losses run
without it.
"""

import functools
import itertools
import math
import reprlib
from collections.abc import Iterator

import keras
import numpy as np

from keras_distill._data.batch_fields import plain_batch
from keras_distill._data.sparse import is_scipy
from keras_distill._data.sparse import number_of_rows

INFINITE = -1  # tf.data.INFINITE_CARDINALITY


class MappedData:
    """Data as a network sees it: `batches` passes every `x` through `view`.

    Args:
        data: As in `batches`.
        view: A function of the `x` of a batch.
    """

    def __init__(self, data, view):
        self.data = data
        self.view = view


def batches(data, argument, at_most=None):
    """Yields NumPy batches `(x, y)` of any data; sparse ones become dense.

    Args:
        data: As in `iterate`, or such data in a `MappedData`.
        argument: The name of the user's argument, for messages.
        at_most: The number of samples that arrays are thinned to. They are
            evenly spaced, so that data sorted by class still shows every
            class. Defaults to all.
    """
    for x, y, _ in weighted_batches(data, argument, at_most):
        yield x, y


def weighted_batches(data, argument, at_most=None):
    """Yields NumPy batches `(x, y, sample_weight)`, as `batches` does."""
    if isinstance(data, MappedData):
        for x, y, weight in weighted_batches(data.data, argument, at_most):
            yield data.view(x), y, weight
        return
    rows = functools.partial(evenly_spaced, at_most=at_most)
    for batch in iterate(data, argument, rows=rows):
        yield _to_numpy(plain_batch(batch))


def iterate(data, argument, batch_size=32, rows=None) -> Iterator:
    """Returns an iterator over the batches of one pass, as the data has them.

    A batch is `x`, `(x, y)` or `(x, y, sample_weight)`.

    Args:
        data: A `tf.data.Dataset`, a `keras.utils.PyDataset`, an iterable of
            batches, or a function that returns one. Or arrays: one, a dict,
            or a tuple `(x, y)` or `(x, y, sample_weight)`.
        argument: The name of the user's argument, for messages.
        batch_size: The number of samples in a batch of arrays. Defaults to
            32, as in Keras.
        rows: For arrays, a function from the number of samples to the indices
            to give, in order. Defaults to all of them.

    Raises:
        TypeError: If `data` is none of these.
        ValueError: If arrays differ in length.
    """
    if isinstance(data, (tuple, dict)) or hasattr(data, "shape"):
        return _slices(to_arrays(data, argument), batch_size, rows)
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        indices = itertools.count() if count is None else range(count)
        return map(data.__getitem__, indices)
    if callable(data):
        data = data()
    if not hasattr(data, "__iter__") or isinstance(data, str):
        raise unsupported(data, argument, f"{KINDS}, or an iterable of batches")
    return iter(data)


def evenly_spaced(samples, at_most=None):
    """Indices of at most so many of the samples."""
    kept = samples if at_most is None else min(at_most, samples)
    return np.linspace(0, samples - 1, kept).astype(int)


def to_arrays(data, argument):
    """Returns a structure of arrays as NumPy arrays of one length.

    Matrices of scipy stay sparse: dense, they may not fit into memory.

    Args:
        data: An array, or a dict or tuple of arrays; `None` stands for what
            there is not.
        argument: The name of the user's argument, for messages.
    """
    arrays = keras.tree.map_structure(
        lambda a: a.tocsr() if is_scipy(a) else _array(a), data
    )
    if not are_arrays(arrays):
        raise unsupported(data, argument)
    lengths = {array.shape[0] for array in leaves(arrays)}
    if len(lengths) > 1:
        raise ValueError(
            f"The arrays of `{argument}` must have the same number of samples. "
            f"Received: {sorted(lengths)}"
        )
    return arrays


def are_arrays(data):
    """Whether the data are arrays, alone or in a structure."""
    arrays = leaves(data)
    return bool(arrays) and all(
        hasattr(array, "__getitem__") and len(getattr(array, "shape", ()))
        for array in arrays
    )


def batch_size_of_arrays(x, batch_size, steps_per_epoch):
    """The samples of a batch that Keras makes of arrays."""
    if batch_size or not steps_per_epoch:
        return batch_size or 32
    return math.ceil(number_of_rows(leaves(x)[0]) / steps_per_epoch)


def can_be_iterated_again(data):
    """Whether a second pass over the data of `fit` gives them once more."""
    import tensorflow as tf

    kinds = (tf.data.Dataset, keras.utils.PyDataset)
    return isinstance(data, kinds) or are_arrays(data)


def leaves(structure):
    """The arrays of a structure, without the `None`s."""
    return [a for a in keras.tree.flatten(structure) if a is not None]


KINDS = "a tf.data.Dataset of batches, a keras.utils.PyDataset, arrays"


def unsupported(data, argument, expected=KINDS):
    """The error for data of a kind that a function does not take."""
    return TypeError(
        f"`{argument}` must be {expected}. Received: {reprlib.repr(data)} of "
        f"type {type(data).__name__}"
    )


# A look at the first batch.


def first_batch(data):
    """The first batch of an iterable; raises if there is none."""
    for batch in data:
        return batch
    raise no_batch()


def first_again(first, rest):
    """A generator that gives back a batch that was taken from it."""
    yield first
    yield from rest


def check_it_ends(dataset):
    """Raises if an epoch of a `tf.data.Dataset` needs a length."""
    if dataset.cardinality() == INFINITE:
        raise ValueError(
            "The dataset never ends (repeat(), or kd.datasets.batches with a "
            "seed), so an epoch needs a length: pass steps_per_epoch=, such as "
            "kd.datasets.steps_per_epoch(samples, batch_size)."
        )


def no_batch():
    """The error for data without a batch."""
    return ValueError(
        "The data yields nothing: not one batch. Is the dataset empty, already "
        "consumed, or smaller than one batch with drop_remainder=True?"
    )


def _slices(arrays, batch_size, rows):
    count = leaves(arrays)[0].shape[0]
    order = np.arange(count) if rows is None else rows(count)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        yield keras.tree.map_structure(
            lambda a: None if a is None else a[part], arrays
        )


def _to_numpy(structure):
    return keras.tree.map_structure(_array, structure)


def array_or_tensor(part):
    """A part of a batch; a table or column of pandas as its array."""
    if part is None or hasattr(part, "dtype") and not hasattr(part, "iloc"):
        return part
    return np.asarray(part)


def _array(a):
    """Returns a NumPy array of a tensor or array, sparse ones too."""
    if is_scipy(a):
        return a.toarray()
    if hasattr(a, "dense_shape"):  # tf.SparseTensor
        import tensorflow as tf

        a = tf.sparse.to_dense(tf.sparse.reorder(a))
    return None if a is None else np.asarray(a)


def number_of_batches(dataset, batch_size=32):
    """The number of batches; `None` if it is not known.

    Args:
        dataset: As in `iterate`.
        batch_size: The number of samples in a batch of arrays.

    Raises:
        ValueError: If the dataset never ends.
    """
    import tensorflow as tf

    if isinstance(dataset, tf.data.Dataset):
        count = int(dataset.cardinality())
        if count == INFINITE:
            raise ValueError(
                "`dataset` never ends. Pass a part of it: "
                "dataset.take(batches)."
            )
        return None if count < 0 else count
    if isinstance(dataset, keras.utils.PyDataset):
        return dataset.num_batches
    if isinstance(dataset, (tuple, dict)) or hasattr(dataset, "shape"):
        shapes = [getattr(a, "shape", None) for a in leaves(dataset)]
        shape = shapes[0] if shapes else None
        return math.ceil(shape[0] / batch_size) if shape else None
    return len(dataset) if hasattr(dataset, "__len__") else None
