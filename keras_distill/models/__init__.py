"""Networks of the papers, small and readable, without weights."""

from keras_distill.models.bit_resnet import StandardizedConv2D
from keras_distill.models.bit_resnet import bit_resnet50
from keras_distill.models.cifar_resnet import cifar_resnet

__all__ = ["StandardizedConv2D", "bit_resnet50", "cifar_resnet"]
