"""The parts of a run: its folder, its settings, its data, its screen."""

import json
import os
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from networks import Subclassed
from networks import convnet

import keras_distill as kd
from keras_distill._files import UNFINISHED
from keras_distill.teachers.cache import shards
from keras_distill.workflow import choosing
from keras_distill.workflow import data as images
from keras_distill.workflow import looking
from keras_distill.workflow import networks
from keras_distill.workflow import result
from keras_distill.workflow import settings as settings_module
from keras_distill.workflow import teaching
from keras_distill.workflow import training
from keras_distill.workflow.folder import RunFolder
from keras_distill.workflow.screen import Screen
from keras_distill.workflow.screen import duration
from keras_distill.workflow.settings import Settings


def pictures(n=40, classes=4):
    y = np.arange(n) % classes
    x = np.zeros((n, 8, 8, 3), "uint8")
    x += (60 * y).astype("uint8")[:, None, None, None]
    return x, y.astype("int32")


# The folder.


def test_the_same_run_goes_on_and_another_one_is_refused(tmp_path):
    path = tmp_path / "run"
    first = RunFolder(path, {"teacher": "a"})
    assert not first.resumes
    # Nothing was done: other arguments may still correct the first ones.
    folder = RunFolder(path, {"teacher": "b"})
    folder.finish_step("look", {"classes": 2}, 0.0)
    again = RunFolder(path, {"teacher": "b"})
    assert again.resumes and again.done("look") == {"classes": 2}
    with pytest.raises(FileExistsError, match='teacher: "b", now "c"'):
        RunFolder(path, {"teacher": "c"})
    again.finish()
    with pytest.raises(FileExistsError, match="finished.*--overwrite"):
        RunFolder(path, {"teacher": "b"})
    assert RunFolder(path, {"teacher": "b"}, resume=True).done("look")
    (path / "mine.txt").write_text("kept")
    assert RunFolder(path, {}, overwrite=True).done("look") is None
    assert (path / "mine.txt").exists()


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    for overwrite in False, True:
        if not overwrite:
            with pytest.raises(FileExistsError, match="holds no run"):
                RunFolder(tmp_path, {})
    with pytest.raises(FileExistsError, match="is a file"):
        RunFolder(tmp_path / "thesis.tex", {}, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years"


# The settings.


def test_settings_come_back_from_their_file(tmp_path):
    settings = Settings({"steps": 7})
    assert settings.settle("steps", 100, "the rule") == 7
    settings.settle("temperature", np.float32(2.0), "the races")
    settings.write(tmp_path / "settings.yaml", {"teacher": "t.keras"})
    content = yaml.safe_load((tmp_path / "settings.yaml").read_text())
    assert content["settings"]["steps"] == {"value": 7, "why": "given"}
    fixed, arguments = settings_module.read(tmp_path / "settings.yaml")
    assert fixed == {"steps": 7, "temperature": 2.0}
    assert arguments == {"teacher": "t.keras"}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"step": 5}, "unknown name 'step'. Known: .*steps"),
        ({"steps": 0}, "steps"),
        ({"quantization": ["int4"]}, "int8"),
        ("missing.yaml", "no such file"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        settings_module.read(settings)


# The data.


def test_images_are_divided_by_class_and_seed():
    x, y = pictures(100)
    data = images.divided(images.Source(x, y), None, None, 3)
    parts = data.train, data.validation, data.test
    assert [len(part[0]) for part in parts] == [80, 10, 10]
    assert sorted(np.concatenate([part[1] for part in parts])) == sorted(y)
    assert set(data.test[1]) == set(range(4))
    again = images.divided(images.Source(x, y), None, None, 3)
    np.testing.assert_array_equal(data.test[1], again.test[1])
    held = images.divided(
        images.Source(x, y), images.Source(x[:20], y[:20]), None, 3
    )
    assert [len(p[0]) for p in (held.train, held.validation, held.test)] == [
        100,
        10,
        10,
    ]


def test_a_pipeline_is_taken_into_memory_once(monkeypatch):
    x, y = pictures()
    samples = tf.data.Dataset.from_tensor_slices(
        (x, keras.utils.to_categorical(y))
    )
    sums = set()
    for dataset in samples.shuffle(40), samples.shuffle(40), samples.batch(16):
        source = images.in_memory(dataset, "data")
        np.testing.assert_array_equal(source.x[:, 0, 0, 0], 60 * source.y)
        np.testing.assert_array_equal(np.bincount(source.y), np.bincount(y))
        sums.add(images.checksum(source))
    assert len(sums) == 1  # A run that goes on knows shuffled images.
    with pytest.raises(ValueError, match="never ends.*take"):
        images.in_memory(samples.repeat(), "data")
    monkeypatch.setattr(images, "_memory", lambda: 100)
    with pytest.raises(ValueError, match="half of the free memory.*take"):
        images.in_memory(samples, "data")


@pytest.mark.parametrize(
    "data, message",
    [
        ((np.zeros((0, 8, 8, 3)), np.zeros(0)), "no image"),
        ((np.zeros((5, 8)), np.zeros(5)), "must hold images"),
        ((np.zeros((5, 8, 8, 3)), -np.ones(5)), "has others, such as -1"),
    ],
)
def test_data_that_hold_no_images(data, message):
    with pytest.raises(ValueError, match=f"data.*{message}"):
        images.in_memory(data, "data")


def fake_run(tmp_path, data=None, fixed=None, **arguments):
    x, y = pictures()
    given = dict.fromkeys(("time_limit", "budget"), None) | arguments
    run = types.SimpleNamespace(
        data=data or images.divided(images.Source(x, y), None, None, 0),
        settings=Settings(fixed),
        folder=RunFolder(tmp_path / "run", {}),
        arguments=types.SimpleNamespace(**given),
        given_student=None,
        seconds=lambda: 5.0,
        skips=lambda step: False,
        taught=(x, y),
    )
    run.settings.settle("batch_size", 8, "")
    run.settings.settle("seed", 0, "")
    return run


def test_one_class(tmp_path):
    x, y = pictures()
    data = images.divided(images.Source(x, 0 * y), None, None, 0)
    with pytest.raises(ValueError, match="one class"):
        looking._class_names(fake_run(tmp_path, data))


def test_a_time_limit_shorter_than_one_epoch(tmp_path):
    run = fake_run(tmp_path, time_limit=70.0)
    with pytest.raises(ValueError, match="shorter than one epoch.*at least"):
        looking._plan(run, per_step=10.0, per_image=0.1)
    run = fake_run(tmp_path / "long", time_limit=1000.0)
    looking._plan(run, per_step=0.1, per_image=0.1)
    assert 5 < run.settings["steps"] < looking.STEPS
    assert looking._teacher_passes(seen=300) == 10
    assert looking._teacher_passes(seen=20) == 2  # many images: no crops


def test_a_budget_is_met_by_the_family(tmp_path, monkeypatch):
    from keras_distill import models

    def none_fits(budget, shape, classes, **options):
        raise ValueError("budget={'kib': 1}: the smallest has 5 KiB.")

    monkeypatch.setattr(models, "mobile_within", none_fits, raising=False)
    run = fake_run(tmp_path, budget={"kib": 1.0})
    run.settings.settle("quantization", ["float32", "int8"], "")
    with pytest.raises(ValueError, match="the smallest has"):
        looking._student(run, (8, 8, 3), list("abcd"), True, True)


def test_a_budget_with_a_given_activation(tmp_path, monkeypatch):
    from keras_distill import models

    asked = []

    def fitted(budget, shape, classes, **options):
        asked.append(options["activation"])
        chosen = {"width": 0.5, "depth": 1, "activation": asked[0]}
        return types.SimpleNamespace(options=chosen, measured={})

    monkeypatch.setattr(models, "mobile_within", fitted, raising=False)
    fixed = {"activation": "hard_swish"}
    run = fake_run(tmp_path, fixed=fixed, budget={"macs": 1e4})
    run.settings.settle("quantization", ["int8"], "")
    looking._student(run, (8, 8, 3), list("abcd"), True, True)
    assert asked == ["hard_swish"] and run.settings["width"] == 0.5


def test_a_subclassed_student(tmp_path):
    run = fake_run(tmp_path)
    run.given_student = student = Subclassed()
    student(np.zeros((1, 8, 8, 3), "float32"))
    network, _ = looking._student(run, (8, 8, 3), list("abcd"), True, True)
    assert network.output_shape == (None, 4)
    with pytest.raises(ValueError, match=r"3 classes.*\(None, 4\)"):
        looking._student(run, (8, 8, 3), list("abc"), True, True)


@pytest.mark.parametrize(
    "fixed, unlabelled, message",
    [
        ({"alpha": 0.5}, True, "alpha'. must be 1"),
        ({"alpha": 0.5, "crop_area": [0.7, 1.0]}, False, None),
        ({"crop_area": [0.7, 1.0]}, False, None),
    ],
)
def test_settings_that_need_labels(tmp_path, fixed, unlabelled, message):
    x, y = pictures()
    more = images.Source(x, None) if unlabelled else None
    data = images.divided(images.Source(x, y), None, more, 0)
    run = fake_run(tmp_path, data, fixed)
    run.student = convnet
    run.settings.settle("steps", 10, "")
    bar = types.SimpleNamespace(note=lambda text: None)
    if message is not None:
        with pytest.raises(ValueError, match=message):
            choosing.choose(run, bar)
        return
    choosing.choose(run, bar)
    assert run.settings["alpha"] == fixed.get("alpha", 1.0)


def test_a_training_that_diverged(tmp_path):
    callback = training._MustBeFinite(0.5)
    callback.on_epoch_end(0, {"loss": 1.0})
    with pytest.raises(ValueError, match="smaller rate than 0.5"):
        callback.on_epoch_end(1, {"loss": float("nan")})


@pytest.mark.parametrize("shipped", ["distilled", "alone"])
def test_the_gain_of_what_ships(shipped):
    gain = {"difference": 0.05, "low": 0.01, "high": 0.09, "gap_closed": 0.5}
    measured = {
        "accuracy": {"distilled": 0.9, "alone": 0.85},
        "gain": gain,
        "images": 100,
        "shipped": shipped,
    }
    text = result._gain(measured)
    if shipped == "alone":
        assert text.startswith("none; distilled it would be +5.0 points")
    else:
        assert text.startswith("+5.0 points") and "50% of the gap" in text


def test_a_full_disk_says_what_to_do(tmp_path, monkeypatch):
    run = fake_run(tmp_path)
    run.settings.settle("temperature", 1.0, "")
    run.folder.finish_step("look", {"classes": list("abcd")}, 0.0)

    def full(run):
        shards.write(tmp_path, "shard", {"logits": np.ones((10, 4))})

    (tmp_path / (UNFINISHED + "shard")).symlink_to("/dev/full")
    monkeypatch.setattr(teaching, "_cache", full)
    with pytest.raises(OSError, match="same line again.*--skip cache"):
        teaching.cache(run, None)
    usage = types.SimpleNamespace(free=1000)
    monkeypatch.setattr(teaching.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="0.0 MB are free"):
        teaching.cache(run, None)


# The teacher.


class Oracle(keras.Model):
    """Tells the class by the brightness, in an order of its own."""

    def __init__(self, order, scale=1.0, units=None):
        super().__init__(name="oracle")
        self.order, self.divisor = order, scale
        self.built = True

    def call(self, x):
        level = keras.ops.mean(x, axis=(1, 2, 3)) * self.divisor / 60
        distance = keras.ops.abs(
            level[:, None] - keras.ops.arange(len(self.order), dtype="float32")
        )
        return -9 * keras.ops.take(distance, self.order, axis=1)


def test_a_teacher_whose_classes_are_in_another_order():
    x, y = pictures()
    names = ["ant", "bee", "cat", "dog"]
    teacher = Oracle([2, 0, 1, 3])
    with pytest.raises(ValueError, match="'cat', 'ant', 'bee', 'dog'"):
        networks.look_at_teacher(teacher, x, y, names, None, None)
    taken = networks.look_at_teacher(
        teacher, x, y, names, ["cat", "ant", "bee", "dog"], None
    )
    adapted = networks.adapted(teacher, (8, 8, 3), taken)
    np.testing.assert_array_equal(networks.decided(adapted, x), y)
    with pytest.raises(ValueError, match="has 4 classes, the data 2"):
        networks.look_at_teacher(teacher, x, y, names[:2], None, None)
    dogs = [*names[:3], "dogs"]
    with pytest.raises(ValueError, match="'dogs'(?s:.*)--set class_names="):
        networks.look_at_teacher(teacher, x, y, dogs, names, None)
    with pytest.raises(ValueError, match="Received 2 class_names"):
        networks.look_at_teacher(teacher, x, y, names, names[:2], None)


def test_one_unit_whose_names_are_in_another_order():
    x, y = pictures(classes=2)
    inputs = keras.Input((8, 8, 3))
    distance = keras.ops.mean(inputs, axis=(1, 2, 3))[:, None] - 60 / 255
    light = keras.ops.sigmoid(1000.0 * (0.1 - keras.ops.abs(distance)))
    teacher = keras.Model(inputs, light)
    taken = networks.look_at_teacher(
        teacher, x, 1 - y, ["light", "dark"], ["dark", "light"], "find"
    )
    assert taken["scale"] == "[0, 1]" and taken["gives"] == "probabilities"
    adapted = networks.adapted(teacher, (8, 8, 3), taken)
    np.testing.assert_array_equal(networks.decided(adapted, x), 1 - y)


def test_grey_images_for_a_teacher_of_three_channels():
    x, y = pictures()
    inputs = keras.Input((8, 8, 3))
    level = keras.ops.mean(inputs, axis=(1, 2, 3))[:, None] * 255 / 60
    levels = keras.ops.arange(4, dtype="float32")
    teacher = keras.Model(inputs, -9.0 * keras.ops.abs(level - levels))
    grey = x[..., :1]
    taken = networks.look_at_teacher(
        teacher, grey, y, list("abcd"), None, "find"
    )
    assert taken["scale"] == "[0, 1]"
    for scale in "[0, 1]", "ImageNet":
        scores = [
            networks.scores(
                networks.adapted(
                    teacher, images.shape[1:], taken | {"scale": scale}
                ),
                images,
            )
            for images in (grey, x)
        ]
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-4)


