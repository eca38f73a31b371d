"""Losses that compare the layers of transformers."""

from keras_distill.losses.transformer.attention_probabilities import (
    AttentionProbabilities,
)
from keras_distill.losses.transformer.attention_relation import (
    AttentionRelation,
)
from keras_distill.losses.transformer.hidden_states import HiddenStates

__all__ = ["AttentionProbabilities", "AttentionRelation", "HiddenStates"]
