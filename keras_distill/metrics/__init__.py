"""Metrics that compare a student with its teacher."""

from keras_distill.metrics.agreement import Agreement
from keras_distill.metrics.joint_classifier import JointClassifierGap

__all__ = [
    "Agreement",
    "JointClassifierGap",
]
