"""A run from a teacher to a file, killed and not."""

import functools
import json

import keras
import numpy as np
import pytest
import yaml
from marks import nightly
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill.workflow import distilling
from keras_distill.workflow import training
from keras_distill.workflow.folder import RunFolder

SETTINGS = {"steps": 75, "batch_size": 16, "quantization": ["float32"]}


class Killed(BaseException):
    """As sudden as a signal: nothing in between catches it."""


@pytest.fixture
def arguments(tmp_path):
    x, y = data(80)
    keras.utils.set_random_seed(1)
    return {
        "teacher": convnet(8),
        "data": (x, y),
        "student": convnet(),
        "settings": SETTINGS,
        "skip": ["diagnose", "verify", "report"],
        "output": tmp_path / "run",
    }


@pytest.mark.slow
def test_a_run_and_what_it_leaves(arguments, capfd):
    arguments["skip"] = ["diagnose"]
    result = kd.distill(**arguments)
    seen = capfd.readouterr()
    lines = seen.out.splitlines()
    assert seen.err == ""
    steps = [line.split()[0] for line in lines if line and line[0] != " "]
    assert steps == [
        *("look", "choose", "cache", "train", "compare"),
        *("export", "verify", "report"),
        *("What:", "Where:", "Costs:", "Gain:", "Next:"),
    ]
    assert result.lines == lines[-5:]
    output = arguments["output"]
    state = json.loads((output / "state.json").read_text())
    of_file = state["steps"]["verify"]["result"]["accuracy"]
    assert f"{of_file:.1%} right" in result.lines[0]
    for line in lines:
        assert len(line.replace(str(output), "run")) <= 80, line
    for name in ("student.keras", "student.tflite", "report.html"):
        assert (output / name).stat().st_size
    assert "TeacherCache" in (output / "log.txt").read_text()
    assert len(list((output / "tensorboard").rglob("events*"))) >= 2
    settings = yaml.safe_load((output / "settings.yaml").read_text())[
        "settings"
    ]
    assert settings["steps"] == {"value": 75, "why": "given"}
    assert all(entry["why"] for entry in settings.values())
    facts = json.loads((output / "report.json").read_text())
    assert facts["data"]["samples"] == 8
    logits = kd.export.load(result.files["float32"])(data(8)[0])
    np.testing.assert_allclose(
        logits, result.student.predict(data(8)[0], verbose=0), atol=1e-3
    )
    # The same line again, and again with the steps that were left out.
    with pytest.raises(FileExistsError, match="finished"):
        kd.distill(**arguments)
    again = kd.distill(**arguments, resume=True)
    assert again.lines[:2] == result.lines[:2]


@pytest.mark.slow
def test_a_step_done_late_has_what_ships_made_again(arguments):
    output = arguments["output"]
    late = arguments | {"skip": [*arguments["skip"], "compare"]}
    kd.distill(**late, until="export")
    first = (output / "student.keras").stat().st_mtime_ns
    result = kd.distill(**arguments)
    assert (output / "student.keras").stat().st_mtime_ns > first
    state = json.loads((output / "state.json").read_text())["steps"]
    assert state["export"]["result"]["shipped"] == result.shipped
    assert {"distilled", "alone"} <= set(result.measured["accuracy"])


