"""Data as `kd.diagnose` reads it: some of it, and without end."""

import itertools

import keras
import numpy as np

from keras_distill._data.batch_fields import unpacked_batch
from keras_distill._data.labels import class_indices
from keras_distill._data.sources import can_be_iterated_again
from keras_distill._data.sources import iterate
from keras_distill._data.sources import leaves
from keras_distill._data.sources import to_arrays
from keras_distill._data.sources import unsupported
from keras_distill.metrics.decisions import position_weights


class Data:
    """Training or validation data, in batches.

    Args:
        data: A `tf.data.Dataset` of batches, a `keras.utils.PyDataset`, an
            array, a dict of arrays, or a tuple `(x, y)` or `(x, y, w)`.
        argument: The name of the user's argument, for messages.
        batch_size: The number of samples in a batch of arrays.

    Attributes:
        drawn: The number of samples that `stream` has given so far.
    """

    def __init__(self, data, argument, batch_size):
        # A list could be one of batches.
        if isinstance(data, list) or not can_be_iterated_again(data):
            raise unsupported(data, argument)
        self.argument = argument
        self.drawn = 0
        self._counted = None
        self._different = set()
        self._batch_size = batch_size
        self._is_arrays = False
        if isinstance(data, keras.utils.PyDataset):
            self._batches = data.num_batches or -1
        elif hasattr(data, "cardinality"):
            self._batches = int(data.cardinality())  # Negative: not known.
        else:
            data = to_arrays(data, argument)
            self._is_arrays = True
        self._data = data

    @property
    def samples(self):
        """The number of samples; `None` if it is not known.

        Of a stream without an end, such as `kd.datasets.batches(seed=0)`, it
        is known when samples come again.
        """
        different = len(self._different)
        if self._is_arrays:
            return len(leaves(self._data)[0])
        if self._counted is not None:
            return self._counted
        if self._batches >= 0:
            # The last batch may not be full.
            most = self._batches * self._batch_size
            exact = most - self._batch_size < different <= most
            return different if exact else most
        return different if different <= 0.9 * self.drawn else None

    def first(self):
        """Returns the first batch `(x, y, sample_weight)`, and notes its
        size."""
        batch = next(map(_plain, self._one_pass()), None)
        size = 0 if batch is None else len(leaves(batch)[0])
        if not size:
            raise ValueError(
                f"{self.argument} yields nothing: not one sample. Is it empty, "
                "or smaller than one batch with drop_remainder=True?"
            )
        if not self._is_arrays:
            self._batch_size = size
        return batch

    def some(self, samples):
        """Yields batches of so many samples together, or of all."""
        count = 0
        for batch in map(_plain, self._one_pass(samples)):
            rest = samples - count
            yield keras.tree.map_structure(
                lambda a: None if a is None else a[:rest], batch
            )
            count += len(leaves(batch)[0])
            if count >= samples:
                return
        self._counted = count

    def stream(self):
        """Yields batches `(Sample, y, sample_weight)` without end, and counts
        their samples.

        The epoch is the data's own or the number of the pass.
        """
        for number in itertools.count():
            for sample, y, sample_weight in self._one_pass():
                self._count(np.asarray(leaves(sample.inputs)[0]))
                if sample.epoch is None:
                    sample = sample._replace(epoch=number)
                yield sample, y, sample_weight

    def _count(self, rows):
        self.drawn += len(rows)
        objects = rows.dtype == object
        for row in rows:
            self._different.add(
                hash(tuple(row.flat) if objects else row.tobytes())
            )

    def _one_pass(self, samples=None):
        """The batches of one pass; of arrays in another order each time."""

        def rows(count):
            # What is looked at must not depend on how much was drawn before.
            seed = self.drawn if samples is None else 0
            order = np.random.default_rng(seed).permutation(count)[:samples]
            if samples is None and count > self._batch_size:
                # One shape of batches: no second trace of the training step.
                order = order[: count // self._batch_size * self._batch_size]
            return order

        data = iterate(self._data, self.argument, self._batch_size, rows)
        return map(unpacked_batch, data)


def _plain(batch):
    sample, y, sample_weight = batch
    return sample.inputs, y, sample_weight


def labels_and_weights(
    y, sample_weight, size, classes, argument, ignore_class=None
):
    """Returns the labels of one batch, and how much each sample counts.

    Args:
        y: As for `class_indices`. Labels of samples that do not count may be
            anything.
        sample_weight: `(batch,)`, or `None`.
        size: The number of samples.
        classes: The number of classes of the student.
        argument: The name of the user's argument, for messages.
        ignore_class: The label of samples without a class, or `None`.

    Returns:
        `(batch,)` integers, or `None` without labels, and `(batch,)` float64
        weights.
    """
    if y is None or keras.tree.is_nested(y):
        weights = position_weights((size,), sample_weight=sample_weight)
        return class_indices(y, classes, argument), weights
    y = np.array(keras.ops.convert_to_numpy(y))
    sparse = y.ndim == 1 or y.shape[1:] == (1,)
    weights = position_weights(
        (size,),
        labels=y.reshape(size) if sparse else None,
        sample_weight=sample_weight,
        ignore_class=ignore_class,
    )
    y[weights == 0] = 0 if sparse else np.eye(1, y.shape[-1])
    return class_indices(y, classes, argument), weights
