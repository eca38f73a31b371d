"""Loading a saved Distiller."""

import keras


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
