"""Rows of the feature losses for `test_all_losses.py`."""

import functools

from loss_checks import LossCase

from keras_distill import losses


def features(loss, teacher, student=None, coupled=None, skip=None, **kwargs):
    """A row for a loss of feature maps, of one tap or a dict of taps."""
    return LossCase(
        functools.partial(loss, **kwargs),
        teacher,
        student or teacher,
        coupled=coupled,
        skip=skip or {},
    )


VID = functools.partial(features, losses.VariationalInformation)
NST = functools.partial(features, losses.NeuronSelectivityTransfer)
BOUNDARY = functools.partial(features, losses.ActivationBoundary)
OVERHAULED = functools.partial(features, losses.OverhauledFeature, margin=-0.5)
FACTOR = functools.partial(
    features, losses.FactorTransfer, paraphraser_epochs=0
)
MULTI_TASK = functools.partial(features, losses.MultiTaskFeature)
REVIEW = functools.partial(features, losses.KnowledgeReview)
CHANNEL_WISE = functools.partial(features, losses.ChannelWise)
PEARSON = functools.partial(
    features,
    losses.PearsonFeature,
    skip={"sample_weight": "in statistics; see test_pearson_feature.py"},
)
# Coupled in so far as the seed gives another mask to another batch.
MASKED = functools.partial(
    features,
    losses.MaskedGenerative,
    coupled=True,
    skip={"jit": "TensorFlow draws other random numbers under XLA"},
)
BOXES = functools.partial(features, losses.LocalizationDistillation)
SELF = functools.partial(
    features,
    losses.SelfAttention,
    {},
    skip={"gradient": "imitated maps have none; see test_self_attention.py"},
)


def exits(student, **kwargs):
    """A row for exits; the last of the taps are the logits."""
    classes = list(student.values())[-1][-1]
    return LossCase(
        functools.partial(losses.EarlyExits, **kwargs),
        {},
        student,
        coupled=True,
        labels=lambda generator, batch: generator.integers(0, classes, batch),
        skip={"gradient": "the deepest has none; see test_early_exits.py"},
    )


ALIGNED = functools.partial(features, losses.LayerAlignedVariationalInformation)

MAP = (3, 4, 4, 5)
NARROW_MAP = (3, 4, 4, 3)
# Not in alphabetical order: the order of the taps is that of the arguments.
TEACHER_TAPS = {"late": (3, 4, 4, 5), "early": (3, 8, 8, 4)}
STUDENT_TAPS = {"deep": (3, 4, 4, 3), "above": (3, 8, 8, 2)}

