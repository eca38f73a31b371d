from keras_distill.losses.attention import AttentionTransfer
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.base import LayerPairLoss
from keras_distill.losses.base import weighted_mean
from keras_distill.losses.confidence_weighted_by_teacher_max import (
    ConfidenceWeightedByTeacherMax,
)
from keras_distill.losses.dark_knowledge_with_permuted_predictions import (
    DarkKnowledgeWithPermutedPredictions,
)
from keras_distill.losses.decoupled_kd import DecoupledKD
from keras_distill.losses.dist import DIST
from keras_distill.losses.hard_labels import HardLabels
from keras_distill.losses.hint import Hint
from keras_distill.losses.ideal_joint_classifier import IdealJointClassifier
from keras_distill.losses.logits_mse import LogitsMSE
from keras_distill.losses.reused_classifier import ReusedClassifier
from keras_distill.losses.soft_targets import SoftTargets
from keras_distill.losses.softmax_regression import SoftmaxRegression

__all__ = [
    "AttentionTransfer",
    "ConfidenceWeightedByTeacherMax",
    "DIST",
    "DarkKnowledgeWithPermutedPredictions",
    "DecoupledKD",
    "DistillationLoss",
    "HardLabels",
    "Hint",
    "IdealJointClassifier",
    "LayerPairLoss",
    "LogitsMSE",
    "ReusedClassifier",
    "SoftTargets",
    "SoftmaxRegression",
    "weighted_mean",
]
