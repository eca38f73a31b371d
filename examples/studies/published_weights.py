"""Every loss of `kd.losses` with the weight that was published for it.

A weight belongs to a form of its loss, so each row gives both: the constructor
arguments that make the form, and the factor. Where the form here differs from
the published one by a factor, the weight is converted, and `source` says how.
Batches hold 128 images; RepDistiller's 64.

    R   HobbitLong/RepDistiller, scripts/run_cifar_distill.sh (Tian et al. 2020)
    M   megvii-research/mdistiller, engine/cfg.py and configs/cifar100
"""

import dataclasses
import inspect
from collections.abc import Callable

from keras_distill import datasets
from keras_distill import losses

EARLY, LATE, POOLED = "block1", "block2", "pool"
SOFT, LABELS, NOTHING = "soft targets", "labels", "nothing"
BATCH_SIZE = 128
# Whether a pipeline can give the index of each sample.
INDEXED = "indexed" in inspect.signature(datasets.batches).parameters


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table.

    Args:
        name: Name of the loss, then what tells two rows apart.
        make: `make(samples) -> loss`, or a dict of losses.
        weight: Its published factor; a dict alike.
        source: Where weight and form come from.
        beside: What it is added to. `SOFT`: cross-entropy and soft targets.
            `LABELS`: cross-entropy; the loss replaces soft targets. `NOTHING`.
        logits_only: Whether the teacher's logits are all it reads.
        indexed: Whether it wants to know the index of each sample.
    """

    name: str
    make: Callable | None
    weight: float | dict = 1.0
    source: str = ""
    beside: str = SOFT
    logits_only: bool = False
    indexed: bool = False


def taps(*names):
    """The same layers of both networks; several as lists."""
    chosen = names[0] if len(names) == 1 else list(names)
    return {"teacher_layer_name": chosen, "student_layer_name": chosen}


def before_relu():
    return {
        "teacher_layer_name": [f"{EARLY}_add", f"{LATE}_add"],
        "student_layer_name": [f"{EARLY}_bn", f"{LATE}_bn"],
    }


def response(name, loss, source, weight=1.0, beside=LABELS):
    return Row(name, loss, weight, source, beside, logits_only=True)


ALONE = Row("alone", None, beside=LABELS, logits_only=True)


def rows(temperature):
    """All rows; `temperature` is that of the soft targets."""
    return [row for row in every_row(temperature) if not row.indexed or INDEXED]


def every_row(temperature):
    both = taps(EARLY, LATE)
    return [
        ALONE,
        response(
            "SoftTargets",
            lambda n: losses.SoftTargets(temperature=temperature),
            "R (-r 1 -a 1)",
        ),
        response(
            "LogitsMSE",
            lambda n: losses.LogitsMSE(class_reduction="mean"),
            "Kim 2021, authors' code: alpha 1",
            beside=NOTHING,
        ),
        response("HardLabels", lambda n: losses.HardLabels(), "Touvron 2021"),
        response(
            "DecoupledKD",
            lambda n: losses.DecoupledKD(alpha=1, beta=8, temperature=4),
            "M: alpha 1, beta 8, T 4; no warm-up here",
        ),
        response("DIST", lambda n: losses.DIST(), "authors' code: 1, 1, T 1"),
        response(
            "ConfidenceWeightedByTeacherMax",
            lambda n: losses.ConfidenceWeightedByTeacherMax(),
            "Furlanello 2018",
            beside=NOTHING,
        ),
        response(
            "DarkKnowledgeWithPermutedPredictions",
            lambda n: losses.DarkKnowledgeWithPermutedPredictions(),
            "Furlanello 2018",
            beside=NOTHING,
        ),
        Row(
            "Hint",
            lambda n: losses.Hint(**taps(EARLY), regressor="conv_bn_relu"),
            100,
            "R, mean form, a middle layer",
        ),
        Row(
            "AttentionTransfer",
            lambda n: losses.AttentionTransfer(**both, form="code"),
            1000,
            'R, form "code"',
        ),
        Row(
            "NeuronSelectivityTransfer",
            lambda n: losses.NeuronSelectivityTransfer(**both),
            50,
            "R",
        ),
        Row(
            "FactorTransfer",
            lambda n: losses.FactorTransfer(
                **taps(LATE), form="code", paraphraser_epochs=2
            ),
            500,
            'Kim 2018, form "code"; paraphraser: 2 passes',
        ),
        Row(
            "ActivationBoundary",
            lambda n: losses.ActivationBoundary(
                **before_relu(), form="code", connector="conv_bn"
            ),
            1,
            'R, form "code"; there a stage before training',
        ),
        Row(
            "OverhauledFeature",
            lambda n: losses.OverhauledFeature(
                **before_relu(),
                batch_norm_layer_name=[f"{EARLY}_b_bn", f"{LATE}_b_bn"],
                connector="conv_bn",
                layer_weights=[0.5, 1.0],
            ),
            1e-3,
            "M; halved per earlier layer",
        ),
        Row(
            "KnowledgeReview",
            lambda n: losses.KnowledgeReview(**both),
            5,
            "M; no warm-up here",
        ),
        Row(
            "ChannelWise",
            lambda n: losses.ChannelWise(**taps(LATE), temperature=4),
            3,
            "authors' README: 3, T 4, for logit maps",
        ),
        Row(
            "VariationalInformation",
            lambda n: losses.VariationalInformation(**both, reduction="mean"),
            1,
            "R, mean form",
        ),
        Row(
            "LayerAlignedVariationalInformation",
            lambda n: losses.LayerAlignedVariationalInformation(
                **both, alignment="learned", reduction="mean"
            ),
            1,
            "none for this form: that of VID",
        ),
        Row(
            "RelationalDistance",
            lambda n: losses.RelationalDistance(**taps(POOLED)),
            25,
            "R",
        ),
        Row(
            "RelationalAngle",
            lambda n: losses.RelationalAngle(**taps(POOLED)),
            50,
            "R",
        ),
        Row(
            "Relation, distance and angle",
            lambda n: {
                kind: losses.Relation(potential=kind, **taps(POOLED))
                for kind in ("distance", "angle")
            },
            {"distance": 25, "angle": 50},
            "R (RKD)",
        ),
        Row(
            "FlowOfSolutionProcedure",
            lambda n: losses.FlowOfSolutionProcedure(**both),
            50,
            "R, mean form; there a stage before training",
        ),
        Row(
            "SimilarityPreserving",
            lambda n: losses.SimilarityPreserving(**taps(LATE)),
            3000,
            "R",
        ),
        Row(
            "CorrelationCongruence",
            lambda n: losses.CorrelationCongruence(
                **taps(POOLED), form="delta"
            ),
            0.02,
            'R, form "delta"; without the embeddings there',
        ),
        Row(
            "ProbabilisticTransfer",
            lambda n: losses.ProbabilisticTransfer(**taps(POOLED), form="code"),
            # Its mean over batch^2 pairs is 1 / batch of one per sample.
            30000 * BATCH_SIZE // 64,
            'R, form "code": 30000 at batches of 64',
        ),
        Row(
            "InterChannelCorrelation",
            lambda n: losses.InterChannelCorrelation(
                **taps(LATE), regressor="conv1x1"
            ),
            # Theirs divides by channels * batch, the form here by
            # channels^2 * batch. LATE has 48 channels.
            2.5 * 48,
            "authors' code: 2.5, over channels, not their square",
        ),
        Row(
            "ContrastiveRepresentation",
            lambda n: losses.ContrastiveRepresentation(
                **taps(POOLED),
                sample_count=n,
                negatives_from="other_classes",
            ),
            0.8,
            "R; negatives of other classes",
            indexed=True,
        ),
        Row(
            "SoftmaxRegression",
            lambda n: losses.SoftmaxRegression(**taps(LATE)),
            1,
            "authors' code: 1 and 1",
        ),
        Row(
            "ReusedClassifier",
            lambda n: losses.ReusedClassifier(**taps(LATE)),
            1,
            "authors' code; deploys the teacher's classifier",
            beside=NOTHING,
        ),
        Row(
            "IdealJointClassifier",
            lambda n: losses.IdealJointClassifier(**taps(LATE)),
            1,
            "authors' code: 1, 1, 1; deploys the teacher's classifier",
            beside=NOTHING,
        ),
        Row(
            "SelfAttention",
            lambda n: losses.SelfAttention(student_layer_name=[EARLY, LATE]),
            0.1,
            "Hou 2019; without a teacher, from the first step",
            beside=LABELS,
            logits_only=True,
        ),
    ]
