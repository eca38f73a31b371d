"""The models that train: `fit` runs the distillation."""

from keras_distill.distillers.be_your_own_teacher import BeYourOwnTeacher
from keras_distill.distillers.distiller import Distiller
from keras_distill.distillers.generations.born_again import born_again
from keras_distill.distillers.loading import load_distiller
from keras_distill.distillers.mutual.mutual import MutualDistiller
from keras_distill.distillers.native_ensemble.native_ensemble import (
    NativeEnsembleDistiller,
)

__all__ = [
    "BeYourOwnTeacher",
    "Distiller",
    "MutualDistiller",
    "NativeEnsembleDistiller",
    "born_again",
    "load_distiller",
]