def test_a_teacher_that_takes_no_images():
    teacher = keras.Sequential([keras.Input((64,)), keras.layers.Dense(4)])
    x, y = pictures()
    with pytest.raises(ValueError, match="must take images"):
        networks.look_at_teacher(teacher, x, y, list("abcd"), None, None)


@pytest.mark.parametrize("units", [1, 4])
def test_probabilities_become_logits(units):
    x, y = pictures(classes=max(2, units))
    head = "sigmoid" if units == 1 else "softmax"
    teacher = convnet(classes=units, head=head)
    names = [str(i) for i in range(max(2, units))]
    taken = networks.look_at_teacher(teacher, x, None, names, None, "[0, 1]")
    assert taken["gives"] == "probabilities"
    logits = networks.scores(networks.adapted(teacher, (8, 8, 3), taken), x)
    p = networks.scores(teacher, x / 255)
    p = np.concatenate([1 - p, p], axis=1) if units == 1 else p
    np.testing.assert_allclose(logits, np.log(p), atol=1e-4)


@pytest.mark.slow
def test_a_function_takes_the_images_of_the_data(tmp_path):
    y = np.arange(30) % 3
    x = np.zeros((30, 8, 8, 3), "uint8")
    x[np.arange(30), :, :, y] = 200  # each class has its channel

    def teacher(images):
        return images.mean(axis=(1, 2))

    folder = tmp_path / "images"
    for i, label in enumerate(y):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(folder / str(label) / f"{i}.png", x[i])
    options = {"until": "look", "output": tmp_path / "run", "verbose": False}
    scale = {"teacher_scale": "[0, 255]"}
    with pytest.raises(ValueError, match="fixed input size.*image_size"):
        kd.distill(teacher, folder, settings=scale, **options)
    kd.distill(teacher, folder, settings={**scale, "image_size": 8}, **options)
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert state["steps"]["look"]["result"]["teacher"]["units"] == 3
    # Labels without names have those of the teacher, in its order.
    names = ["red", "green", "blue"]
    named = kd.BlackBox(teacher, (8, 8, 3), version="1", class_names=names)
    options |= {"settings": scale, "output": tmp_path / "named"}
    with pytest.raises(ValueError, match="not in the order of the data's"):
        kd.distill(named, (x, 2 - y), **options)
    kd.distill(named, (x, y), **options)
    state = json.loads((tmp_path / "named" / "state.json").read_text())
    assert state["steps"]["look"]["result"]["classes"] == names


