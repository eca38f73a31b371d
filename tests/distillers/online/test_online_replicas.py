"""Two replicas end with the weights and logs of one device."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

WORKER = pathlib.Path(__file__).parent / "online_replica_worker.py"


def result(replicas, scenario, folder):
    path = folder / f"{scenario}_{replicas}.npz"
    done = subprocess.run(
        [sys.executable, WORKER, str(replicas), scenario, path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(path) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("history"))), arrays


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param("joint", marks=pytest.mark.slow),
        pytest.param("alternating", marks=pytest.mark.slow),
        pytest.param("native_ensemble", marks=pytest.mark.slow),
        pytest.param("batch_norm", marks=pytest.mark.slow),
    ],
)
def test_two_replicas_are_one_device(scenario, tmp_path):
    logs, weights = result(1, scenario, tmp_path)
    assert logs["loss"][-1] < logs["loss"][0]
    other_logs, other_weights = result(2, scenario, tmp_path)
    assert other_weights.keys() == weights.keys()
    for name in weights:
        np.testing.assert_allclose(
            other_weights[name], weights[name], atol=1e-5, err_msg=name
        )
    assert other_logs.keys() == logs.keys()
    for name in logs:
        np.testing.assert_allclose(
            other_logs[name], logs[name], rtol=1e-5, atol=1e-5, err_msg=name
        )
