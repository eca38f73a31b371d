"""Who teaches: ensembles, moving averages, and outputs computed before."""

from keras_distill.teachers import cache
from keras_distill.teachers.cache import StoredOutputs
from keras_distill.teachers.cache import TeacherRun
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.teachers.moving_average import MovingAverageTeacher

__all__ = [
    "Ensemble",
    "MovingAverageTeacher",
    "StoredOutputs",
    "TeacherCache",
    "TeacherRun",
]


def __getattr__(name):
    if name == "TeacherCache":
        return cache.TeacherCache
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
