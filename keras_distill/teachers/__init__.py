"""Who teaches: ensembles, moving averages, black boxes, stored outputs."""

from keras_distill.teachers import cache
from keras_distill.teachers.black_box import BlackBox
from keras_distill.teachers.cache import StoredOutputs
from keras_distill.teachers.cache import TeacherRun
from keras_distill.teachers.class_names import class_map
from keras_distill.teachers.combination import Combination
from keras_distill.teachers.ensemble import Ensemble
from keras_distill.teachers.input_scale import InputScale
from keras_distill.teachers.input_scale import best_input_scale
from keras_distill.teachers.input_scale import input_scaling
from keras_distill.teachers.loading import load_teacher
from keras_distill.teachers.logits import Logits as Logits  # A saved class.
from keras_distill.teachers.moving_average import MovingAverageTeacher
from keras_distill.teachers.teachers import Teachers

__all__ = [
    "BlackBox",
    "Combination",
    "Ensemble",
    "InputScale",
    "MovingAverageTeacher",
    "StoredOutputs",
    "TeacherCache",
    "TeacherRun",
    "Teachers",
    "best_input_scale",
    "class_map",
    "input_scaling",
    "load_teacher",
]


def __getattr__(name):
    if name == "TeacherCache":
        return cache.TeacherCache
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
