"""Shapes that cannot be compared: both of them, and what would join them."""

import functools
import inspect
import re

import pytest

from keras_distill import losses

MAP, OTHER, NARROW = (None, 8, 8, 4), (None, 6, 6, 4), (None, 8, 8, 3)
VECTOR, SEQUENCE, LONGER = (None, 6), (None, 5, 4), (None, 7, 4)
NARROW_KEYS = (None, 8, 8, 5)
ONE = {"teacher_layer_name": "t", "student_layer_name": "s"}
TWO = {"teacher_layer_name": ["t", "u"], "student_layer_name": ["s", "v"]}
LAYERS = "teacher_layer_name="


def row(loss, teacher, student, way_out, **kwargs):
    return functools.partial(loss, **kwargs), teacher, student, way_out


def outputs(loss):
    """Two rows for a loss of class scores."""
    return [
        row(loss, (None, 10), (None, 5), "class_map="),
        row(loss, (None, 4, 10), (None, 10), LAYERS),
    ]


def relations(loss):
    """Two rows for a loss that compares samples."""
    return [
        row(loss, (8,), (8, 4), LAYERS, **ONE),
        row(loss, (4, 3), (5, 3), LAYERS, **ONE),
    ]


def maps(loss, **kwargs):
    return row(loss, MAP, VECTOR, LAYERS, **ONE, **kwargs)


def several(shape, names):
    """The shape for each of several taps."""
    return dict.fromkeys(names, shape)


ROWS = [
    *outputs(losses.SoftTargets),
    *outputs(losses.JensenShannon),
    *outputs(losses.SkewKL),
    *outputs(losses.LogitsMSE),
    *outputs(losses.HardLabels),
    *outputs(losses.DecoupledKD),
    *outputs(losses.DIST),
    *outputs(losses.ConfidenceWeightedByTeacherMax),
    *outputs(losses.DarkKnowledgeWithPermutedPredictions),
    row(losses.Hint, MAP, VECTOR, "student_layer_name=", **ONE),
    row(losses.Hint, SEQUENCE, LONGER, LAYERS, **ONE),
    row(losses.Hint, SEQUENCE, MAP, LAYERS, **ONE),
    row(losses.Hint, MAP, NARROW, 'regressor="auto"', regressor=None, **ONE),
    row(losses.Hint, VECTOR, MAP, 'regressor="auto"', regressor=None, **ONE),
    row(losses.Hint, VECTOR, (None, 5), '"dense"', regressor="conv1x1", **ONE),
    maps(losses.AttentionTransfer),
    maps(losses.NeuronSelectivityTransfer),
    maps(losses.FactorTransfer),
    row(losses.FactorTransfer, MAP, MAP, "translate=", translate=False, **ONE),
    maps(losses.ActivationBoundary),
    row(
        losses.ActivationBoundary,
        MAP,
        NARROW,
        'connector="auto"',
        connector=None,
        **ONE,
    ),
    maps(losses.OverhauledFeature),
    row(
        losses.OverhauledFeature,
        MAP,
        NARROW,
        'connector="auto"',
        connector=None,
        **ONE,
    ),
    row(losses.KnowledgeReview, MAP, VECTOR, LAYERS, **TWO),
    row(
        losses.KnowledgeReview,
        MAP,
        OTHER,
        'fusion="residual"',
        fusion=None,
        **TWO,
    ),
    maps(losses.ChannelWise),
    row(
        losses.ChannelWise,
        MAP,
        NARROW,
        'connector="auto"',
        connector=None,
        **ONE,
    ),
    maps(losses.PearsonFeature),
    maps(losses.MaskedGenerative),
    row(losses.MultiTaskFeature, MAP, VECTOR, LAYERS, **ONE),
    row(losses.LocalizationDistillation, SEQUENCE, SEQUENCE, LAYERS, **ONE),
    row(
        losses.VariationalInformation,
        MAP,
        VECTOR,
        "student_layer_name=",
        **ONE,
    ),
    row(
        losses.LayerAlignedVariationalInformation,
        MAP,
        SEQUENCE,
        "alignment=",
        **TWO,
    ),
    *relations(losses.Relation),
    *relations(losses.RelationalDistance),
    *relations(losses.RelationalAngle),
    *relations(losses.SimilarityPreserving),
    *relations(losses.CorrelationCongruence),
    row(
        losses.CorrelationCongruence,
        (8, 4),
        (8, 3),
        'form="paper"',
        form="delta",
        **ONE,
    ),
    *relations(losses.ProbabilisticTransfer),
    row(losses.FlowOfSolutionProcedure, MAP, VECTOR, LAYERS, **TWO),
    row(losses.FlowOfSolutionProcedure, MAP, NARROW, 'regressor="auto"', **TWO),
    maps(losses.PatchSimilarity),
    row(losses.PatchSimilarity, SEQUENCE, LONGER, LAYERS, **ONE),
    maps(losses.InterChannelCorrelation),
    row(
        losses.InterChannelCorrelation,
        MAP,
        NARROW,
        'regressor="auto"',
        regressor=None,
        **ONE,
    ),
    row(
        losses.ContrastiveRepresentation,
        (None, None, None, 3),
        VECTOR,
        LAYERS,
        sample_count=4,
        **ONE,
    ),
    row(losses.HiddenStates, SEQUENCE, VECTOR, LAYERS, **ONE),
    row(losses.HiddenStates, SEQUENCE, LONGER, LAYERS, **ONE),
    row(losses.HiddenStates, MAP, MAP, "kd.taps.suggest", **ONE),
    row(
        losses.HiddenStates,
        SEQUENCE,
        (None, 5, 3),
        'projection="shared"',
        projection=None,
        **ONE,
    ),
    row(losses.AttentionProbabilities, MAP, SEQUENCE, LAYERS, **ONE),
    row(losses.AttentionProbabilities, MAP, OTHER, "AttentionRelation", **ONE),
    row(losses.AttentionProbabilities, MAP, NARROW_KEYS, LAYERS, **ONE),
    row(losses.AttentionRelation, SEQUENCE, VECTOR, LAYERS, heads=2, **ONE),
    row(losses.AttentionRelation, SEQUENCE, LONGER, LAYERS, heads=2, **ONE),
    row(losses.AttentionRelation, SEQUENCE, SEQUENCE, "heads=", **ONE),
    maps(losses.SoftmaxRegression, classes=3),
    maps(losses.ReusedClassifier, classes=3),
    maps(losses.IdealJointClassifier, classes=3),
]


