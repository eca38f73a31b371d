"""Losses that pass the student's features through the teacher's classifier."""

from keras_distill.losses.classifier.ideal_joint_classifier import (
    IdealJointClassifier,
)
from keras_distill.losses.classifier.reused_classifier import ReusedClassifier
from keras_distill.losses.classifier.softmax_regression import SoftmaxRegression

__all__ = [
    "IdealJointClassifier",
    "ReusedClassifier",
    "SoftmaxRegression",
]
