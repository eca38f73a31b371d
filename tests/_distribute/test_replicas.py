"""N replicas end with the weights and logs of one device."""

import pathlib

import numpy as np
import pytest
from marks import nightly
from networks import convnet
from networks import crossentropy
from networks import data
from replica_scenarios import train

import keras_distill as kd

HERE = pathlib.Path(__file__).parent


@pytest.mark.slow
def test_replicas_of_which_one_gets_nothing(compare):
    compare("empty", 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        "weighted",
        "own_teacher",
        "moving_teacher",
        "reused",
        "left_over_steps",
        "task_losses",
        "masked",
        "uncertainty",
        *nightly(
            "dynamic",
            "connector_batch_norm",
            "pieces",
            "compiled",
            "stock",
            "deployed",
            "logits",
            "classifiers",
            "mean_of_weights",
            "uneven",
            "batch_norm",
            "regularized",
            "cached",
            "compiled_pieces",
            "compiled_with_batch_norm",
            "many_steps",
            "scalar_loss",
            "summed_loss",
            "ignored_class",
            "two_outputs",
            "generated_features",
            "masked_and_weighted",
            "masked_and_compiled",
            "transformer",
        ),
    ],
)
def test_two_replicas(scenario, compare):
    compare(scenario, 2)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "scenario",
    [
        "empty",
        "weighted",
        "left_over_steps",
        "uneven",
        "batch_norm",
        "regularized",
        "compiled",
        "compiled_pieces",
        "compiled_with_batch_norm",
        "logits",
        "classifiers",
        "reused",
        "many_steps",
        "scalar_loss",
        "masked",
    ],
)
def test_four_replicas(scenario, compare):
    compare(scenario, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario", ["left_over_steps", *nightly("many_steps", "empty")]
)
def test_one_device_under_a_strategy(scenario, compare):
    """`MirroredStrategy()` on a machine with one GPU."""
    compare(scenario, 0)


@pytest.mark.nightly
@pytest.mark.parametrize("replicas", [2, 4])
def test_feature_losses(replicas, compare):
    # Nine losses at once: rounding grows from step to step.
    compare("feature_losses", replicas, tolerance=2e-4)


def test_every_loss_is_among_these():
    files = "replica_scenarios.py", "relation_scenarios.py"
    text = "".join((HERE / name).read_text() for name in files)
    not_losses = {"DistillationLoss", "LayerPairLoss"}
    in_others = {"EarlyExits"}  # Of BeYourOwnTeacher, "own_teacher".
    names = {
        name
        for name, thing in vars(kd.losses).items()
        if isinstance(thing, type)
        and issubclass(thing, kd.losses.DistillationLoss)
    }
    missing = {n for n in names if f"kd.losses.{n}(" not in text}
    assert missing == not_losses | in_others


@pytest.mark.nightly
@pytest.mark.parametrize("replicas", [2, 4])
def test_a_teacher_in_half_precision(replicas, compare):
    compare("half_teacher", replicas, tolerance=5e-3)


@pytest.mark.nightly
def test_empty_replica_with_local_batch_norm_stays_finite(trained):
    logs, weights = trained(2, train, "local_batch_norm")
    assert all(np.isfinite(v).all() for v in logs.values())
    assert all(np.isfinite(w).all() for w in weights.values())


@pytest.mark.slow
def test_a_moving_teacher_from_outside_of_the_strategy_is_refused(on_replicas):
    on_replicas(2, moving_teacher_from_outside)


def moving_teacher_from_outside(strategy):
    outside = kd.MovingAverageTeacher(convnet())
    with strategy.scope():
        distiller = kd.Distiller(
            student=convnet(),
            teacher=outside,
            distillation_losses=kd.losses.SoftTargets(),
        )
        distiller.compile("sgd", crossentropy())
    with pytest.raises(ValueError, match="was made without a strategy"):
        distiller.fit(*data(8), batch_size=8, verbose=0)
