from keras_distill.losses.activation_boundary import ActivationBoundary
from keras_distill.losses.attention import AttentionTransfer
from keras_distill.losses.base import DistillationLoss
from keras_distill.losses.base import LayerPairLoss
from keras_distill.losses.base import weighted_mean
from keras_distill.losses.channel_wise import ChannelWise
from keras_distill.losses.confidence_weighted_by_teacher_max import (
    ConfidenceWeightedByTeacherMax,
)
from keras_distill.losses.contrastive_representation import (
    ContrastiveRepresentation,
)
from keras_distill.losses.correlation_congruence import CorrelationCongruence
from keras_distill.losses.dark_knowledge_with_permuted_predictions import (
    DarkKnowledgeWithPermutedPredictions,
)
from keras_distill.losses.decoupled_kd import DecoupledKD
from keras_distill.losses.dist import DIST
from keras_distill.losses.early_exits import EarlyExits
from keras_distill.losses.factor_transfer import FactorTransfer
from keras_distill.losses.flow_of_solution_procedure import (
    FlowOfSolutionProcedure,
)
from keras_distill.losses.hard_labels import HardLabels
from keras_distill.losses.hint import Hint
from keras_distill.losses.ideal_joint_classifier import IdealJointClassifier
from keras_distill.losses.inter_channel_correlation import (
    InterChannelCorrelation,
)
from keras_distill.losses.knowledge_review import KnowledgeReview
from keras_distill.losses.layer_aligned_variational import (
    LayerAlignedVariationalInformation,
)
from keras_distill.losses.logits_mse import LogitsMSE
from keras_distill.losses.neuron_selectivity import NeuronSelectivityTransfer
from keras_distill.losses.overhauled_feature import OverhauledFeature
from keras_distill.losses.probabilistic_transfer import ProbabilisticTransfer
from keras_distill.losses.relation import Relation
from keras_distill.losses.relational import RelationalAngle
from keras_distill.losses.relational import RelationalDistance
from keras_distill.losses.reused_classifier import ReusedClassifier
from keras_distill.losses.self_attention import SelfAttention
from keras_distill.losses.similarity_preserving import SimilarityPreserving
from keras_distill.losses.soft_targets import SoftTargets
from keras_distill.losses.softmax_regression import SoftmaxRegression
from keras_distill.losses.variational import VariationalInformation

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
