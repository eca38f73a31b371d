"""Files of a cache: TFRecords that hold many samples each.

A record is a `tf.train.Example` with the raw bytes of each column for its
samples, in order. Nothing but tf.data's own operations is needed to read it.
"""

import os

import numpy as np
import tensorflow as tf

from keras_distill.teachers.cache import header as headers

# Small records cost time to read, large ones memory.
RECORD_BYTES = 2**20
_READ_BUFFER = 2**23


def shard_name(epoch, part):
    return f"epoch_{epoch:04d}_part_{part:04d}.tfrecord"


def write(path, name, arrays):
    """Writes a shard, whole or not at all.

    Args:
        path: The cache's folder.
        name: The file's name.
        arrays: Dict column name -> array `(samples, ...)`.

    Returns:
        Number of bytes and sha256 of the file.
    """
    unfinished = path / (headers.UNFINISHED + name)
    samples = len(next(iter(arrays.values())))
    row = sum(a[:1].nbytes for a in arrays.values())
    step = max(1, RECORD_BYTES // max(1, row))
    with tf.io.TFRecordWriter(str(unfinished)) as writer:
        for start in range(0, samples, step):
            writer.write(
                _record({n: a[start : start + step] for n, a in arrays.items()})
            )
    with open(unfinished, "rb") as stream:
        os.fsync(stream.fileno())
    described = unfinished.stat().st_size, headers.sha256(unfinished)
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
    # The order of a map is not that of its keys unless one asks for it.
    return example.SerializeToString(deterministic=True)


def read(files, columns, samples):
    """The table of one epoch; also inside of a tf.data function.

    Args:
        files: `(parts,)` strings, in order.
        columns: The cache's list of `Column`.
        samples: Number of samples.

    Returns:
        Dict column name -> tensor `(samples, ...)`.
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
    return records.map(rows).rebatch(samples).get_single_element()
