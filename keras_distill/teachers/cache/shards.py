"""The files with the outputs: TFRecords that hold many samples each.

A record is a `tf.train.Example` with the raw bytes of each column for its
samples, in order. The operations of tf.data are enough to read it.
"""

import errno
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_distill._files import UNFINISHED
from keras_distill.teachers.cache import folder
from keras_distill.teachers.cache.header import files

# Small records cost time to read, large ones memory.
RECORD_BYTES = 2**20
_READ_BUFFER = 2**23


def write(path, name, arrays):
    """Writes a shard, whole or not at all.

    Args:
        path: The folder of the cache.
        name: The name of the file.
        arrays: A dict column name -> array `(samples, ...)`.

    Returns:
        The number of bytes and the sha256 of the file.

    Raises:
        OSError: If the disk is full.
    """
    unfinished = path / (UNFINISHED + name)
    samples = len(next(iter(arrays.values())))
    row = sum(a[:1].nbytes for a in arrays.values())
    step = max(1, RECORD_BYTES // max(1, row))
    try:
        with tf.io.TFRecordWriter(str(unfinished)) as writer:
            for i in range(0, samples, step):
                writer.write(
                    _record({n: a[i : i + step] for n, a in arrays.items()})
                )
    except tf.errors.ResourceExhaustedError as error:
        full = errno.ENOSPC
        raise OSError(full, os.strerror(full), str(path)) from error
    with open(unfinished, "rb") as stream:
        os.fsync(stream.fileno())
    described = unfinished.stat().st_size, folder.sha256(unfinished)
    os.replace(unfinished, path / name)
    return described


def _record(arrays):
    features = {
        name: tf.train.Feature(
            bytes_list=tf.train.BytesList(
                value=[np.ascontiguousarray(array).tobytes()]
            )
        )
        for name, array in arrays.items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    # Without this the order of a map is not that of its keys.
    return example.SerializeToString(deterministic=True)


def read(files, columns, samples):
    """Reads the table of one epoch; works inside a tf.data function too.

    Args:
        files: `(shards,)` strings, in order.
        columns: The list of `Column` of the cache.
        samples: The number of samples.

    Returns:
        A dict column name -> tensor `(samples, ...)`.
    """
    spec = {c.name: tf.io.FixedLenFeature([], tf.string) for c in columns}

    def rows(record):
        parsed = tf.io.parse_single_example(record, spec)
        return {
            c.name: tf.reshape(
                tf.io.decode_raw(parsed[c.name], c.dtype), [-1, *c.shape]
            )
            for c in columns
        }

    records = tf.data.TFRecordDataset(files, buffer_size=_READ_BUFFER)
    table = records.map(rows).rebatch(samples).get_single_element()
    # The last step cuts no rows, and must not lack any.
    return {
        c.name: tf.ensure_shape(table[c.name], [samples, *c.shape])
        for c in columns
    }


class Part(NamedTuple):
    """The samples that one reader of a cache needs, and their files.

    Attributes:
        samples: A `range` of sample indices.
        shards: For each epoch, the entries of the header's `shards` that hold
            them.
        start: The index of the first sample in these files.
        rows: The number of samples in these files.
    """

    samples: range
    shards: list
    start: int
    rows: int

    def files(self, header):
        """Returns the entries of all files to read, with that of the inputs."""
        shards = [entry for epoch in self.shards for entry in epoch]
        return shards + files(header)[len(header["shards"]) :]


def part_of(cache, samples=None):
    """Returns the part of a cache that holds the samples; `None`: all of it."""
    if samples is None:
        samples = range(cache.samples)
    if (
        not isinstance(samples, range)
        or samples.step != 1
        or not 0 <= samples.start < samples.stop <= cache.samples
    ):
        raise ValueError(
            "samples is the range of sample indices that this pipeline can "
            f"have, within range({cache.samples}), such as range(0, "
            f"{(cache.samples + 1) // 2}). Received: {samples!r}"
        )
    shards, starts, ends = [], [], []
    for epoch in range(cache.epochs):
        chosen, end = [], 0
        for entry in cache.header["shards"]:
            if entry["epoch"] != epoch:
                continue
            start, end = end, end + entry["samples"]
            if start < samples.stop and end > samples.start:
                chosen.append(entry)
                starts.append(start)
                ends.append(end)
        shards.append(chosen)
    # Every epoch is cut into files at the same samples.
    return Part(samples, shards, min(starts), max(ends) - min(starts))
