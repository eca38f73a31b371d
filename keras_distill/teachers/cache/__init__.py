"""A teacher's outputs, computed once and read while students train."""

from keras_distill.teachers.cache.cache import TeacherCache

__all__ = [
    "TeacherCache",
]
