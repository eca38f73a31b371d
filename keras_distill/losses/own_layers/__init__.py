"""Losses by which a network learns from its own layers."""

from keras_distill.losses.own_layers.early_exits import EarlyExits
from keras_distill.losses.own_layers.self_attention import SelfAttention

__all__ = [
    "EarlyExits",
    "SelfAttention",
]
