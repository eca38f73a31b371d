"""Temporary folders: gone at the end, after an error, and after a kill."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import keras
import pytest
from exporting import exported

from keras_distill.export.temporary import temporary_folder

BLOCKED = """
import sys, time
import keras
import keras_distill as kd

class Blocks(keras.layers.Layer):
    blocks = False
    def call(self, x):
        if self.blocks:
            print("blocked", flush=True)
            time.sleep(600)
        return x

layer = Blocks()
inputs = keras.Input((6,))
model = keras.Model(inputs, layer(inputs))
layer.blocks = True
kd.export.tflite(model, sys.argv[1], verbose=False)
"""


def test_a_folder_lives_as_long_as_its_context(tmp_path):
    with pytest.raises(KeyError):
        with temporary_folder("a-", tmp_path) as folder:
            (folder / "file").touch()
            raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_folders_of_killed_processes_go_and_others_stay(tmp_path):
    (tmp_path / "a-of_the_user").mkdir()
    child = os.fork()
    if not child:
        with temporary_folder("a-", tmp_path) as folder:
            (folder / "large").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = (p for p in tmp_path.iterdir() if p.name != "a-of_the_user")
    assert (left / "files" / "large").exists()
    with temporary_folder("b-", tmp_path):
        assert left.exists()
    with temporary_folder("a-", tmp_path) as first:
        assert not left.exists()
        with temporary_folder("a-", tmp_path):
            assert first.exists()  # its process is alive
    assert [p.name for p in tmp_path.iterdir()] == ["a-of_the_user"]


@pytest.mark.slow
def test_the_next_export_removes_what_a_killed_one_left(tmp_path, monkeypatch):
    system, target = tmp_path / "system", tmp_path / "target"
    system.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", BLOCKED, target / "a.tflite"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(system)},
    )
    assert child.stdout.readline() == "blocked\n"
    time.sleep(0.1)
    child.kill()
    child.wait()
    child.stdout.close()
    assert len(list(target.iterdir())) == 1
    assert len(list(system.glob("keras_distill-*"))) == 1
    monkeypatch.setattr(tempfile, "tempdir", str(system))
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    path = exported(model, target / "b.tflite")
    assert list(target.iterdir()) == [path]
    assert list(system.glob("keras_distill-*")) == []
