"""Holding a teacher without owning it, and knowing it again."""

import hashlib

import keras
import numpy as np


class Unowned:
    """A reference that Keras does not follow.

    Keras tracks every model, layer and container that is an attribute of a
    model, also through properties: the teacher would be in each checkpoint,
    in `trainable_variables` and in `count_params`.
    """

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def as_teacher(teacher):
    """A model as it is; a list of models as their `Ensemble`."""
    if isinstance(teacher, (list, tuple)):
        from keras_distill.ensemble import Ensemble

        return Ensemble(list(teacher))
    return teacher


def moving_teacher(teacher, student):
    """The teacher if it changes with its student, `None` for a fixed one.

    A moving teacher defines `network`, the `keras.Model` that teaches, with
    weights like the student's, and

        follow(student, moved)     # after each step; moved: a scalar boolean,
                                   # whether the student's weights changed

    It is saved with the Distiller and has no fingerprint.
    """
    if not callable(getattr(teacher, "follow", None)):
        return None
    own, other = (
        [tuple(v.shape) for v in model.weights]
        for model in (teacher.network, student)
    )
    if own != other:
        raise ValueError(
            f"The teacher '{teacher.name}' follows another network than the "
            f"student '{student.name}': it has {len(own)} weights, the student "
            f"{len(other)}, or their shapes differ. Make it from this student: "
            "kd.MovingAverageTeacher(student)."
        )
    return teacher


def fingerprint(model):
    """SHA-256 over shapes, dtypes and values of a model's weights, in order.

    Args:
        model: A built `keras.Model`.

    Returns:
        64 hexadecimal digits. Names do not count: Keras numbers them anew in
        every process.
    """
    digest = hashlib.sha256()
    for variable in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.shape} {value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def load_distiller(filepath, teacher=None, custom_objects=None):
    """Loads a saved `Distiller` and gives it its teacher.

    Args:
        filepath: A `.keras` file written by `Distiller.save`. It holds student,
            connectors, losses, configuration, optimizer and the teacher's
            fingerprint, never the teacher's weights; a moving teacher
            (`kd.MovingAverageTeacher`) is in it.
        teacher: The teacher it was saved with, a `keras.Model` or a list. It
            is checked against the fingerprint. `None`: none is set, and `fit`
            raises until `set_teacher` gives one. Not for a moving teacher.
        custom_objects: As in `keras.saving.load_model`.

    Returns:
        The `Distiller`, ready to go on with `fit`.

    Raises:
        ValueError: for another teacher than the one it was saved with.
    """
    distiller = keras.saving.load_model(filepath, custom_objects=custom_objects)
    if not callable(getattr(distiller, "set_teacher", None)):
        raise ValueError(
            f"'{filepath}' holds a {type(distiller).__name__}, not a "
            "Distiller. Load it with keras.saving.load_model."
        )
    if teacher is not None:
        distiller.set_teacher(teacher)
    return distiller
