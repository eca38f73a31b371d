"""Everything that `fit` accepts, as batches."""

import keras
import numpy as np
import tensorflow as tf

from keras_distill._data.batch_fields import plain_batch


def check_model(model):
    """Raises unless this is a built `keras.Model`."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "The model must be a keras.Model. Received: "
            f"{model!r} of type {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            f"The model '{model.name}' is not built: it has no weights yet. "
            "Call it on a batch or `model.build(input_shape)` it first."
        )


class MappedData:
    """Data as a network sees it: `batches` passes every `x` through `view`.

    Args:
        data: As for `batches`.
        view: A function of one batch's `x`.
    """

    def __init__(self, data, view):
        self.data = data
        self.view = view


def batches(data, argument, at_most=None):
    """Yields NumPy batches `(x, y)` of anything Keras can be fed with.

    Args:
        data: A `tf.data.Dataset`, a `keras.utils.PyDataset`, an iterable of
            batches or a function that returns one; a batch is `x`, `(x, y)` or
            `(x, y, sample_weight)`. Or whole arrays: one array, a dict of
            arrays, or a tuple `(x, y)`; they come in batches of 32. Or any
            of these in a `MappedData`.
        argument: What the user's data was called, for the error message.
        at_most: If given, whole arrays are thinned to so many samples, evenly
            spaced, so that data sorted by class still shows every class.

    Raises:
        TypeError: If `data` is none of these.
        ValueError: If whole arrays differ in length.
    """
    if isinstance(data, MappedData):
        for x, y in batches(data.data, argument, at_most):
            yield data.view(x), y
        return
    if isinstance(data, (tuple, dict, np.ndarray)) or tf.is_tensor(data):
        data = _sliced(data, argument, at_most)
    elif isinstance(data, keras.utils.PyDataset):
        data = map(data.__getitem__, range(len(data)))
    elif callable(data):
        data = data()
    if not hasattr(data, "__iter__") or isinstance(data, str):
        raise TypeError(
            f"`{argument}` must be a tf.data.Dataset, arrays or an iterable "
            f"of batches. Received: {data!r} of type {type(data).__name__}"
        )
    for batch in data:
        x, y, _ = plain_batch(batch)
        yield keras.tree.map_structure(
            lambda v: None if v is None else np.asarray(v), (x, y)
        )


def _sliced(arrays, argument, at_most, batch_size=32):
    arrays = keras.tree.map_structure(
        lambda v: None if v is None else np.asarray(v), arrays
    )
    given = [v for v in keras.tree.flatten(arrays) if v is not None]
    lengths = [len(v) for v in given]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"The arrays of `{argument}` must have the same number of samples. "
            f"Received: {lengths}"
        )
    count = lengths[0]
    kept = count if at_most is None else min(at_most, count)
    rows = np.linspace(0, count - 1, kept).astype(int)
    for start in range(0, kept, batch_size):
        part = rows[start : start + batch_size]
        yield keras.tree.map_structure(
            lambda v: None if v is None else v[part], arrays
        )


def are_arrays(x):
    """Whether the data of `fit` are arrays, alone or in a structure."""
    leaves = keras.tree.flatten(x)
    return bool(leaves) and all(
        hasattr(a, "shape") and hasattr(a, "__getitem__") for a in leaves
    )


def _first(batches):
    for batch in batches:
        return batch
    raise _nothing()


def _check_it_ends(dataset):
    if dataset.cardinality() == -1:  # tf.data.INFINITE_CARDINALITY
        raise ValueError(
            "The dataset never ends (repeat(), or kd.datasets.batches with a "
            "seed), so an epoch needs a length: pass steps_per_epoch=, such as "
            "kd.datasets.steps_per_epoch(samples, batch_size)."
        )


def _chained(first, rest):
    yield first
    yield from rest


def _nothing():
    return ValueError(
        "The data yields nothing: not one batch. Is the dataset empty, already "
        "consumed, or smaller than one batch with drop_remainder=True?"
    )
