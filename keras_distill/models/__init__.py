"""Networks of the papers, for phones and for text, without weights."""

from keras_distill.models.bit_resnet import StandardizedConv2D
from keras_distill.models.bit_resnet import bit_resnet
from keras_distill.models.bit_weights import load_bit_weights
from keras_distill.models.cifar_resnet import cifar_resnet
from keras_distill.models.densenet_bc import densenet_bc
from keras_distill.models.mobile import mobile
from keras_distill.models.mobile_within import Fitted
from keras_distill.models.mobile_within import mobile_within
from keras_distill.models.preactivation_resnet import preactivation_resnet
from keras_distill.models.small_cnn import small_cnn
from keras_distill.models.transformer_classifier import transformer_classifier
from keras_distill.models.transformer_language_model import (
    transformer_language_model,
)
from keras_distill.models.wide_resnet import wide_resnet

__all__ = [
    "Fitted",
    "StandardizedConv2D",
    "bit_resnet",
    "cifar_resnet",
    "densenet_bc",
    "load_bit_weights",
    "mobile",
    "mobile_within",
    "preactivation_resnet",
    "small_cnn",
    "transformer_classifier",
    "transformer_language_model",
    "wide_resnet",
]