CASES = {
    "variational_information": VID(MAP, NARROW_MAP),
    "variational_information_mean": VID(
        MAP, NARROW_MAP, reduction="mean", hidden_channels=4
    ),
    "variational_information_vector": VID((3, 7), (3, 4)),
    "variational_information_sequence": VID((3, 4, 7), (3, 4, 5)),
    "variational_information_map_to_vector": VID((3, 6), MAP),
    "variational_information_sizes": VID((3, 7, 5, 3), (3, 3, 4, 3)),
    "variational_information_layers": VID(
        TEACHER_TAPS, STUDENT_TAPS, layer_weights=[1.0, 0.3]
    ),
    "neuron_selectivity": NST(MAP, NARROW_MAP),
    "neuron_selectivity_positions": NST((3, 2, 2, 5), (3, 3, 3, 4)),
    "neuron_selectivity_linear": NST(MAP, NARROW_MAP, kernel="linear"),
    "neuron_selectivity_layers": NST(
        TEACHER_TAPS, STUDENT_TAPS, layer_weights=[0.3, 1.0]
    ),
    "activation_boundary": BOUNDARY(MAP),
    "activation_boundary_connector": BOUNDARY(MAP, NARROW_MAP, coupled=True),
    "activation_boundary_code": BOUNDARY(
        TEACHER_TAPS, STUDENT_TAPS, form="code", margin=2.0, coupled=True
    ),
    "activation_boundary_layers": BOUNDARY(
        TEACHER_TAPS,
        connector=None,
        form="code",
        layer_weights=[100.0, 200.0],
    ),
    "overhauled_feature": OVERHAULED(MAP),
    "overhauled_feature_connector": OVERHAULED(MAP, NARROW_MAP, coupled=True),
    "overhauled_feature_sizes": OVERHAULED((3, 7, 5, 3), (3, 3, 4, 3)),
    "overhauled_feature_layers": OVERHAULED(
        TEACHER_TAPS,
        STUDENT_TAPS,
        margin=[-0.1, [-0.1, -0.2, -0.3, 0.0]],
        coupled=True,
    ),
    "factor_transfer": FACTOR(MAP, NARROW_MAP, coupled=True),
    "factor_transfer_code": FACTOR(
        MAP, NARROW_MAP, coupled=True, form="code", paraphrase_rate=2.0
    ),
    "factor_transfer_plain": FACTOR(
        MAP, paraphrase_rate=None, translate=False, p=2
    ),
    "factor_transfer_plain_code": FACTOR(
        MAP, paraphrase_rate=None, translate=False, form="code"
    ),
    "factor_transfer_attention": FACTOR(MAP, NARROW_MAP, form="attention"),
    "factor_transfer_attention_squares": FACTOR(
        (3, 3, 4, 5), (3, 5, 8, 3), form="attention", p=2
    ),
    "factor_transfer_layers": FACTOR(
        TEACHER_TAPS, STUDENT_TAPS, layer_weights=[1.0, 0.3], coupled=True
    ),
    "multi_task_feature": MULTI_TASK(MAP, NARROW_MAP),
    "multi_task_feature_vector": MULTI_TASK((3, 7), (3, 4)),
    "multi_task_feature_taps": MULTI_TASK(
        TEACHER_TAPS, {"deep": (3, 4, 4, 3)}, task_weights=[1.0, 0.3]
    ),
    "knowledge_review": REVIEW(MAP, NARROW_MAP, coupled=True),
    "knowledge_review_plain": REVIEW((3, 7, 5, 2), fusion=None),
    "knowledge_review_layers": REVIEW(
        {"early": (3, 8, 8, 4), "late": (3, 4, 4, 5)},
        {"above": (3, 6, 6, 2), "deep": (3, 4, 4, 3)},
        layer_weights=[1.0, 0.3],
        hidden_channels=4,
        coupled=True,
    ),
    "channel_wise": CHANNEL_WISE(MAP),
    "channel_wise_connector": CHANNEL_WISE(MAP, NARROW_MAP, temperature=1.0),
    "channel_wise_sizes": CHANNEL_WISE((3, 7, 5, 3), (3, 3, 4, 3)),
    "channel_wise_layers": CHANNEL_WISE(
        TEACHER_TAPS, STUDENT_TAPS, layer_weights=[1.0, 0.3]
    ),
    "pearson_feature": PEARSON(MAP),
    "pearson_feature_connector": PEARSON(MAP, NARROW_MAP),
    "pearson_feature_layers": PEARSON(
        TEACHER_TAPS, STUDENT_TAPS, layer_weights=[1.0, 0.3]
    ),
    "masked_generative": MASKED(MAP, NARROW_MAP, mask_ratio=0.2),
    "masked_generative_layers": MASKED(
        TEACHER_TAPS,
        STUDENT_TAPS,
        form="mean",
        mask_ratio=0.2,  # no window without input: a bias of 0 is a kink
        layer_weights=[1.0, 0.3],
    ),
    "localization": BOXES((3, 5, 12), temperature=2.0),
    "localization_sides": BOXES((3, 2, 5, 4, 3), form="code", bins=3),
    "self_attention": SELF(STUDENT_TAPS),
    "self_attention_mean": SELF(
        {"z": (3, 6, 6, 2), "b": (3, 4, 5, 3), "a": (3, 2, 3, 4)},
        form="mean",
        layer_weights=[100.0, 30.0],
    ),
    "early_exits": exits(
        {"z": (4, 8, 8, 3), "deepest": (4, 4, 4, 8), "logits": (4, 5)}
    ),
    "early_exits_sizes": exits(
        {
            "z": (4, 9, 7, 3),
            "a": (4, 4, 3, 6),
            "deepest": (4, 4, 3, 5),
            "logits": (4, 3),
        },
        alpha=0.7,
        temperature=2.0,
        feature_weight=0.2,
        feature_form="paper",
        scale_by_temperature_squared=True,
        reduction=2,
    ),
    "layer_aligned_uniform": ALIGNED(
        {"z": (3, 4, 4, 3), "b": (3, 5)},
        {"y": (3, 6, 3, 2), "c": (3, 2, 2, 4), "a": (3, 4)},
    ),
    "layer_aligned_identity": ALIGNED(
        TEACHER_TAPS, STUDENT_TAPS, alignment="identity", reduction="mean"
    ),
    "layer_aligned_matrix": ALIGNED(
        TEACHER_TAPS,
        STUDENT_TAPS,
        alignment=[[0.25, 0.0], [0.75, 1.0]],
        entropy="gaussian",
    ),
    "layer_aligned_learned": ALIGNED(
        TEACHER_TAPS, STUDENT_TAPS, alignment="learned", reduction="mean"
    ),
    "layer_aligned_standardized": ALIGNED(
        {"z": (3, 4, 3), "b": (3, 5)},
        {"y": (3, 4, 2), "a": (3, 4)},
        alignment="learned",
        entropy="standardized",
    ),
}
