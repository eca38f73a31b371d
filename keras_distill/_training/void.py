"""Void positions: those whose label is the `ignore_class` of the task loss."""

import keras
import tensorflow as tf


def not_void(loss, y, shape):
    """Returns where the labels of one output are classes.

    Args:
        loss: The task loss of this output, or `None`.
        y: Its labels, or `None`.
        shape: The shape of its decisions, `(batch, ...)`, as a tensor.

    Returns:
        Booleans of `shape`, or `None` if the loss ignores no class.
    """
    loss, y = the_one(loss), the_one(y)
    ignored = getattr(loss, "ignore_class", None)
    if ignored is None or y is None:
        return None
    # Sparse labels may have a last axis of size 1.
    y = tf.reshape(y, shape)
    return tf.not_equal(y, tf.cast(ignored, y.dtype))


def the_one(structure):
    """Returns what belongs to the one output, also in a dict or a list."""
    leaves = [x for x in keras.tree.flatten(structure) if x is not None]
    return leaves[0] if len(leaves) == 1 else None
