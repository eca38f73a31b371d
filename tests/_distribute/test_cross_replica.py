"""Losses that compare samples: 2 replicas are one device."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from networks import data

WORKER = pathlib.Path(__file__).parent / "relation_worker.py"


def trained(replicas, name, folder):
    path = folder / f"{name}_{replicas}.npz"
    done = subprocess.run(
        [
            sys.executable,
            WORKER,
            str(replicas),
            name,
            path,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(path) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("history"))), arrays


def largest_difference(name, folder, replicas=2):
    logs, weights = trained(1, name, folder)
    other_logs, other_weights = trained(replicas, name, folder)
    assert logs.keys() == other_logs.keys()
    assert weights.keys() == other_weights.keys()
    assert all(np.isfinite(v).all() for v in [*logs.values()])
    assert logs["loss"][-1] != logs["loss"][0]
    pairs = [(logs[k], other_logs[k]) for k in logs]
    pairs += [(weights[k], other_weights[k]) for k in weights]
    return max(np.abs(np.subtract(a, b)).max() for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "distance",
        "memories",
        "outputs",
        "angle",
        "similarity",
        "congruence",
        "transfer",
        "relation",
        "channels",
        "moments",
    ],
)
def test_two_replicas_give_what_one_device_gives(name, tmp_path):
    assert largest_difference(name, tmp_path) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["distance", "similarity", "transfer", "memories", "outputs"]
)
def test_four_replicas(name, tmp_path):
    assert largest_difference(name, tmp_path, replicas=4) < 2e-5


@pytest.mark.slow
def test_a_stand_in_is_not_remembered(tmp_path):
    """One replica of two is empty in a step; its stand-in has the index 0."""
    _, arrays = trained(2, "memories", tmp_path)
    (labels,) = (a for k, a in arrays.items() if k.endswith("label_memory"))
    _, y = data(21)
    assert y[0] != 0
    np.testing.assert_array_equal(labels, y)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "local_outputs"])
def test_without_cross_replica_the_replicas_are_on_their_own(name, tmp_path):
    """Or the tests above would show nothing."""
    assert largest_difference(name, tmp_path) > 1e-4
