"""Runs functions of test files on N replicas, which are devices of one CPU.

TensorFlow takes its logical devices when a process starts, and two
MirroredStrategies of different size do not live in one process. So there is
one process for each size, and it runs whatever the tests of a session ask.

    with Processes() as run:
        run(2, function, *arguments)  # function(strategy, *arguments)

`function` is found by its name in its file; arguments and result are JSON.
"""

import contextlib
import gc
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback

import numpy as np


class Process:
    """A process for `devices` devices. It starts with the first call."""

    def __init__(self, devices):
        self.devices = devices
        self.process = None

    def start(self):
        self.stderr = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(self.devices)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
        )

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.stderr.close()
            self.process = None

    def run(self, replicas, function, *arguments):
        if self.process is None:
            self.start()
        file = pathlib.Path(sys.modules[function.__module__].__file__)
        request = [replicas, str(file), function.__name__, arguments]
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request, default=str) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            code = self.process.wait()
            self.stderr.seek(0)
            printed = self.stderr.read()[-3000:]
            self.stop()  # The next call starts another.
            raise AssertionError(f"The process ended with {code}:\n{printed}")
        answer = json.loads(answer)
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["result"]


class Processes:
    """`run(replicas, ...)`: 0 replicas are one device under a strategy."""

    # The process of two devices also serves those who need no strategy.
    DEVICES = {0: 1, 1: 2, 2: 2, 4: 4}

    def __enter__(self):
        self.processes = {n: Process(n) for n in self.DEVICES.values()}
        return self.run

    def __exit__(self, *_):
        for process in self.processes.values():
            process.stop()

    def run(self, replicas, function, *arguments):
        process = self.processes[self.DEVICES[replicas]]
        return process.run(replicas, function, *arguments)


class Trainings:
    """`trained(replicas, train, scenario)`: its logs and arrays, made once.

    `train(strategy, scenario, path)` writes them to a file.
    """

    def __init__(self, run, folder):
        self.run, self.folder = run, folder

    def __call__(self, replicas, train, scenario):
        name = f"{train.__module__}_{scenario}_{replicas}.npz"
        path = self.folder / name
        if not path.exists():
            self.run(replicas, train, scenario, path)
        return read(path)


def read(path):
    """The logs and the arrays that a training wrote."""
    with np.load(path) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("history"))), arrays


def assert_same(expected, found, tolerance, relative=1e-7, message=""):
    """Two results of `read`.

    Args:
        tolerance: Of logs, absolute and relative, and of arrays, absolute.
        relative: The relative tolerance of arrays.
    """
    for one, other, rtol in zip(expected, found, (tolerance, relative)):
        assert other.keys() == one.keys()
        for name in one:
            np.testing.assert_allclose(
                other[name],
                one[name],
                rtol=rtol,
                atol=tolerance,
                err_msg=f"{message} {name}",
            )


def serve(devices):
    """Answers requests, one a line, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What a test prints is no answer.
    import keras
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * max(devices, 2)
    )
    names = [f"CPU:{i}" for i in range(devices)]
    mirrored = tf.distribute.MirroredStrategy(names)
    importlib.import_module("plain_graphs")
    # `clear_session` collects, which is often enough: not what was imported.
    gc.freeze()
    gc.disable()
    for line in sys.stdin:
        replicas, file, function, arguments = json.loads(line)
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy("float32")
        strategy = mirrored if replicas != 1 else tf.distribute.get_strategy()
        file = pathlib.Path(file)
        if str(file.parent) not in sys.path:
            sys.path.insert(0, str(file.parent))
        try:
            module = importlib.import_module(file.stem)
            result = getattr(module, function)(strategy, *arguments)
            answer = json.dumps({"result": result})
        except BaseException:
            answer = json.dumps({"error": traceback.format_exc()})
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    serve(int(sys.argv[1]))
