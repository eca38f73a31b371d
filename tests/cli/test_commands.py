"""The command line: its help, its examples, its errors."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from marks import nightly

import keras_distill as kd
from keras_distill.cli import main
from keras_distill.cli import values
from keras_distill.workflow.settings import Settings

COMMANDS = list(main.commands)


def invoke(*arguments):
    return CliRunner().invoke(main, arguments, prog_name="keras-distill")


@pytest.fixture
def calls(monkeypatch):
    """What the commands call, in place of a run."""
    made = []

    def distill(teacher, data, **given):
        made.append({"teacher": teacher, "data": data, **given})

    monkeypatch.setattr(kd, "distill", distill, False)
    monkeypatch.setattr(
        kd.export, "metadata", lambda file: made.append(file) or {"inputs": 1}
    )
    return made


def test_every_step_has_its_command():
    assert COMMANDS == [
        *("run", "diagnose", "choose", "cache", "train", "export"),
        *("verify", "report", "metadata"),
    ]


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_fits_a_screen_and_its_example_runs(name, calls):
    result = invoke(*([name] if name else []), "--help")
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    example = next(
        line.strip() for line in lines if line.startswith("  keras-distill ")
    )
    result = invoke(*shlex.split(example)[1:])
    assert result.exit_code == 0, result.output
    assert len(calls) == 1
    assert name is None or name in example


def test_the_line_of_the_readme_runs(calls):
    readme = pathlib.Path(__file__).parents[2] / "README.md"
    section = readme.read_text().split("## One line")[1].split("\n## ")[0]
    lines = [x for x in section.splitlines() if x.startswith("    keras-")]
    for line in lines:
        assert invoke(*shlex.split(line)[1:]).exit_code == 0
    (call,) = re.findall(r"`(kd\.distill\(.*?\))`", section)
    eval(call, {"kd": kd})
    assert len(calls) == 2
    for given in calls:
        assert given["teacher"] == "teacher.keras", given
        assert given["budget"] == {"kib": 100}


def test_options_reach_the_call(calls):
    line = (
        "run images --teacher t.keras --student s.keras --validation more "
        "--unlabelled others --budget kib=100,ms=2 --time-limit 20m --output "
        "there --set steps=7 --set class_names=a,b --set image_size=9x8 --set "
        "quantization=int8 --set teacher_scale='[0, 1]' --skip choose --skip "
        "report --overwrite"
    )
    assert invoke(*shlex.split(line)).exit_code == 0
    (given,) = calls
    assert given == {
        "data": "images",
        "teacher": "t.keras",
        "student": "s.keras",
        "validation_data": "more",
        "unlabelled": "others",
        "budget": {"kib": 100.0, "ms": 2.0},
        "time_limit": 1200.0,
        "output": "there",
        "settings": {
            "steps": 7,
            "class_names": ["a", "b"],
            "image_size": [9, 8],
            "quantization": ["int8"],
            "teacher_scale": "[0, 1]",
        },
        "skip": ("choose", "report"),
        "until": None,
        "resume": False,
        "overwrite": True,
    }


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-3", 1e-3),
        ("0.001", 1e-3),
        ("1e4", 10_000),
        ("1.0e+4", 10_000),
        ("7", 7),
        ("relu6", "relu6"),
        ("true", True),
        ("null", None),
        ("[0.7, 1.0]", [0.7, 1.0]),
    ],
)
def test_values_that_are_set(text, value):
    name, found = values.Setting().convert(f"name={text}", None, None)
    assert name == "name" and found == value and type(found) is type(value)


def test_an_error_of_a_file_names_it(tmp_path):
    file = tmp_path / "none.txt"
    with pytest.raises(OSError) as raised:
        file.read_text()
    text = values.wrapped(raised.value).replace("\n", "")
    assert "No such file or directory" in text and "none.txt" in text
    assert values.wrapped(OSError(28, "The disk is full.")) == (
        "The disk is full."
    )


def test_a_settings_file_repeats_the_run(calls, tmp_path):
    settings = Settings()
    settings.settle("steps", 7, "so")
    file = tmp_path / "settings.yaml"
    settings.write(file, {"data": "images", "teacher": "t.keras"})
    result = invoke("run", "--settings", str(file), "--set", "seed=3")
    assert result.exit_code == 0, result.output
    assert calls[0]["data"] == "images" and calls[0]["teacher"] == "t.keras"
    assert calls[0]["settings"] == {"steps": 7, "seed": 3}


@pytest.mark.parametrize(
    "line, message",
    [
        ("run --teacher t.keras", "Missing IMAGES"),
        ("run images", "Missing --teacher"),
        ("run images --teacher none.keras", "teacher must be the path"),
        ("run images --budget small", "kib=100"),
        ("run images --time-limit soon", "20m"),
        ("run images --set steps", "steps=2000"),
        ("run images --set crop=@x", "'@x' is not like 7"),
        ("metadata missing.tflite", "missing.tflite"),
    ],
)
def test_errors_are_sentences(line, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*line.split())
    assert result.exit_code != 0 and message in result.output
    assert "Traceback" not in result.output
    assert all(len(row) <= 80 for row in result.output.splitlines())


def test_stopping_says_how_to_go_on(monkeypatch):
    def stopped(**given):
        raise KeyboardInterrupt

    monkeypatch.setattr(kd, "distill", stopped, False)
    result = invoke("run", "images", "--teacher", "t.keras")
    assert result.exit_code == 1 and "same line goes on" in result.output


def test_times():
    texts = "90", "90s", "1.5m", "2h"
    seconds = [values.Time().convert(t, None, None) for t in texts]
    assert seconds == [90, 90, 90, 7200]
    for text in "5 days", "1.2.3m", ".":
        with pytest.raises(click.BadParameter, match="not like 600"):
            values.Time().convert(text, None, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["metadata", "none"], *nightly(["--version"])]
)
def test_tensorflow_does_not_log_on_the_screen(arguments, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "keras_distill", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    lines = (ran.stdout + ran.stderr).splitlines()
    assert len(lines) == 1 and "none" in lines[0] or kd.__version__ in lines[0]


def test_metadata_is_json(calls):
    assert json.loads(invoke("metadata", "a.tflite").output) == {"inputs": 1}
