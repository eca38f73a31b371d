"""Knowledge distillation as a first-class Keras workflow."""

from keras_distill import datasets
from keras_distill import losses
from keras_distill import metrics
from keras_distill import taps
from keras_distill import views
from keras_distill._version import __version__
from keras_distill.distiller import Distiller
from keras_distill.ensemble import Ensemble
from keras_distill.teacher import load_distiller

__all__ = [
    "Distiller",
    "Ensemble",
    "__version__",
    "datasets",
    "load_distiller",
    "losses",
    "metrics",
    "taps",
    "views",
]
