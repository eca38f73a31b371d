"""Losses that compare feature maps, layer by layer."""

from keras_distill.losses.feature.activation_boundary import ActivationBoundary
from keras_distill.losses.feature.attention import AttentionTransfer
from keras_distill.losses.feature.channel_wise import ChannelWise
from keras_distill.losses.feature.factor_transfer import FactorTransfer
from keras_distill.losses.feature.hint import Hint
from keras_distill.losses.feature.knowledge_review import KnowledgeReview
from keras_distill.losses.feature.masked_generative import MaskedGenerative
from keras_distill.losses.feature.multi_task_feature import MultiTaskFeature
from keras_distill.losses.feature.neuron_selectivity import (
    NeuronSelectivityTransfer,
)
from keras_distill.losses.feature.overhauled_feature import OverhauledFeature
from keras_distill.losses.feature.pearson_feature import PearsonFeature

__all__ = [
    "ActivationBoundary",
    "AttentionTransfer",
    "ChannelWise",
    "FactorTransfer",
    "Hint",
    "KnowledgeReview",
    "MaskedGenerative",
    "MultiTaskFeature",
    "NeuronSelectivityTransfer",
    "OverhauledFeature",
    "PearsonFeature",
]
