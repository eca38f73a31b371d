"""Rows of the relation family for `test_all_losses.py`."""

import functools

from loss_checks import LossCase

from keras_distill import losses

MAP = (3, 4, 4, 5)
TEACHER_TAPS = {"late": (3, 4, 4, 5), "early": (3, 8, 8, 4)}
STUDENT_TAPS = {"deep": (3, 4, 4, 3), "above": (3, 8, 8, 2)}
SAME_TAPS = {"deep": (3, 4, 4, 5), "above": (3, 8, 8, 4)}
IGNORES_WEIGHTS = {
    "sample_weight": "relations belong to no single sample: weights are ignored"
}

NORMALIZED = {
    "gradient": "the first step's Z is a constant, though it follows the taps: "
    "see test_contrastive_representation.py"
}


def coupled(loss, teacher, student=None, **kwargs):
    """A row for a loss that ignores sample weights."""
    return LossCase(
        functools.partial(loss, **kwargs),
        teacher,
        student or teacher,
        skip=IGNORES_WEIGHTS,
    )


def weighted(loss, teacher, student=None, coupled=None, **kwargs):
    """A row for a loss per sample."""
    return LossCase(
        functools.partial(loss, **kwargs),
        teacher,
        student or teacher,
        coupled=coupled,
    )


def contrast(teacher, student, **kwargs):
    """A row for a loss whose draws depend on the size of the batch."""
    return LossCase(
        functools.partial(
            losses.ContrastiveRepresentation,
            sample_count=11,
            embedding_size=6,
            **kwargs,
        ),
        teacher,
        student,
        coupled=True,
        skip={} if kwargs.get("form") == "paper" else NORMALIZED,
    )


RELATION = functools.partial(coupled, losses.Relation)
DISTANCE = functools.partial(coupled, losses.RelationalDistance)
ANGLE = functools.partial(coupled, losses.RelationalAngle)
SIMILARITY = functools.partial(coupled, losses.SimilarityPreserving)
CONGRUENCE = functools.partial(coupled, losses.CorrelationCongruence)
TRANSFER = functools.partial(coupled, losses.ProbabilisticTransfer)
QUEUE = functools.partial(weighted, losses.QueueSimilarity, queue_size=6)
PATCHES = functools.partial(weighted, losses.PatchSimilarity)
FLOW = functools.partial(weighted, losses.FlowOfSolutionProcedure)
CHANNELS = functools.partial(weighted, losses.InterChannelCorrelation)

WIDE, NARROW = (4, 7), (4, 3)

CASES = {
    "relation": RELATION(WIDE, NARROW),
    "relation_absolute_distance": RELATION(
        WIDE, NARROW, potential="absolute_distance", metric="mae"
    ),
    "relation_angle": RELATION(
        WIDE, NARROW, potential="angle", metric="frobenius"
    ),
    "relation_gram": RELATION(MAP, potential="gram", metric="mse"),
    "relation_cosine": RELATION(WIDE, potential="cosine", metric="huber"),
    "relation_gaussian": RELATION(WIDE, potential="gaussian", metric="mse"),
    "relation_probability": RELATION(
        WIDE, NARROW, potential="probability", metric="kl"
    ),
    "relation_layers": RELATION(
        TEACHER_TAPS,
        STUDENT_TAPS,
        potential="similarity",
        layer_weights=[1.0, 0.3],
        cross_replica=True,
    ),
    "relational_distance": DISTANCE(WIDE, NARROW),
    "relational_distance_normalize": DISTANCE(WIDE, NARROW, normalize=True),
    "relational_distance_layers": DISTANCE(
        TEACHER_TAPS, STUDENT_TAPS, layer_weights=[1.0, 0.3]
    ),
    "relational_angle": ANGLE(WIDE, NARROW),
    "relational_angle_normalize": ANGLE(WIDE, NARROW, normalize=True),
    "relational_angle_layers": ANGLE(TEACHER_TAPS, STUDENT_TAPS),
    "similarity_preserving": SIMILARITY(MAP, (3, 2, 3, 4)),
    "similarity_preserving_layers": SIMILARITY(
        TEACHER_TAPS, STUDENT_TAPS, layer_weights=[1.0, 0.3]
    ),
    "correlation_congruence": CONGRUENCE(WIDE, NARROW),
    "correlation_congruence_norm": CONGRUENCE(
        WIDE, form="norm", gamma=0.1, order=3, normalize=False
    ),
    "correlation_congruence_bilinear": CONGRUENCE(
        WIDE, NARROW, kernel="bilinear"
    ),
    "correlation_congruence_delta": CONGRUENCE(WIDE, form="delta"),
    "correlation_congruence_layers": CONGRUENCE(TEACHER_TAPS, STUDENT_TAPS),
    "probabilistic_transfer": TRANSFER(WIDE, NARROW),
    "probabilistic_transfer_code": TRANSFER(WIDE, NARROW, form="code"),
    "probabilistic_transfer_layers": TRANSFER(TEACHER_TAPS, STUDENT_TAPS),
    "queue_similarity": QUEUE(WIDE, NARROW),
    "queue_similarity_maps": QUEUE(MAP, (3, 2, 3, 4)),
    "queue_similarity_seed": QUEUE(
        WIDE, temperature=0.2, teacher_temperature=0.01
    ),
    "patch_similarity": PATCHES(MAP, (3, 2, 3, 4)),
    "patch_similarity_sequence": PATCHES((3, 4, 7), (3, 4, 5)),
    "patch_similarity_layers": PATCHES(
        TEACHER_TAPS, STUDENT_TAPS, layer_weights=[1.0, 0.3]
    ),
    "flow_of_solution_procedure": FLOW(TEACHER_TAPS, SAME_TAPS),
    "flow_of_solution_procedure_paper": FLOW(
        TEACHER_TAPS, SAME_TAPS, form="paper", pooling="max", flows="disjoint"
    ),
    "flow_of_solution_procedure_norm": FLOW(
        TEACHER_TAPS, SAME_TAPS, form="norm", layer_weights=[0.3]
    ),
    "flow_of_solution_procedure_regressor": FLOW(
        TEACHER_TAPS, STUDENT_TAPS, regressor="auto"
    ),
    "inter_channel_correlation": CHANNELS(MAP, (3, 2, 3, 5)),
    "inter_channel_correlation_code": CHANNELS(
        MAP,
        form="code",
        coupled=True,  # Divided by the batch once more.
    ),
    "inter_channel_correlation_layers": CHANNELS(
        TEACHER_TAPS, STUDENT_TAPS, layer_weights=[1.0, 0.3]
    ),
    "inter_channel_correlation_bn": CHANNELS(
        MAP, (3, 4, 4, 3), regressor="conv_bn_relu", coupled=True
    ),
    "contrastive_representation": contrast(WIDE, NARROW, negatives=8),
    "contrastive_representation_few": contrast(
        MAP, (3, 2, 2, 4), negatives=1, temperature=0.2
    ),
    "contrastive_representation_classes": contrast(
        WIDE, NARROW, negatives=20, negatives_from="other_classes"
    ),
    "contrastive_representation_paper": contrast(
        WIDE, NARROW, negatives=8, form="paper", momentum=0.9
    ),
}
