"""The network as int8 computes it, to be trained."""

from keras_distill.quantization.aware import aware
from keras_distill.quantization.fake_quantize import FakeQuantize
from keras_distill.quantization.fake_quantize import QuantizedWeights
from keras_distill.quantization.proposal import Recipe
from keras_distill.quantization.proposal import Sensitivity
from keras_distill.quantization.ranges import FreezeRanges
from keras_distill.quantization.ranges import calibrate
from keras_distill.quantization.rules import rule
from keras_distill.quantization.sensitivity import sensitivity

__all__ = [
    "FakeQuantize",
    "FreezeRanges",
    "QuantizedWeights",
    "Recipe",
    "Sensitivity",
    "aware",
    "calibrate",
    "rule",
    "sensitivity",
]
