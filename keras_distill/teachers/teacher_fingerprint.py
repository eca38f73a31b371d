"""The fingerprint of a Distiller's teacher."""

from keras_distill._keras.fingerprint import fingerprint


def teacher_fingerprint(distiller):
    """Of the Distiller's teacher, or of the one it was saved with; `None`
    if there never was one, or if it moves: then it is saved itself."""
    teacher = distiller._networks().teacher
    if distiller._networks().moving_teacher is not None:
        return None
    if teacher is None:
        return distiller._teacher_fingerprint
    return fingerprint(teacher)
