"""A teacher's outputs, computed once and read while students train."""

from keras_distill.teachers.cache.options import StoredOutputs
from keras_distill.teachers.cache.options import TeacherRun

__all__ = [
    "StoredOutputs",
    "TeacherCache",
    "TeacherRun",
]


def __getattr__(name):
    # It imports tensorflow, which the losses do not need.
    if name == "TeacherCache":
        from keras_distill.teachers.cache.cache import TeacherCache

        return TeacherCache
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