def test_a_black_box_has_no_layers_to_compare(tmp_path):
    run = fake_run(tmp_path, fixed={"attention": True})
    run.teacher = run.given_teacher = kd.BlackBox(
        lambda x: x.mean(axis=(1, 2)), (8, 8, 3), version="1"
    )
    for name, value in ("crop_area", None), ("temperature", 1), ("alpha", 0.5):
        run.settings.settle(name, value, "")
    run.settings.settle("learning_rate", 0.1, "")
    run.settings.settle("attention", False, "")
    with pytest.raises(ValueError, match="black box gives its output only"):
        choosing.candidate(run, convnet())


# The screen.


def test_only_what_is_meant_for_the_screen_gets_there(tmp_path, capfd):
    with Screen(tmp_path / "log.txt") as screen:
        print("python's output")
        print("python's error", file=sys.stderr)
        os.write(1, b"native output\n")
        os.write(2, b"native error\n")
        subprocess.run(
            [sys.executable, "-c", "print('of a child')"], check=True
        )
        with screen.step("train", 60) as step:
            step.report(1, 2)
            step.note("word " * 30)
    seen = capfd.readouterr()
    assert seen.err == ""
    lines = seen.out.splitlines()
    assert lines[0].startswith("train") and len(lines) == 3
    assert all(len(line) <= 80 for line in lines)
    log = (tmp_path / "log.txt").read_text()
    for text in "python's error", "native output", "native error", "of a child":
        assert text in log
    assert "word word" in log


def test_an_error_is_in_the_log(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with Screen(tmp_path / "log.txt", verbose=False):
            1 / 0
    assert "ZeroDivisionError" in (tmp_path / "log.txt").read_text()


def test_durations():
    times = [duration(s) for s in (0.2, 61, 700, 7300)]
    assert times == ["1 s", "61 s", "12 min", "2.0 h"]


def test_the_state_is_json(tmp_path):
    folder = RunFolder(tmp_path / "run", {"budget": {"kib": 3.0}})
    folder.finish_step("look", {"a": None}, 0.0)
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert state["steps"]["look"]["result"] == {"a": None}
