"""The rooms of `kd.diagnose`: data, networks, a short training, words."""

from keras_distill.diagnosis.result import Diagnosis

__all__ = ["Diagnosis"]
