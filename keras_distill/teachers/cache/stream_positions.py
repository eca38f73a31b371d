"""Samples whose place is known by their position in streams.

The outputs of a teacher with `stateful=True` layers depend on what it read
before. Row b of the k-th batch of B streams has the index k * B + b.
"""

import tensorflow as tf

from keras_distill._data import batch_fields
from keras_distill._data.sources import are_arrays
from keras_distill._data.streams import check_order
from keras_distill._data.streams import check_streams
from keras_distill._keras.recurrent_states import number_of_streams


def ordered_batches(dataset, teacher):
    """Returns the batches of streams, as `source.ordered_batches` does."""
    streams = number_of_streams(teacher)
    check_streams({"teacher": teacher}, dataset, 1, streams)
    if are_arrays(batch_fields.unpacked(dataset).inputs):
        with tf.device("CPU"):
            dataset = tf.data.Dataset.from_tensor_slices(dataset)
        dataset = dataset.batch(streams, drop_remainder=True)
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            f"The teacher '{teacher.name}' has stateful=True layers, so "
            "`dataset` must be streams in order: a tf.data.Dataset of batches "
            "(kd.datasets.language_model), or arrays x. Received: "
            f"{dataset!r} of type {type(dataset).__name__}"
        )
    size = int(dataset.cardinality())
    if size == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "dataset must end: give the streams once, without .repeat()."
        )
    batches = indexed(dataset, streams).map(
        lambda *batch: batch_fields.unpacked_batch(batch)[0][:2]
    )
    return batches, size * streams if size >= 0 else None


def indexed(dataset, streams, samples=None):
    """Adds the index of every sample to batches that carry none.

    Args:
        dataset: A `tf.data.Dataset` of batches of streams in order.
        streams: B.
        samples: The number of samples of a pass, after which streams begin
            again. Defaults to `None`: there is one pass.
    """
    if batch_fields.sample_spec(dataset).sample_index is not None:
        return dataset

    def with_index(number, batch):
        start = number * streams
        if samples is not None:
            start %= samples
        index = tf.cast(start, tf.int32) + tf.range(streams)
        if not isinstance(batch, tuple):
            return batch_fields.packed(batch, index)
        x, *others = batch
        return (batch_fields.packed(x, index), *others)

    return dataset.enumerate().map(with_index)


def of_cache(dataset, cache):
    """Adds their index to the batches that `TeacherCache.join` takes."""
    streams = cache.header.get("streams")
    if streams is None or not isinstance(dataset, tf.data.Dataset):
        return dataset
    spec = batch_fields.sample_spec(dataset)
    if spec.sample_index is not None:
        return dataset
    who = f"The teacher of the cache '{cache.path}' has stateful=True layers"
    check_order(dataset, who)
    rows = tf.nest.flatten(spec.inputs)[0].shape[:1].as_list()
    if rows != [streams]:
        raise ValueError(
            f"{who}, made for {streams} streams. Its outputs are joined to the "
            f"batches that it saw, in the same order. Received: batches of "
            f"{rows and rows[0]}. Join first, then shuffle or batch again."
        )
    return indexed(dataset, streams, cache.samples)
