"""Several processes end with the weights and logs of one."""

import json
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from test_replicas import result

HERE = pathlib.Path(__file__).parent
WORKERS = 2


def free_ports():
    """Of this machine."""
    sockets = [socket.socket() for _ in range(WORKERS)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    found = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return found


def start(scenario, folder, *more, slurm=False):
    """All workers -> their exit codes and what they printed."""
    ports = free_ports()
    where = ",".join(f"127.0.0.1:{port}" for port in ports)
    if slurm:  # It counts ports from the first.
        where = f"slurm:{ports[0]}"
    workers = [
        subprocess.Popen(
            [
                sys.executable,
                HERE / "cluster_worker.py",
                str(index),
                where,
                scenario,
                folder / f"worker{index}.npz",
                *map(str, more),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(WORKERS)
    ]
    try:
        printed = [worker.communicate(timeout=400)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [worker.returncode for worker in workers], printed


def compare(scenario, folder, tolerance=1e-5):
    logs, weights = result(1, scenario, folder)
    assert np.isfinite(logs["loss"]).all()
    for index in range(WORKERS):
        with np.load(folder / f"worker{index}.npz") as file:
            arrays = dict(file)
        other_logs = json.loads(str(arrays.pop("history")))
        assert arrays.keys() == weights.keys()
        for name in weights:
            np.testing.assert_allclose(
                arrays[name], weights[name], atol=tolerance, err_msg=name
            )
        assert other_logs.keys() == logs.keys()
        for name in logs:
            # A restarted run has the logs of its own epochs.
            last = logs[name][-len(other_logs[name]) :]
            np.testing.assert_allclose(
                other_logs[name],
                last,
                rtol=tolerance,
                atol=tolerance,
                err_msg=name,
            )


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    ["empty", "cached", "cached_parts", "views", "many_steps", "accumulated"],
)
def test_two_workers_equal_one(scenario, tmp_path):
    codes, printed = start(scenario, tmp_path)
    assert codes == [0, 0], printed
    compare(scenario, tmp_path)
    # Only the chief wrote.
    shared = tmp_path / "shared"
    assert sorted(p.name for p in shared.iterdir()) == [
        "1.weights.h5",
        "2.weights.h5",
        "3.weights.h5",
        "log.csv",
    ]
    assert len((shared / "log.csv").read_text().splitlines()) == 1 + 3


@pytest.mark.slow
def test_goes_on_after_a_worker_was_killed(tmp_path):
    codes, printed = start("batch_norm", tmp_path, 1)
    assert codes[1] == -9
    # The other cannot go on alone, and says so.
    assert codes[0] not in (0, -9), printed[0]
    assert not (tmp_path / "worker0.npz").exists()
    codes, printed = start("batch_norm", tmp_path)
    assert codes == [0, 0], printed
    with np.load(tmp_path / "worker0.npz") as file:
        history = json.loads(str(file["history"]))
    assert len(history["loss"]) < 3
    compare("batch_norm", tmp_path)


@pytest.mark.slow
def test_slurm_says_who_is_who(tmp_path):
    codes, printed = start("empty", tmp_path, slurm=True)
    assert codes == [0, 0], printed
    compare("empty", tmp_path)
    assert (tmp_path / "shared" / "log.csv").exists()


class Resolver:
    def __init__(self, task_type, task_id, jobs=("worker",)):
        self.task_type, self.task_id, self.jobs = task_type, task_id, jobs

    def cluster_spec(self):
        return self


class Strategy:
    def __init__(self, *task):
        self.cluster_resolver = Resolver(*task)


def test_who_is_chief():
    from keras_distill._distribute.strategies import is_chief

    assert is_chief(object())
    assert not is_chief(Strategy("", 0))
    assert is_chief(Strategy(None, None))
    assert is_chief(Strategy("worker", 0))
    assert not is_chief(Strategy("worker", 1))
    assert is_chief(Strategy("chief", 0, ("chief", "worker")))
    assert not is_chief(Strategy("worker", 0, ("chief", "worker")))
    assert not is_chief(Strategy("evaluator", 0))


def test_only_the_chief_writes_files(tmp_path):
    from keras_distill._distribute.strategies import RestoreOnly
    from keras_distill._distribute.strategies import callbacks_here

    given = [
        keras.callbacks.ModelCheckpoint(tmp_path / "a.keras"),
        keras.callbacks.CSVLogger(tmp_path / "a.csv"),
        keras.callbacks.TensorBoard(tmp_path),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.EarlyStopping(),
    ]
    assert callbacks_here(given, Strategy("worker", 0)) == given
    restoring, stopping = callbacks_here(given, Strategy("worker", 1))
    assert isinstance(restoring, RestoreOnly)
    assert stopping is given[-1]
