"""The fingerprint of a Distiller's teacher."""

import hashlib
import weakref
from collections.abc import MutableMapping
from typing import Any

import keras
import numpy as np

from keras_distill._keras.fingerprint import black_boxes
from keras_distill._keras.fingerprint import fingerprint

# Teacher -> (its weights' sums, its fingerprint).
_REMEMBERED: MutableMapping[Any, tuple[bytes, str]] = (
    weakref.WeakKeyDictionary()
)


def teacher_fingerprint(distiller):
    """Returns the fingerprint of the teacher.

    Of a loaded Distiller without a teacher, it is that of the teacher it was
    saved with. `None` if there never was one, or if it moves and so is saved
    with the Distiller.
    """
    teacher = distiller._networks().teacher
    if distiller._networks().moving_teacher is not None:
        return None
    if teacher is None:
        return distiller._teacher_fingerprint
    # Every checkpoint asks. Sums of the weights cost a fifth of SHA-256, and
    # show when you changed a weight in between.
    sums = _sums(teacher)
    remembered = _REMEMBERED.get(teacher)
    if remembered is None or remembered[0] != sums:
        remembered = _REMEMBERED[teacher] = sums, fingerprint(teacher)
    return remembered[1]


def _sums(model, columns=1021):
    """Returns a digest of sums over the bits of a model's weights.

    Each 64-bit word goes to the sum of its position modulo `columns`, a prime:
    reordered weights, too, give other sums.
    """
    digest = hashlib.sha256("".join(black_boxes(model)).encode())
    for variable in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.shape} {value.dtype}".encode())
        raw = value.reshape(-1).view("uint8")
        end = len(raw) - len(raw) % (8 * columns)
        words = raw[:end].view("uint64").reshape(-1, columns)
        digest.update(words.sum(axis=0, dtype="uint64").tobytes())
        digest.update(raw[end:].tobytes())
    return digest.digest()
