"""From a trained model to a phone file, in one call."""

from keras_distill.workflow.distilling import distill
from keras_distill.workflow.result import Distilled

__all__ = ["Distilled", "distill"]
