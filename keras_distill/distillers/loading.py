"""`load_distiller`: from a saved file, with its teacher."""

import os
from typing import Any

import keras

from keras_distill._arguments import as_path
from keras_distill.distillers.base import BaseDistiller


def load_distiller(
    filepath: str | os.PathLike,
    teacher: Any = None,
    custom_objects: dict[str, Any] | None = None,
) -> BaseDistiller:
    """Loads a saved `Distiller` and gives it its teacher.

    Args:
        filepath: A `.keras` file that `Distiller.save` wrote. It holds student,
            connectors, losses, configuration, optimizer and the teacher's
            fingerprint, but not the teacher's weights. Only a moving teacher
            (`kd.MovingAverageTeacher`) is in the file itself.
        teacher: The teacher that the Distiller was saved with, a `keras.Model`
            or a list or dict of them. It is checked against the fingerprint.
            Defaults to `None`: `fit` raises until `set_teacher` gives one.
            Leave it away for a moving teacher.
        custom_objects: As in `keras.saving.load_model`.

    Returns:
        The `Distiller`, ready to go on with `fit`.

    Raises:
        ValueError: If the file holds another kind of model, or if this is not
            the teacher that the Distiller was saved with.
    """
    as_path("filepath", filepath)
    distiller = keras.saving.load_model(filepath, custom_objects=custom_objects)
    if not isinstance(distiller, BaseDistiller):
        raise ValueError(
            f"'{filepath}' holds a {type(distiller).__name__}, not a "
            "Distiller. Load it with keras.saving.load_model."
        )
    if teacher is None:
        return distiller
    if not hasattr(distiller, "set_teacher"):
        raise ValueError(
            f"'{filepath}' holds a {type(distiller).__name__}, which takes no "
            "teacher: its students teach each other. Leave teacher= away."
        )
    distiller.set_teacher(teacher)
    return distiller
