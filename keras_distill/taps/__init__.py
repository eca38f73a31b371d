"""Intermediate outputs of a network, by the names of its layers."""

from keras_distill.taps.paths import layer_paths
from keras_distill.taps.suggestion import Suggestion
from keras_distill.taps.suggestion import suggest
from keras_distill.taps.taps import Taps

__all__ = [
    "Suggestion",
    "Taps",
    "layer_paths",
    "suggest",
]
