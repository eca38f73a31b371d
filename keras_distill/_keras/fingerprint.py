"""Telling one set of weights from another; nothing private here."""

import hashlib

import keras
import numpy as np

from keras_distill._keras.layers import flatten_layers


def fingerprint(model):
    """SHA-256 over shapes, dtypes and values of a model's weights, in order.

    Of a `kd.BlackBox` it is that of its file.

    Args:
        model: A built `keras.Model`.

    Returns:
        64 hexadecimal digits. Names do not count: Keras numbers them anew in
        every process.
    """
    boxes = black_boxes(model)
    if len(boxes) == 1 and not model.weights:
        return boxes[0]
    digest = hashlib.sha256()
    for sha256 in boxes:
        digest.update(sha256.encode())
    for variable in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.shape} {value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def black_boxes(model):
    """Returns the fingerprints of the `kd.BlackBox`es inside of a model."""
    found = [getattr(x, "source_sha256", None) for x in flatten_layers(model)]
    return [sha256 for sha256 in found if sha256 is not None]
