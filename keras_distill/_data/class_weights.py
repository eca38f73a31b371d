"""Weights of classes for labels with positions: tokens, pixels.

Keras weighs samples by their label, and takes one label per sample only.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_distill._shapes import is_one_shape


def weigh_positions(
    x, y, sample_weight, class_weight, output_shape, validation_split=0.0
):
    """Turns weights of classes into weights of positions, where there are some.

    Args:
        x, y, sample_weight, class_weight: As in `fit`.
        output_shape: The shape of the student's output, or a structure.
        validation_split: The part of the arrays, at their end, that classes
            do not weigh.

    Returns:
        `x`, `sample_weight` and `class_weight`, of which Keras weighs what is
        left.
    """
    import tensorflow as tf

    if class_weight is None or output_shape is None:
        return x, sample_weight, class_weight
    if not is_one_shape(output_shape) and len(output_shape) > 1:
        raise ValueError(
            "class_weight weighs the classes of one output, and the student "
            f"has {len(output_shape)}. Received: class_weight={class_weight}. "
            "Give the weight of each label of an output instead, an array of "
            "the shape of its sparse labels: sample_weight={'name of the "
            "output': weights}."
        )
    if not is_one_shape(output_shape) or len(output_shape) < 3:
        return x, sample_weight, class_weight
    if isinstance(x, tf.data.Dataset):
        return weighed_dataset(x, class_weight, output_shape), None, None
    if y is None or keras.tree.is_nested(y):
        raise ValueError(
            "class_weight for labels with positions (tokens, pixels) takes "
            "arrays or a tf.data.Dataset. Received: x of "
            f"{type(x).__name__}. Give the weight of each position in the "
            "batches: (x, y, sample_weight)."
        )
    weight = np.array(weights_of_labels(y, class_weight, output_shape))
    weight[math.floor(len(weight) * (1.0 - validation_split)) :] = 1.0
    return x, np.asarray(_times(weight, sample_weight)), None


def weighed_dataset(dataset, class_weight, output_shape):
    """Returns a `tf.data.Dataset` with the weights in its batches."""
    import tensorflow as tf

    def weighed(x, y, sample_weight=None):
        weight = weights_of_labels(y, class_weight, output_shape)
        return x, y, _times(weight, sample_weight)

    return dataset.map(weighed, num_parallel_calls=tf.data.AUTOTUNE)


def _times(weight, sample_weight):
    """Multiplies weights of positions by those of samples or positions."""
    if sample_weight is None:
        return weight
    given = ops.cast(sample_weight, keras.config.floatx())
    if len(given.shape) > len(weight.shape):
        given = ops.squeeze(given, axis=-1)
    missing = len(weight.shape) - len(given.shape)
    return weight * given[(..., *[None] * missing)]


def weights_of_labels(y, class_weight, output_shape):
    """Returns the weight of each position's class, 1 for other labels.

    Args:
        y: Labels `(batch, ...)`, `(batch, ..., 1)` or, one-hot,
            `(batch, ..., classes)`.
        class_weight: A dict class -> weight.
        output_shape: The shape of the student's output.

    Returns:
        `(batch, ...)` in Keras's float type.
    """
    if len(y.shape) == len(output_shape):
        one_hot = y.shape[-1] != 1
        y = ops.argmax(y, axis=-1) if one_hot else ops.squeeze(y, axis=-1)
    weight = ops.ones_like(y, dtype=keras.config.floatx())
    for label, value in class_weight.items():
        weight = ops.where(ops.equal(y, label), float(value), weight)
    return weight
