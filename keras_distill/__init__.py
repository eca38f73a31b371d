"""Knowledge distillation as a first-class Keras workflow."""

import importlib

from keras_distill import _command as _command  # First: it hides a log.
from keras_distill import calibration
from keras_distill import cost
from keras_distill import losses
from keras_distill import metrics
from keras_distill import models
from keras_distill import multitask
from keras_distill import optimizers
from keras_distill import quantization
from keras_distill import recipes
from keras_distill import taps
from keras_distill import views
from keras_distill._version import __version__
from keras_distill.distillers import BeYourOwnTeacher
from keras_distill.distillers import Distiller
from keras_distill.distillers import MutualDistiller
from keras_distill.distillers import NativeEnsembleDistiller
from keras_distill.distillers import born_again
from keras_distill.distillers import load_distiller
from keras_distill.teachers import BlackBox
from keras_distill.teachers import Ensemble
from keras_distill.teachers import MovingAverageTeacher
from keras_distill.teachers import Teachers
from keras_distill.teachers import load_teacher

__all__ = [
    "BeYourOwnTeacher",
    "BlackBox",
    "Distiller",
    "Ensemble",
    "MovingAverageTeacher",
    "MutualDistiller",
    "NativeEnsembleDistiller",
    "TeacherCache",
    "Teachers",
    "__version__",
    "born_again",
    "calibration",
    "callbacks",
    "choose",
    "cost",
    "datasets",
    "diagnose",
    "distill",
    "export",
    "load_distiller",
    "load_teacher",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "multitask",
    "pretrain",
    "quantization",
    "recipes",
    "report",
    "taps",
    "views",
    "write_report",
]

# These import tensorflow, which the losses do not need, or take time: they are
# there when first used, and the losses run where tensorflow is not installed.
# They register no class: a saved model loads where the package is imported.
_LATER = (
    "callbacks",
    "datasets",
    "export",
    "report",
)
# Names that live in such a module.
_LATER_NAMES = {
    "TeacherCache": "teachers.cache.cache",
    "choose": "diagnosis.choosing",
    "diagnose": "diagnosis",
    "distill": "workflow",
    "pretrain": "pretraining",
    "write_report": "report",
}


def __getattr__(name):
    if name in _LATER:
        return importlib.import_module(f"keras_distill.{name}")
    if name in _LATER_NAMES:
        module = importlib.import_module(f"keras_distill.{_LATER_NAMES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'keras_distill' has no attribute '{name}'")


def __dir__():
    return __all__
