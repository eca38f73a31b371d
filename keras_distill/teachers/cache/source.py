"""The samples that a teacher is shown: in order, batched, with their index."""

import zlib

import keras
import numpy as np
import tensorflow as tf

from keras_distill._data import batch_fields
from keras_distill._data.sources import are_arrays
from keras_distill.teachers.cache import header as headers


def x_spec(dataset):
    """The specs of a dataset's x: a `Sample`."""
    spec = dataset.element_spec
    return batch_fields.unpacked(spec[0] if isinstance(spec, tuple) else spec)


def ordered_batches(dataset, batch_size, teacher):
    """Anything that `TeacherCache.build` takes -> `(batches, samples)`.

    Args:
        dataset: As in `TeacherCache.build`.
        batch_size: Samples of a batch; the last one may have fewer.
        teacher: The teacher, to see whether single samples were given.

    Returns:
        A `tf.data.Dataset` of `(inputs, sample_index)`, and the number of
        samples, `None` if it shows only in the end.
    """
    if isinstance(dataset, tf.data.Dataset):
        data = dataset
    elif are_arrays(dataset) or batch_fields.is_packed(dataset):
        arrays = batch_fields.unpacked(dataset).inputs
        with tf.device("CPU"):
            data = tf.data.Dataset.from_tensor_slices(arrays)
    else:
        raise TypeError(
            "dataset must be a tf.data.Dataset of single samples in fixed "
            "order, arrays x, or batches in order that carry their index. "
            f"Received: {type(dataset).__name__}."
        )
    size = int(data.cardinality())
    if size == tf.data.INFINITE_CARDINALITY or x_spec(data).epoch is not None:
        raise ValueError(
            "dataset must end: the samples once, in order. Leave out "
            ".repeat(), and the seed of kd.datasets.batches."
        )
    index = x_spec(data).sample_index
    if index is not None and index.shape.rank == 1:
        batches = data.map(_inputs_and_index).rebatch(batch_size)
        return batches, None
    if index is None:
        _check_single_samples(data, teacher)
        data = data.enumerate().map(
            lambda i, sample: batch_fields.packed(
                _x(sample), tf.cast(i, tf.int32)
            )
        )
    batches = data.map(_inputs_and_index).batch(batch_size)
    return batches, size if size >= 0 else None


def check_in_order(sample_index, start):
    """Raises `ValueError` unless these are the samples from `start` on."""
    expected = np.arange(start, start + len(sample_index))
    if not np.array_equal(sample_index, expected):
        wrong = np.flatnonzero(sample_index != expected)[0]
        raise ValueError(
            "dataset must give the samples in the order of their index. "
            f"Received the sample of index {sample_index[wrong]} at position "
            f"{expected[wrong]}. Do not shuffle what the cache is built from; "
            "the pipeline that is joined may be shuffled."
        )


def parts_to_compare(batches, header, in_memory):
    """What shows whether these are the samples of a cache that is there.

    Arrays are compared in whole. Of a pipeline, which costs time to run, only
    the first batch, and where a killed run goes on, the first one of its last
    whole shard.

    Args:
        batches: As `ordered_batches` gives them.
        header: The cache's.
        in_memory: Whether they come from arrays.

    Yields:
        `(start, checksums)`: the first sample of a batch, and of each one.
    """
    size, done = header["batch_size"], headers.samples_done(header, 0)
    if in_memory:
        for number, (inputs, _) in enumerate(batches.take(-(-done // size))):
            yield number * size, checksums(inputs)
        return
    starts = {0}
    if not header["complete"] and done:
        shards = [s["samples"] for s in header["shards"] if s["epoch"] == 0]
        starts.add(done - shards[-1])
    for start in sorted(starts):
        for inputs, _ in batches.skip(start // size).take(1):
            yield start, checksums(inputs)


def checksums(inputs):
    """CRC-32 of every sample's inputs, `(batch,)` uint32.

    Args:
        inputs: A structure of tensors or arrays, batch axis first.
    """
    leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(inputs)]
    found = np.zeros(len(leaves[0]), "<u4")
    for leaf in leaves:
        for i, row in enumerate(leaf):
            found[i] = zlib.crc32(_bytes(row), int(found[i]))
    return found


def _bytes(row):
    row = np.asarray(row)
    if row.dtype.kind == "O":  # strings
        return b"\0".join(row.ravel().tolist())
    return np.ascontiguousarray(row)


def _x(element):
    return element[0] if isinstance(element, tuple) else element


def _inputs_and_index(*element):
    sample = batch_fields.unpacked(element[0])
    return sample.inputs, sample.sample_index


def _check_single_samples(data, teacher):
    """Batches without index, where it shows: they have the teacher's rank."""
    given = keras.tree.flatten(x_spec(data).inputs)
    taken = getattr(teacher, "inputs", None) or []
    if len(given) != 1 or len(taken) != 1 or given[0].shape.rank is None:
        return
    if given[0].shape.rank == len(taken[0].shape):
        raise ValueError(
            "dataset must give single samples, but its elements have as many "
            f"axes as a batch of the teacher: {given[0].shape}. Give the "
            "samples before .batch(), or dataset.unbatch(); batches must carry "
            "their index: kd.datasets.batches(x, y, indexed=True)."
        )
