"""Students that teach each other, without a trained teacher."""

from keras_distill.online.mutual import MutualDistiller
from keras_distill.online.native_ensemble import NativeEnsembleDistiller

__all__ = ["MutualDistiller", "NativeEnsembleDistiller"]
