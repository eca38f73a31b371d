"""The network as int8 computes it, to be trained."""

import importlib

from keras_distill.quantization.aware import aware
from keras_distill.quantization.fake_quantize import FakeQuantize
from keras_distill.quantization.fake_quantize import QuantizedWeights
from keras_distill.quantization.fine_tuning import fine_tune
from keras_distill.quantization.ranges import FreezeRanges
from keras_distill.quantization.ranges import calibrate
from keras_distill.quantization.rules import rule

__all__ = [
    "FakeQuantize",
    "FreezeRanges",
    "QuantizedWeights",
    "Recipe",
    "Sensitivity",
    "aware",
    "calibrate",
    "fine_tune",
    "rule",
    "sensitivity",
]

# These need kd.export, which needs this package.
_LATER_NAMES = {
    "Recipe": "layerwise.proposal",
    "Sensitivity": "layerwise.proposal",
    "sensitivity": "layerwise.sensitivity",
}


def __getattr__(name):
    if name in _LATER_NAMES:
        module = importlib.import_module(f"{__name__}.{_LATER_NAMES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__():
    return __all__
