"""The network as int8 computes it, to be trained."""

from keras_distill.quantization.aware import aware
from keras_distill.quantization.fake_quantize import FakeQuantize
from keras_distill.quantization.fake_quantize import QuantizedWeights
from keras_distill.quantization.ranges import FreezeRanges
from keras_distill.quantization.ranges import calibrate
from keras_distill.quantization.rules import rule

__all__ = [
    "FakeQuantize",
    "FreezeRanges",
    "QuantizedWeights",
    "aware",
    "calibrate",
    "rule",
]
