"""The samples that the teacher sees: in order, batched, with their index."""

import zlib

import keras
import numpy as np
import tensorflow as tf

from keras_distill._data import batch_fields
from keras_distill._data.sources import are_arrays
from keras_distill._data.sources import unsupported
from keras_distill._data.sparse import as_tensor
from keras_distill._data.sparse import is_scipy
from keras_distill.teachers.cache import folder


def ordered_batches(dataset, batch_size, teacher):
    """Returns the batches of what `TeacherCache.build` takes.

    Args:
        dataset: As in `TeacherCache.build`.
        batch_size: The samples of a batch; the last one may have fewer.
        teacher: The teacher: its rank tells single samples from batches.

    Returns:
        A `tf.data.Dataset` of `(inputs, sample_index)`, and the number of
        samples, `None` if only a whole pass will tell.
    """
    if isinstance(dataset, tf.data.Dataset):
        data = dataset
    elif are_arrays(dataset) or batch_fields.is_packed(dataset):
        arrays = batch_fields.unpacked(dataset).inputs
        arrays = keras.tree.map_structure(
            lambda a: as_tensor(a) if is_scipy(a) else a, arrays
        )
        with tf.device("CPU"):
            data = tf.data.Dataset.from_tensor_slices(arrays)
    else:
        raise unsupported(
            dataset,
            "dataset",
            "a tf.data.Dataset of single samples in fixed order, arrays x, or "
            "batches in order that carry their index",
        )
    size = int(data.cardinality())
    spec = batch_fields.sample_spec(data)
    if any(
        isinstance(s, tf.SparseTensorSpec) for s in tf.nest.flatten(spec.inputs)
    ):
        raise TypeError(
            "A teacher cache takes dense samples, and `dataset` is sparse. "
            "Make it dense first: tf.sparse.to_dense(x), or x.toarray() for a "
            "scipy matrix."
        )
    if size == tf.data.INFINITE_CARDINALITY or spec.epoch is not None:
        raise ValueError(
            "dataset must end: give the samples once, in order, without "
            ".repeat() and without a seed of kd.datasets.batches."
        )
    index = spec.sample_index
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
            "you may shuffle the pipeline that is joined."
        )


def parts_to_compare(batches, header, in_memory):
    """Yields what tells whether these are the samples of an existing cache.

    Arrays are compared as a whole. A pipeline costs time to run: only its
    first batch is compared, and the first one of the last whole shard if a
    killed run continues.

    Args:
        batches: The batches that `ordered_batches` returned.
        header: The header of the cache.
        in_memory: Whether the batches come from arrays.

    Yields:
        The number of the first sample of a batch, and its checksums.
    """
    size, done = header["batch_size"], folder.samples_done(header, 0)
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
    """Returns the CRC-32 of the inputs of every sample, `(batch,)` uint32.

    Args:
        inputs: A structure of tensors or arrays, batch axis first.
    """
    arrays = [np.asarray(array) for array in keras.tree.flatten(inputs)]
    sums = np.zeros(len(arrays[0]), "<u4")
    for array in arrays:
        for i, row in enumerate(array):
            sums[i] = zlib.crc32(_bytes(row), int(sums[i]))
    return sums


def _bytes(row):
    row = np.asarray(row)
    if row.dtype.kind == "O":  # strings
        return b"\0".join(row.ravel().tolist())
    return np.ascontiguousarray(row).view("uint8")  # bfloat16 has no buffer.


def _x(element):
    return element[0] if isinstance(element, tuple) else element


def _inputs_and_index(*element):
    sample = batch_fields.unpacked(element[0])
    return sample.inputs, sample.sample_index


def _check_single_samples(data, teacher):
    """Raises for batches, as far as their rank, the teacher's, tells them."""
    specs = keras.tree.flatten(batch_fields.sample_spec(data).inputs)
    inputs = getattr(teacher, "inputs", None) or []
    if len(specs) != 1 or len(inputs) != 1 or specs[0].shape.rank is None:
        return
    if specs[0].shape.rank == len(inputs[0].shape):
        raise ValueError(
            "dataset must give single samples, but its elements have as many "
            f"axes as a batch of the teacher: {specs[0].shape}. Give the "
            "samples before .batch(), or dataset.unbatch(); batches must carry "
            "their index: kd.datasets.batches(x, y, indexed=True)."
        )
