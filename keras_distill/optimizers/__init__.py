"""Optimizers that the sources of this package use and Keras does not have."""

from keras_distill.optimizers.shampoo import Shampoo

__all__ = ["Shampoo"]