@pytest.mark.parametrize(
    "make_loss, teacher, student, way_out",
    ROWS,
    ids=[f"{r[0].func.__name__}{i}" for i, r in enumerate(ROWS)],
)
def test_both_shapes_and_what_would_join_them(
    make_loss, teacher, student, way_out
):
    loss = make_loss()
    shapes = teacher, student
    if isinstance(loss.teacher_layer_name, list):
        shapes = (
            several(teacher, loss.teacher_layer_name),
            several(student, loss.student_layer_name),
        )
    with pytest.raises(ValueError, match=re.escape(way_out)) as error:
        loss.build(*shapes)
    message = str(error.value)
    assert f"teacher {teacher}, student {student}" in message


def test_layers_of_one_network_that_cannot_be_compared():
    loss = losses.SelfAttention(student_layer_name=["s", "v"])
    with pytest.raises(ValueError, match="student_layer_name=") as error:
        loss.build({}, {"s": MAP, "v": VECTOR})
    assert str(MAP) in str(error.value) and str(VECTOR) in str(error.value)


def test_every_public_loss_has_a_row():
    public = [getattr(losses, name) for name in losses.__all__]
    bases = {losses.DistillationLoss, losses.LayerPairLoss}
    wanted = {
        x
        for x in public
        if inspect.isclass(x) and issubclass(x, losses.DistillationLoss)
    }
    there = {r[0].func for r in ROWS}
    there |= {losses.SelfAttention, losses.EarlyExits}  # Of one network.
    there |= {losses.QueueSimilarity}  # It takes any two shapes.
    assert wanted - bases == there