@pytest.mark.slow
def test_other_images_are_refused_by_a_run_that_goes_on(arguments):
    folder = arguments["output"].with_name("images")
    for i, (image, label) in enumerate(zip(*arguments["data"])):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(folder / str(label) / f"{i}.png", image)
    arguments["data"] = folder
    arguments["settings"] = SETTINGS | {"teacher_scale": "[0, 1]"}
    kd.distill(**arguments, until="look")
    next(folder.rglob("*.png")).unlink()
    with pytest.raises(ValueError, match="a run on other images"):
        kd.distill(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize("largest", [255.0, *nightly(1.0)])
def test_floats_of_an_image_dataset_are_pixels(arguments, largest):
    x, y = arguments["data"]
    arguments["student"] = "auto"
    arguments["data"] = largest * np.clip(x, 0.0, 1.0), y
    kd.distill(**arguments, until="look")
    student = keras.models.load_model(
        next(arguments["output"].rglob("start.keras"))
    )
    layers = [layer.name for layer in student.layers]
    assert ("pixels" in layers) == (largest == 255)


@pytest.mark.slow
def test_without_the_export_the_student_is_there(arguments):
    skip = ["diagnose", "compare", "export", "verify", "report"]
    result = kd.distill(**arguments | {"skip": skip})
    saved = keras.saving.load_model(arguments["output"] / "student.keras")
    for one, other in zip(weights(result), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def weights(result):
    return [np.asarray(w) for w in result.student.get_weights()]


@pytest.mark.slow
def test_the_same_line_goes_on_with_the_same_bits(
    arguments, tmp_path, monkeypatch
):
    arguments["skip"] += ["export"]
    whole = kd.distill(**arguments | {"output": tmp_path / "whole"})

    # After the cache, and in the second part of both trainings.
    moments = ["cache", "train", "compare"]
    report = training._Bar.on_train_batch_end
    finish = RunFolder.finish_step

    def killed_in_a_step(self, batch, logs=None):
        report(self, batch, logs)
        step = ("train", "compare")[self.model.alpha == 0]
        if step in moments and self._place[1] and batch == 3:
            moments.remove(step)
            raise Killed

    def killed_after_a_step(self, step, *rest):
        finish(self, step, *rest)
        if step == "cache":
            moments.remove(step)
            raise Killed

    monkeypatch.setattr(training._Bar, "on_train_batch_end", killed_in_a_step)
    monkeypatch.setattr(RunFolder, "finish_step", killed_after_a_step)
    teacher = arguments["teacher"]
    for _ in range(3):
        with pytest.raises(Killed):
            kd.distill(**arguments)
        # As in a new process: another name, other initial weights.
        arguments["student"] = convnet()
        arguments["teacher"] = keras.models.clone_model(teacher)
        arguments["teacher"].set_weights(teacher.get_weights())
        arguments["teacher"].name = f"{teacher.name}_again"
    assert moments == []
    result = kd.distill(**arguments)
    for one, other in zip(weights(whole), weights(result), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_without_labels_the_teacher_alone_teaches(arguments):
    x, _ = arguments["data"]
    result = kd.distill(**arguments | {"data": x, "time_limit": 3600})
    assert result.shipped == "distilled" and result.measured is None
    assert result.settings["alpha"]["value"] == 1.0
    assert "not known" in result.lines[3]


@pytest.mark.slow
def test_what_does_not_pay_ships_alone(arguments):
    settings = SETTINGS | {"temperature": None, "alpha": 0.0}
    result = kd.distill(**arguments | {"settings": settings})
    assert result.shipped == "alone"
    assert "the student alone" in result.lines[0] and "races" in result.lines[3]
    trained = kd.distill(
        **arguments
        | {"settings": arguments["output"] / "settings.yaml"}
        | {"output": arguments["output"].with_name("again")}
    )
    for one, other in zip(weights(result), weights(trained), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_file_of_the_same_name_is_another_teacher(tmp_path):
    given = dict.fromkeys(distilling.Arguments._fields)
    given["teacher"] = tmp_path / "teacher.tflite"
    told = []
    for content in b"one", b"two":
        given["teacher"].write_bytes(content)
        told.append(distilling._told_apart(distilling.Arguments(**given), {}))
    assert told[0]["teacher"] != told[1]["teacher"]
    assert str(given["teacher"]) in told[0]["teacher"]


def test_the_same_script_gives_the_same_student():
    """Without a seed its initial weights are others, and Keras's name too."""
    told = []
    for width in 4, 4, 5:
        given = dict.fromkeys(distilling.Arguments._fields)
        given |= {"student": convnet(width), "teacher": convnet(width)}
        told.append(distilling._told_apart(distilling.Arguments(**given), {}))
    assert told[0]["student"] == told[1]["student"] != told[2]["student"]
    assert told[0]["teacher"] != told[1]["teacher"]


def test_arguments_are_checked_first(arguments, tmp_path):
    for wrong, message in (
        ({"teacher": "no_such_teacher"}, "teacher must be the path"),
        ({"student": "no_such.keras"}, "student must be 'auto'"),
        ({"skip": ["train"]}, "skip must be one of"),
        ({"budget": {"kib": 3}}, "needs student='auto'"),
        (
            {"budget": {"mb": 3}, "student": "auto"},
            'any of "kib", "ms" and "macs"',
        ),
        ({"time_limit": -1}, "time_limit"),
        ({"until": "the end"}, "until"),
        ({"teacher": functools.partial(np.mean, axis=(1, 2))}, "version"),
    ):
        with pytest.raises(ValueError, match=message):
            kd.distill(**arguments | wrong)
    kept = arguments["output"] / "student.keras"
    assert not kept.exists()
    arguments["output"].mkdir()
    arguments["teacher"].save(kept)
    for options in {}, {"overwrite": True}:
        with pytest.raises(ValueError, match="teacher=.*Copy it"):
            kd.distill(**arguments | options | {"teacher": kept})
    with pytest.raises(FileExistsError, match="no run, but .*student.keras"):
        kd.distill(**arguments, overwrite=True)
    assert kept.exists()
    other = {"settings": {"image_size": 96}, "output": tmp_path / "other"}
    with pytest.raises(ValueError, match=r"image_size.*images of \[8, 8\]"):
        kd.distill(**arguments | other)
    other = {"settings": {"teacher_scale": "[0, 1]"}, "output": tmp_path / "a"}
    with pytest.raises(ValueError, match="images of bytes.*holds float32"):
        kd.distill(**arguments | other)
    assert set(distilling._FUNCTIONS) == set(distilling.STEPS)
