"""Aligns the layers of teacher and student, and joins two features."""

import numpy as np
from keras import layers
from keras import ops

from keras_distill.losses.feature.fusion import resize_nearest
from keras_distill.losses.ops.pooling import adaptive_average_pool

ALIGNMENTS = ("identity", "uniform", "learned")


def checked_alignment(alignment, teachers, students):
    """Checks a name, or a matrix `[teachers, students]` of shares.

    Args:
        alignment: One of `ALIGNMENTS`, or a matrix whose columns sum to 1.
        teachers: The number of layers of the teacher.
        students: The number of layers of the student.

    Returns:
        The name, or the matrix as nested lists of floats.

    Raises:
        ValueError: for anything else. Names columns that do not sum to 1.
    """
    if isinstance(alignment, str):
        if alignment not in ALIGNMENTS:
            raise ValueError(
                f"alignment must be one of {', '.join(map(repr, ALIGNMENTS))} "
                f"or a matrix. Received: {alignment!r}"
            )
        if alignment == "identity" and teachers != students:
            raise ValueError(
                'alignment="identity" pairs layers one to one, but there are '
                f"{teachers} of the teacher and {students} of the student. "
                'Pass alignment="uniform", "learned" or a matrix.'
            )
        return alignment
    try:
        matrix = np.array(alignment, "float64")
    except (TypeError, ValueError):
        matrix = np.zeros(())
    if matrix.shape != (teachers, students):
        raise ValueError(
            "alignment must be a matrix with one row per layer of the teacher "
            f"and one column per layer of the student ({teachers} x "
            f"{students}). Received: {alignment!r}"
        )
    sums = matrix.sum(axis=0)
    wrong = np.flatnonzero(~(np.abs(sums - 1.0) <= 1e-6)).tolist()
    if wrong or not (matrix >= 0.0).all():
        raise ValueError(
            "alignment must not be negative, and each of its columns (one per "
            "layer of the student) must sum to 1. Received: "
            f"{matrix.tolist()}, whose columns sum to {sums.tolist()}"
            + (f"; wrong: column {wrong}." if wrong else ".")
        )
    return matrix.tolist()


def fixed_alignment(alignment, teachers, students):
    """Returns the matrix as a NumPy array; a learned one starts uniform."""
    if alignment == "identity":
        return np.eye(teachers)
    if isinstance(alignment, str):
        return np.full((teachers, students), 1.0 / teachers)
    return np.array(alignment)


def check_alignable(teacher_shape, student_shape):
    """Raises if `aligned` cannot join two features."""
    t, s = tuple(teacher_shape), tuple(student_shape)
    ranks = {len(t), len(s)}
    problem = None
    if not ranks <= {2, 3, 4} or None in (t[-1], s[-1]):
        problem = "each must be (batch, ..., channels) with known channels"
    elif ranks == {3, 4}:
        problem = "a sequence cannot be compared with a map"
    elif ranks == {3} and None not in (t[1], s[1]) and t[1] != s[1]:
        problem = "sequences must have the same length"
    elif ranks == {4} and None in (*t[1:3], *s[1:3]) and t[1:3] != s[1:3]:
        problem = "maps that differ in size must have known sizes"
    if problem:
        raise ValueError(
            f"The features cannot be compared: {problem}. Received: teacher "
            f"{t}, student {s}. Tap other layers with teacher_layer_name= and "
            "student_layer_name=, or leave the pair out with alignment= a "
            "matrix that is 0 there."
        )


def make_projection(teacher_shape, student_shape, dtype):
    """Builds a linear map of the student's channels to the teacher's."""
    check_alignable(teacher_shape, student_shape)
    projection = layers.Dense(teacher_shape[-1], dtype=dtype)
    projection.build((None, student_shape[-1]))
    return projection


def aligned(projection, student, teacher):
    """Projects the student's feature into the shape of the teacher's.

    A vector is the same at every position of a map, a map is averaged to meet
    a vector, and maps are averaged down or repeated. The teacher's feature
    stays, so that the entropy of its layer is the same in every pair.

    Args:
        projection: The layer from `make_projection`.
        student: `(batch, ..., student_channels)`.
        teacher: `(batch, ..., channels)`.
    """
    if len(teacher.shape) == 2 < len(student.shape):
        positions = tuple(range(1, len(student.shape) - 1))
        return projection(ops.mean(student, axis=positions))
    if len(student.shape) == 2 < len(teacher.shape):
        x = projection(student)
        for _ in teacher.shape[2:]:
            x = ops.expand_dims(x, 1)
        return x
    if len(student.shape) != 4 or student.shape[1:3] == teacher.shape[1:3]:
        return projection(student)
    size = teacher.shape[1:3]
    smaller = [min(a, b) for a, b in zip(size, student.shape[1:3])]
    x = projection(adaptive_average_pool(student, *smaller))
    return resize_nearest(x, *size)
