"""Optimizers that the sources of this package use and Keras does not have."""

from keras_distill.optimizers.decoupled_adam import DecoupledAdam
from keras_distill.optimizers.shampoo import Shampoo

__all__ = ["DecoupledAdam", "Shampoo"]
