"""Losses that bound the information which layers share."""

from keras_distill.losses.information.layer_aligned_variational import (
    LayerAlignedVariationalInformation,
)
from keras_distill.losses.information.variational import VariationalInformation

__all__ = [
    "LayerAlignedVariationalInformation",
    "VariationalInformation",
]
