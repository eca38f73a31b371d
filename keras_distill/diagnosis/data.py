"""Data as `kd.diagnose` reads it: some of it, and without end."""

import itertools
import reprlib

import keras
import numpy as np

from keras_distill._data.batch_fields import plain_batch


class Data:
    """Training or validation data, in batches.

    Args:
        data: A `tf.data.Dataset` of batches, a `keras.utils.PyDataset`, an
            array, a dict of arrays, or a tuple `(x, y)` or `(x, y, w)`.
        argument: What the user's data was called, for messages.
        batch_size: Samples per batch, for arrays.

    Attributes:
        drawn: Samples that `stream` has given so far.
    """

    def __init__(self, data, argument, batch_size):
        import tensorflow as tf

        self.argument = argument
        self.drawn = 0
        self._counted = None
        self._different = set()
        self._data = data
        self._batch_size = batch_size
        if isinstance(data, tf.data.Dataset):
            self._stated = int(data.cardinality())  # negative: not known
        elif isinstance(data, keras.utils.PyDataset):
            self._stated = data.num_batches or -1
        elif _are_arrays(data):
            self._data = keras.tree.map_structure(
                lambda a: None if a is None else np.asarray(a), data
            )
            lengths = {len(a) for a in _leaves(self._data)}
            if len(lengths) != 1:
                raise ValueError(
                    f"The arrays of {argument} must have the same number of "
                    f"samples. Received: {sorted(lengths)}"
                )
            self._stated = lengths.pop()
            self._is_arrays = True
        else:
            raise TypeError(
                f"{argument} must be a tf.data.Dataset of batches, a keras."
                "utils.PyDataset, or arrays: x or a tuple (x, y). Received: "
                f"{reprlib.repr(data)} of type {type(data).__name__}"
            )

    _is_arrays = False

    @property
    def samples(self):
        """How many there are; `None` where that is not known.

        Of a stream without an end, such as `kd.datasets.batches(seed=0)`, it
        is known when samples come again.
        """
        different = len(self._different)
        if self._is_arrays:
            return self._stated
        if self._counted is not None:
            return self._counted
        if self._stated >= 0:
            # The last batch may not be full.
            most = self._stated * self._batch_size
            exact = most - self._batch_size < different <= most
            return different if exact else most
        return different if different <= 0.9 * self.drawn else None

    def first(self):
        """The first batch, `(x, y, sample_weight)`; also how large it is."""
        batch = next(self._once(), None)
        size = 0 if batch is None else len(_leaves(batch)[0])
        if not size:
            raise ValueError(
                f"{self.argument} yields nothing: not one sample. Is it empty, "
                "or smaller than one batch with drop_remainder=True?"
            )
        if not self._is_arrays:
            self._batch_size = size
        return batch

    def some(self, samples):
        """Yields batches of that many samples together, or of all."""
        given = 0
        for batch in self._once(samples):
            rest = samples - given
            yield keras.tree.map_structure(
                lambda a: None if a is None else a[:rest], batch
            )
            given += len(_leaves(batch)[0])
            if given >= samples:
                return
        self._counted = given

    def stream(self):
        """Yields batches without end, and counts them."""
        passes = (self._once() for _ in itertools.count())
        for batch in itertools.chain.from_iterable(passes):
            rows = np.asarray(_leaves(batch)[0])
            self.drawn += len(rows)
            for row in rows:
                objects = rows.dtype == object
                self._different.add(
                    hash(tuple(row.flat) if objects else row.tobytes())
                )
            yield batch

    def _once(self, samples=None):
        """One pass; of arrays in another order each time."""
        if self._is_arrays:
            batches = self._slices(samples)
        elif isinstance(self._data, keras.utils.PyDataset):
            batches = map(self._data.__getitem__, range(self._stated))
        else:
            batches = self._data
        for batch in batches:
            yield plain_batch(batch)

    def _slices(self, samples):
        # What is looked at must not depend on how much was drawn before.
        rng = np.random.default_rng(self.drawn if samples is None else 0)
        order = rng.permutation(self._stated)[:samples]
        size = self._batch_size
        # One shape of batches: no second trace of the training step.
        whole = samples is None and len(order) > size
        stop = len(order) // size * size if whole else len(order)
        for start in range(0, stop, size):
            rows = order[start : start + size]
            yield keras.tree.map_structure(
                lambda a: None if a is None else a[rows], self._data
            )


def class_indices(y, classes, argument, asked_by="diagnose"):
    """Labels of one batch as integers.

    Args:
        y: Class indices `(batch,)` or `(batch, 1)`, one-hot
            `(batch, classes)`, or `None`.
        classes: Number of classes of the student.
        argument: Where they come from, for messages.
        asked_by: Which function asks, for messages.

    Returns:
        A NumPy array `(batch,)`; `None` for no labels.

    Raises:
        ValueError: for several outputs' labels, numbers that are no classes
            (regression), several classes per sample, labels out of range.
    """
    if y is None:
        return None
    what = f"{asked_by} is for one class per sample"
    if keras.tree.is_nested(y):
        raise ValueError(
            f"{what}. The labels of {argument} are several tensors: "
            f"{reprlib.repr(y)}"
        )
    y = keras.ops.convert_to_numpy(y)
    if y.ndim == 2 and y.shape[-1] == classes and classes > 1:
        if not np.allclose(y.astype("float64").sum(-1), 1.0, atol=1e-2):
            raise ValueError(
                f"{what}. The rows of the labels of {argument} do not sum to "
                "1: these are several labels per sample."
            )
        return y.argmax(-1)
    if y.ndim == 2 and y.shape[-1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iufb":
        raise ValueError(
            f"{what}: class indices or one-hot rows of {classes}. The labels "
            f"of {argument} have shape {y.shape} and dtype {y.dtype}."
        )
    indices = y.astype("int64")
    if np.any(indices != y):
        raise ValueError(
            f"{what}. The labels of {argument} are no class indices, such as "
            f"{y[indices != y][0]}: is this a regression?"
        )
    wrong = indices[(indices < 0) | (indices >= classes)]
    if wrong.size:
        raise ValueError(
            f"Labels must lie in [0, {classes - 1}]: the student has {classes} "
            f"classes. {argument} has others, such as {wrong[0]}."
        )
    return indices


def _are_arrays(data):
    # A list could be one of batches.
    leaves = [] if isinstance(data, list) else _leaves(data)
    return bool(leaves) and all(
        hasattr(a, "__array__") and getattr(a, "ndim", 0) for a in leaves
    )


def _leaves(structure):
    return [a for a in keras.tree.flatten(structure) if a is not None]
