"""What is stored of a teacher's outputs, and how they are restored from it.

A teacher's outputs are a dict of `"output"` and `"taps"` (name -> tensor), as
they travel with the data. They are stored as columns: arrays with one row per
sample. A tap is one column; so is the output, unless only its largest logits
are kept:

    output/values    (..., k)   the k largest logits
    output/classes   (..., k)   their classes
    output/rest      (...,)     T * logsumexp(logits / T) of the C - k others

Each of the others is restored as the logit rest - T * log(C - k). At
temperature T the softmax is then the teacher's for the k classes and for the
rest as a whole. At other temperatures it is not quite the teacher's: a flat
rest has another mass there than an uneven one.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Column(NamedTuple):
    """One array of the cache.

    Attributes:
        name: The output or tap that it belongs to.
        dtype: The name of its type.
        shape: The shape of one row.
    """

    name: str
    dtype: str
    shape: tuple

    @property
    def bytes(self):
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


def columns_of(shapes, dtype, top_k=None):
    """Returns the columns of a cache.

    Args:
        shapes: The shapes of one sample's outputs, a dict of `"output"` (may
            be missing) and `"taps"`. `"in_float32"`, if there, lists the
            columns that are stored so whatever `dtype` says.
        dtype: `"float16"` or `"float32"`.
        top_k: The number of logits kept of the output; `None`: all.

    Returns:
        A list of `Column`.
    """
    columns = []
    output = shapes.get("output")
    if output is not None and top_k is None:
        columns.append(Column("output", dtype, tuple(output)))
    elif output is not None:
        *positions, classes = output
        kept = (*positions, top_k)
        index = "uint16" if classes <= 2**16 else "int32"
        columns += [
            Column("output/values", dtype, kept),
            Column("output/classes", index, kept),
            Column("output/rest", dtype, tuple(positions)),
        ]
    for name, shape in shapes["taps"].items():
        columns.append(Column(f"taps/{name}", dtype, tuple(shape)))
    wide = shapes.get("in_float32", ())
    return [
        c._replace(dtype="float32") if c.name in wide else c for c in columns
    ]


def encoded(outputs, columns, top_k=None, temperature=1.0):
    """Returns what is stored of a batch of the teacher's outputs.

    Args:
        outputs: A dict of `"output"` (may be missing) and `"taps"`.
        columns: What `columns_of` returned.
        top_k: As in `columns_of`.
        temperature: The temperature at which the mass of the rest is right.

    Returns:
        A dict column name -> tensor, in the order of `columns`.
    """
    arrays = {}
    output = outputs.get("output")
    if output is not None and top_k is None:
        arrays["output"] = output
    elif output is not None:
        values, classes, rest = largest(output, top_k, temperature)
        arrays["output/values"] = values
        arrays["output/classes"] = classes
        arrays["output/rest"] = rest
    for name, tap in outputs["taps"].items():
        arrays[f"taps/{name}"] = tap
    return {c.name: tf.cast(arrays[c.name], c.dtype) for c in columns}


def decoded(rows, shapes, top_k=None, temperature=1.0):
    """Returns the teacher's outputs, in float32, from rows of the columns.

    Args:
        rows: A dict column name -> tensor `(batch, ...)`.
        shapes: As in `columns_of`.
        top_k: As in `columns_of`.
        temperature: As in `encoded`.
    """
    outputs = {"taps": {}}
    for name in shapes["taps"]:
        outputs["taps"][name] = tf.cast(rows[f"taps/{name}"], tf.float32)
    if shapes.get("output") is None:
        return outputs
    if top_k is None:
        outputs["output"] = tf.cast(rows["output"], tf.float32)
    else:
        outputs["output"] = restored(
            tf.cast(rows["output/values"], tf.float32),
            tf.cast(rows["output/classes"], tf.int32),
            tf.cast(rows["output/rest"], tf.float32),
            shapes["output"][-1],
            temperature,
        )
    return outputs


def largest(logits, k, temperature=1.0):
    """Splits logits `(..., C)` into the k largest and the rest.

    Returns:
        The k largest logits and their classes, both `(..., k)`, and
        T * logsumexp(logits / T) of the others, `(...,)`.
    """
    logits = tf.cast(logits, tf.float32)
    values, classes = tf.math.top_k(logits, k)
    size = logits.shape[-1]
    others = _scattered(
        tf.reshape(logits, [-1, size]),
        tf.reshape(classes, [-1, k]),
        tf.fill(tf.shape(tf.reshape(values, [-1, k])), -math.inf),
    )
    rest = temperature * tf.reduce_logsumexp(others / temperature, axis=-1)
    return values, classes, tf.reshape(rest, tf.shape(logits)[:-1])


def restored(values, classes, rest, size, temperature=1.0):
    """Inverts `largest`, with a flat rest: logits `(..., size)`."""
    k = values.shape[-1]
    flat = tf.reshape(rest, [-1, 1]) - temperature * math.log(size - k)
    logits = _scattered(
        tf.repeat(flat, size, axis=1),
        tf.reshape(classes, [-1, k]),
        tf.reshape(values, [-1, k]),
    )
    shape = tf.concat([tf.shape(rest), [size]], axis=0)
    logits = tf.reshape(logits, shape)
    logits.set_shape([*rest.shape, size])
    return logits


def _scattered(table, classes, values):
    """Puts `values` into a table `(m, C)` at `classes`, both `(m, k)`."""
    rows = tf.repeat(tf.range(tf.shape(classes)[0]), tf.shape(classes)[1])
    places = tf.stack([rows, tf.reshape(classes, [-1])], axis=1)
    return tf.tensor_scatter_nd_update(table, places, tf.reshape(values, [-1]))
