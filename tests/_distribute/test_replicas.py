"""N replicas end with the weights and logs of one device."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import keras_distill as kd

HERE = pathlib.Path(__file__).parent


def result(replicas, scenario, folder):
    path = folder / f"{scenario}_{replicas}.npz"
    done = subprocess.run(
        [
            sys.executable,
            HERE / "replica_worker.py",
            str(replicas),
            scenario,
            path,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(path) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("history"))), arrays


def compare(scenario, counts, folder, tolerance=1e-5):
    logs, weights = result(1, scenario, folder)
    assert np.isfinite(logs["loss"]).all()
    # A teacher that moves away can raise the whole.
    name = "student_loss" if scenario == "moving_teacher" else "loss"
    assert logs[name][-1] < logs[name][0]
    for replicas in counts:
        other_logs, other_weights = result(replicas, scenario, folder)
        for name in weights:
            np.testing.assert_allclose(
                other_weights[name],
                weights[name],
                rtol=tolerance,
                atol=tolerance,
                err_msg=f"{replicas} replicas, {name}",
            )
        assert other_logs.keys() == logs.keys()
        for name in logs:
            np.testing.assert_allclose(
                other_logs[name],
                logs[name],
                rtol=tolerance,
                atol=tolerance,
                err_msg=f"{replicas} replicas, {name}",
            )


def test_replicas_of_which_one_gets_nothing(tmp_path):
    compare("empty", (2,), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        "stock",
        "connector_batch_norm",
        "deployed",
        "cached",
        "own_teacher",
        "moving_teacher",
        "summed_loss",
        "two_outputs",
        "masked_and_weighted",
        "masked_and_compiled",
        "ignored_class",
        "mean_of_weights",
        "several_optimizers",
        "several_accumulating_optimizers",
        "overwritten",
        "pieces",
    ],
)
def test_two_replicas(scenario, tmp_path):
    compare(scenario, (2,), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        "empty",
        "weighted",
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
        "left_over_steps",
        "accumulated",
        "accumulated_with_adam",
        "clipped",
        "averaged",
        "accumulated_averages",
        "scalar_loss",
        "masked",
    ],
)
def test_two_and_four_replicas(scenario, tmp_path):
    compare(scenario, (2, 4), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario", ["accumulated", "overwritten", "many_steps", "empty"]
)
def test_one_device_under_a_strategy(scenario, tmp_path):
    """`MirroredStrategy()` on a machine with one GPU."""
    compare(scenario, (0,), tmp_path)


@pytest.mark.slow
def test_feature_losses(tmp_path):
    # Nine losses at once: rounding grows from step to step.
    compare("feature_losses", (2, 4), tmp_path, tolerance=2e-4)


def test_every_loss_is_among_these():
    workers = "replica_worker.py", "relation_worker.py"
    text = "".join((HERE / name).read_text() for name in workers)
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario", ["float16", "accumulated_float16", "overflowing"]
)
def test_float16_under_loss_scaling(scenario, tmp_path):
    # Half precision rounds differently in other batch sizes.
    compare(scenario, (2,), tmp_path, tolerance=5e-3)


@pytest.mark.slow
def test_a_teacher_in_half_precision(tmp_path):
    compare("half_teacher", (2, 4), tmp_path, tolerance=5e-3)


@pytest.mark.slow
def test_empty_replica_with_local_batch_norm_stays_finite(tmp_path):
    logs, weights = result(4, "local_batch_norm", tmp_path)
    assert all(np.isfinite(v).all() for v in logs.values())
    assert all(np.isfinite(w).all() for w in weights.values())


@pytest.mark.slow
def test_a_moving_teacher_from_outside_of_the_strategy_is_refused():
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE],
        cwd=HERE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "was made without a strategy" in done.stderr


OUTSIDE = """
import keras
import tensorflow as tf
from networks import convnet, crossentropy, data

import keras_distill as kd

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
outside = kd.MovingAverageTeacher(convnet())
with strategy.scope():
    distiller = kd.Distiller(
        student=convnet(),
        teacher=outside,
        distillation_losses=kd.losses.SoftTargets(),
    )
    distiller.compile("sgd", crossentropy())
distiller.fit(*data(8), batch_size=8, verbose=0)
"""
