"""Distillation losses: `L_D` of the objective, by family."""

from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.base import LayerPairLoss
from keras_distill.losses.base import weighted_mean
from keras_distill.losses.classifier import IdealJointClassifier
from keras_distill.losses.classifier import ReusedClassifier
from keras_distill.losses.classifier import SoftmaxRegression
from keras_distill.losses.feature import ActivationBoundary
from keras_distill.losses.feature import AttentionTransfer
from keras_distill.losses.feature import ChannelWise
from keras_distill.losses.feature import FactorTransfer
from keras_distill.losses.feature import Hint
from keras_distill.losses.feature import KnowledgeReview
from keras_distill.losses.feature import NeuronSelectivityTransfer
from keras_distill.losses.feature import OverhauledFeature
from keras_distill.losses.information import LayerAlignedVariationalInformation
from keras_distill.losses.information import VariationalInformation
from keras_distill.losses.own_layers import EarlyExits
from keras_distill.losses.own_layers import SelfAttention
from keras_distill.losses.relation import ContrastiveRepresentation
from keras_distill.losses.relation import CorrelationCongruence
from keras_distill.losses.relation import FlowOfSolutionProcedure
from keras_distill.losses.relation import InterChannelCorrelation
from keras_distill.losses.relation import ProbabilisticTransfer
from keras_distill.losses.relation import Relation
from keras_distill.losses.relation import RelationalAngle
from keras_distill.losses.relation import RelationalDistance
from keras_distill.losses.relation import SimilarityPreserving
from keras_distill.losses.response import DIST
from keras_distill.losses.response import ConfidenceWeightedByTeacherMax
from keras_distill.losses.response import DarkKnowledgeWithPermutedPredictions
from keras_distill.losses.response import DecoupledKD
from keras_distill.losses.response import HardLabels
from keras_distill.losses.response import LogitsMSE
from keras_distill.losses.response import SoftTargets

__all__ = [
    "ActivationBoundary",
    "AttentionTransfer",
    "ChannelWise",
    "ConfidenceWeightedByTeacherMax",
    "ContrastiveRepresentation",
    "CorrelationCongruence",
    "DIST",
    "DarkKnowledgeWithPermutedPredictions",
    "DecoupledKD",
    "DistillationLoss",
    "EarlyExits",
    "FactorTransfer",
    "FlowOfSolutionProcedure",
    "HardLabels",
    "Hint",
    "IdealJointClassifier",
    "InterChannelCorrelation",
    "KnowledgeReview",
    "LayerAlignedVariationalInformation",
    "LayerPairLoss",
    "LogitsMSE",
    "NeuronSelectivityTransfer",
    "OverhauledFeature",
    "ProbabilisticTransfer",
    "Relation",
    "RelationalAngle",
    "RelationalDistance",
    "ReusedClassifier",
    "SelfAttention",
    "SimilarityPreserving",
    "SoftTargets",
    "SoftmaxRegression",
    "VariationalInformation",
    "weighted_mean",
]
