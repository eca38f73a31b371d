"""Several processes end with the weights and logs of one."""

import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from marks import nightly
from replica_scenarios import train
from replicas import assert_same
from replicas import read

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


def start(scenarios, folder, *more, slurm=False):
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
                ",".join(scenarios),
                folder,
                *map(str, more),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(WORKERS)
    ]
    try:
        printed = [worker.communicate(timeout=600)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [worker.returncode for worker in workers], printed


@pytest.fixture
def compare(trained):
    def compare(scenario, folder):
        logs, weights = trained(1, train, scenario)
        assert np.isfinite(logs["loss"]).all()
        for index in range(WORKERS):
            found = read(folder / scenario / f"worker{index}.npz")
            # A restarted run has the logs of its own epochs.
            epochs = len(found[0]["loss"])
            last = {name: log[-epochs:] for name, log in logs.items()}
            message = f"worker {index},"
            assert_same((last, weights), found, 1e-5, message=message)

    return compare


SCENARIOS = ("empty", "cached_parts", "views")
NIGHTLY = ("cached", "many_steps", "accumulated")


@pytest.fixture(scope="module")
def ended(tmp_path_factory, request):
    """Two workers that ran what is asked: folder, exit codes, output."""
    folder = tmp_path_factory.mktemp("cluster")
    asked = " ".join(
        item.name
        for item in request.session.items
        if item.originalname == "test_two_workers_equal_one"
    )
    scenarios = [s for s in (*SCENARIOS, *NIGHTLY) if f"[{s}]" in asked]
    return folder, *start(scenarios or SCENARIOS[:1], folder)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [*SCENARIOS, *nightly(*NIGHTLY)])
def test_two_workers_equal_one(scenario, ended, compare):
    folder, codes, printed = ended
    for index in range(WORKERS):
        written = folder / scenario / f"worker{index}.npz"
        assert written.exists(), (codes, printed)
    compare(scenario, folder)
    # Only the chief wrote.
    shared = folder / scenario / "shared"
    assert sorted(p.name for p in shared.iterdir()) == [
        "1.weights.h5",
        "2.weights.h5",
        "3.weights.h5",
        "log.csv",
    ]
    assert len((shared / "log.csv").read_text().splitlines()) == 1 + 3


@pytest.mark.slow
def test_two_workers_end_without_an_error(ended):
    _, codes, printed = ended
    assert codes == [0, 0], printed


@pytest.mark.nightly
@pytest.mark.parametrize("callback", ["BackupAndResume", "BackupAndRestore"])
def test_goes_on_after_a_worker_was_killed(callback, tmp_path, compare):
    written = tmp_path / "batch_norm" / "worker0.npz"
    codes, printed = start(["batch_norm"], tmp_path, callback, 1)
    assert codes[1] == -9
    # The other cannot go on alone, and says so.
    assert codes[0] not in (0, -9), printed[0]
    assert not written.exists()
    backups = tmp_path / "batch_norm" / "shared" / "backup"
    assert list(backups.iterdir())
    codes, printed = start(["batch_norm"], tmp_path, callback)
    assert codes == [0, 0], printed
    history, _ = read(written)
    # Keras's own callback loses the epochs before.
    assert (len(history["loss"]) < 3) == (callback == "BackupAndRestore")
    compare("batch_norm", tmp_path)


@pytest.mark.nightly
def test_slurm_says_who_is_who(tmp_path, compare):
    codes, printed = start(["empty"], tmp_path, slurm=True)
    assert codes == [0, 0], printed
    compare("empty", tmp_path)
    assert (tmp_path / "empty" / "shared" / "log.csv").exists()


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
