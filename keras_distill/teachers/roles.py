"""Holding a teacher without owning it, and knowing it again."""


def as_teacher(teacher):
    """A model as it is; a list of models as their `Ensemble`."""
    if isinstance(teacher, (list, tuple)):
        from keras_distill.teachers.ensemble import Ensemble

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
