"""Command, folders, and settings as JSON knows them."""

import json
import pathlib
import sys

import keras
import numpy as np
import pytest

import keras_distill as kd
from keras_distill.report import provenance


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["train.py", "--steps", "3"], "python train.py --steps 3"),
        (["-m", "lab.train"], "python -m lab.train"),
        (["HERE/lab/train.py"], "python lab/train.py"),
        (["HOME/lab/a b.py"], "python '~/lab/a b.py'"),
        (["train.py", "--data=HOME/x"], "python train.py --data=~/x"),
        (["train.py", "--data=HERE/x"], "python train.py --data=x"),
        (["train.py", "HERE", "/mntHERE/x"], "python train.py . x"),
        (["/opt/secret/bin/pytest"], "python pytest"),
        (["-m", "ipykernel_launcher", "-f", "HOME/k.json"], "a notebook"),
        ([], "an interactive session"),
    ],
)
def test_the_command_names_no_folders(monkeypatch, tmp_path, argv, expected):
    here, home = tmp_path / "work", tmp_path / "home"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(pathlib.Path, "home", lambda: home)
    argv = [
        a.replace("HERE", str(here)).replace("HOME", str(home)) for a in argv
    ]
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", *argv])
    assert provenance.command() == expected


def test_settings_become_json():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    made = provenance.to_json(
        {
            "loss": kd.losses.SoftTargets(temperature=2.0),
            "optimizer": keras.optimizers.SGD(schedule),
            "array": np.arange(2),
            "number": np.float32(0.5),
            "infinite": float("inf"),
            "function": lambda x: x,
            "object": object(),
            "path": pathlib.Path("a/b"),
            3: {"module": "kept"},
        }
    )
    json.dumps(made, allow_nan=False)
    assert made["loss"]["class_name"] == "SoftTargets"
    assert made["loss"]["config"]["temperature"] == 2.0
    assert "module" not in made["loss"]
    rate = made["optimizer"]["config"]["learning_rate"]
    assert rate["class_name"] == "CosineDecay"
    assert made["array"] == [0, 1] and made["number"] == 0.5
    assert made["infinite"] is None and made["path"] == "a/b"
    assert made["function"] == "<lambda>" and made["object"] == "object"
    assert made["3"] == {"module": "kept"}


def test_machine_and_versions():
    assert "CPU core" in provenance.machine()
    found = provenance.versions()
    assert found["keras"] == keras.__version__
    assert found["keras_distill"] == kd.__version__
    assert list(found)[0] == "python"
