"""The kinds of teacher: a model, a list or dict of models, one that moves."""

from collections.abc import Mapping

from keras_distill._arguments import checked_models


def as_teacher(teacher):
    """Returns a model as it is, a list of models as their `Ensemble`, and a
    dict of them as `Teachers`."""
    if isinstance(teacher, Mapping):
        from keras_distill.teachers.teachers import Teachers

        return Teachers(teacher)
    if isinstance(teacher, (list, tuple)):
        checked_models("teacher", teacher)
        from keras_distill.teachers.ensemble import Ensemble

        return Ensemble(list(teacher))
    return teacher


def as_one_teacher(teacher):
    """Does the same for tools that look at one output: no `Teachers`."""
    members = getattr(teacher, "members", teacher)
    if isinstance(members, Mapping):
        raise ValueError(
            f"teacher: this looks at one teacher, and received {len(members)} "
            f"by name, {list(members)}. Pass one of them, or a list, which "
            "teaches the mean of their probabilities (kd.Ensemble). "
            "kd.Distiller takes teachers by name."
        )
    return as_teacher(teacher)


def moving_teacher(teacher, student):
    """Returns the teacher if it changes with its student, otherwise `None`.

    A moving teacher defines `network`, the `keras.Model` that teaches, with
    weights like the student's, and

        follow(student, moved)     # after each step; moved: a scalar boolean,
                                   # whether the student's weights changed

    It is saved with the Distiller and has no fingerprint.
    """
    if not callable(getattr(teacher, "follow", None)):
        return None
    of_teacher, of_student = (
        [tuple(v.shape) for v in model.weights]
        for model in (teacher.network, student)
    )
    if of_teacher != of_student:
        raise ValueError(
            f"The teacher '{teacher.name}' follows another network than the "
            f"student '{student.name}': it has {len(of_teacher)} weights, the "
            f"student {len(of_student)}, or their shapes differ. Make it from "
            "this student: kd.MovingAverageTeacher(student)."
        )
    return teacher
