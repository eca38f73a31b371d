"""Losses that compare samples: 2 replicas are one device."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

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


def largest_difference(name, folder):
    logs, weights = trained(1, name, folder)
    other_logs, other_weights = trained(2, name, folder)
    assert logs.keys() == other_logs.keys()
    assert weights.keys() == other_weights.keys()
    assert all(np.isfinite(v).all() for v in [*logs.values()])
    assert logs["loss"][-1] != logs["loss"][0]
    pairs = [(logs[k], other_logs[k]) for k in logs]
    pairs += [(weights[k], other_weights[k]) for k in weights]
    return max(np.abs(np.subtract(a, b)).max() for a, b in pairs)


@pytest.mark.parametrize("name", ["distance", "similarity", "contrast"])
def test_two_replicas_give_what_one_device_gives(name, tmp_path):
    assert largest_difference(name, tmp_path) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["angle", "congruence", "transfer", "relation", "channels"]
)
def test_two_replicas_give_what_one_device_gives_more(name, tmp_path):
    assert largest_difference(name, tmp_path) < 2e-5


@pytest.mark.slow
def test_draws_of_negatives_on_replicas(tmp_path):
    """Each replica draws its own: the numbers differ, the memories move."""
    logs, arrays = trained(2, "draws", tmp_path)
    assert np.isfinite(logs["loss"]).all()
    assert logs["loss"][-1] < logs["loss"][0]
    labels = [a for a in arrays.values() if a.dtype == "int32"]
    assert any(np.array_equal(a, np.arange(22) % 4) for a in labels)


@pytest.mark.slow
def test_without_cross_replica_the_replicas_are_on_their_own(tmp_path):
    """Or the tests above would show nothing."""
    assert largest_difference("local", tmp_path) > 1e-4
