"""Metrics: how a student compares with its teacher, and perplexity."""

from keras_distill.metrics.agreement import Agreement
from keras_distill.metrics.joint_classifier import JointClassifierGap
from keras_distill.metrics.perplexity import Perplexity

__all__ = [
    "Agreement",
    "JointClassifierGap",
    "Perplexity",
]
