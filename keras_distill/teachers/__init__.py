"""Who teaches: ensembles, moving averages, and outputs computed before."""

from keras_distill.teachers.ensemble import Ensemble
from keras_distill.teachers.moving_average import MovingAverageTeacher

__all__ = [
    "Ensemble",
    "MovingAverageTeacher",
]
