"""Losses that compare relations between samples, layers or channels."""

from keras_distill.losses.relation.contrastive_representation import (
    ContrastiveRepresentation,
)
from keras_distill.losses.relation.correlation_congruence import (
    CorrelationCongruence,
)
from keras_distill.losses.relation.flow_of_solution_procedure import (
    FlowOfSolutionProcedure,
)
from keras_distill.losses.relation.inter_channel_correlation import (
    InterChannelCorrelation,
)
from keras_distill.losses.relation.patch_similarity import PatchSimilarity
from keras_distill.losses.relation.probabilistic_transfer import (
    ProbabilisticTransfer,
)
from keras_distill.losses.relation.queue_similarity import QueueSimilarity
from keras_distill.losses.relation.relation import Relation
from keras_distill.losses.relation.relational import RelationalAngle
from keras_distill.losses.relation.relational import RelationalDistance
from keras_distill.losses.relation.similarity_preserving import (
    SimilarityPreserving,
)

__all__ = [
    "ContrastiveRepresentation",
    "CorrelationCongruence",
    "FlowOfSolutionProcedure",
    "InterChannelCorrelation",
    "PatchSimilarity",
    "ProbabilisticTransfer",
    "QueueSimilarity",
    "Relation",
    "RelationalAngle",
    "RelationalDistance",
    "SimilarityPreserving",
]
