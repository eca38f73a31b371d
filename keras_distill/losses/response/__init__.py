"""Losses that compare outputs: logits and probabilities."""

from keras_distill.losses.response.confidence_weighting import (
    ConfidenceWeightedByTeacherMax,
)
from keras_distill.losses.response.decoupled_kd import DecoupledKD
from keras_distill.losses.response.dist import DIST
from keras_distill.losses.response.hard_labels import HardLabels
from keras_distill.losses.response.jensen_shannon import JensenShannon
from keras_distill.losses.response.localization import LocalizationDistillation
from keras_distill.losses.response.logits_mse import LogitsMSE
from keras_distill.losses.response.permuted_predictions import (
    DarkKnowledgeWithPermutedPredictions,
)
from keras_distill.losses.response.skew_kl import SkewKL
from keras_distill.losses.response.soft_targets import SoftTargets

__all__ = [
    "ConfidenceWeightedByTeacherMax",
    "DIST",
    "DarkKnowledgeWithPermutedPredictions",
    "DecoupledKD",
    "HardLabels",
    "JensenShannon",
    "LocalizationDistillation",
    "LogitsMSE",
    "SkewKL",
    "SoftTargets",
]
