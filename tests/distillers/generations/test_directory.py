"""Generations that go on where they were stopped."""

import pathlib
import shutil
import subprocess
import sys

import generations_worker
import keras
import numpy as np
import pytest
from generations_worker import At
from generations_worker import run
from marks import nightly

import keras_distill as kd
from keras_distill._keras.fingerprint import fingerprint
from keras_distill.distillers.generations import directory

HERE = pathlib.Path(__file__).parent


class Interrupted(Exception):
    pass


def interrupt():
    raise Interrupted


def assert_same(one, other):
    for a, b in zip(one.models, other.models, strict=True):
        for v, w in zip(a.get_weights(), b.get_weights(), strict=True):
            np.testing.assert_array_equal(v, w)
    assert one.histories == other.histories
    assert one.metrics == other.metrics


@pytest.fixture(scope="module")
def uninterrupted():
    return run(None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "generation, epoch, batch",
    [
        (2, 1, 3),
        pytest.param(0, 2, 5, marks=pytest.mark.nightly),
        pytest.param(1, 0, None, marks=pytest.mark.nightly),
    ],
)
def test_stopped_anywhere_it_ends_as_if_it_was_not(
    tmp_path, uninterrupted, generation, epoch, batch
):
    with pytest.raises(Interrupted):
        run(
            tmp_path,
            lambda number: (
                [At(epoch, interrupt, batch)] * (number == generation)
            ),
        )
    begun = []
    found = run(
        tmp_path,
        lambda number: [
            At(e, lambda e=e: begun.append((number, e))) for e in range(3)
        ],
    )
    assert_same(found, uninterrupted)
    # What was done before was not done again.
    assert begun[0] == (generation, epoch)
    assert len(begun) == 9 - (3 * generation + epoch)
    assert not (tmp_path / "backup").exists()


@pytest.mark.slow
def test_what_is_in_the_folder(tmp_path, uninterrupted, capsys):
    run(tmp_path)
    for number, model in enumerate(uninterrupted.models):
        loaded = keras.saving.load_model(
            tmp_path / f"generation_{number}.keras"
        )
        assert fingerprint(loaded) == fingerprint(model)
        logs = tmp_path / "tensorboard" / f"generation_{number}"
        assert list(logs.rglob("events*"))
    assert not list(tmp_path.glob(".writing*"))
    # All is done: nothing is trained, and another generation is welcome.
    found = run(tmp_path, lambda number: [At(0, interrupt)], verbose=2)
    assert_same(found, uninterrupted)
    assert "generation 2/2: done before" in capsys.readouterr().out
    longer = run(tmp_path, generations=3, verbose=2)
    assert len(longer.models) == 4
    assert "generation 3/3: 'seq" in capsys.readouterr().out
    run(tmp_path, generations=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["after the network", *nightly("before the network")]
)
def test_a_killed_save_of_a_generation(
    tmp_path, uninterrupted, monkeypatch, name
):
    """After the last epoch: the backup holds all there is to know."""

    def save(self, number, network, *args):
        if name == "after the network":
            network.save(self._file(number, "keras"))
        interrupt()

    with monkeypatch.context() as patched:
        patched.setattr(directory.Directory, "save", save)
        with pytest.raises(Interrupted):
            run(tmp_path)
    assert list((tmp_path / "backup" / "generation_0").iterdir())
    assert not (tmp_path / "generation_0.json").exists()
    found = run(tmp_path, lambda number: [At(0, interrupt)] * (number == 0))
    assert_same(found, uninterrupted)


@pytest.mark.slow
def test_other_settings_are_refused_with_what_differs(tmp_path):
    settings = {"generations": 1, "validation_data": None}
    run(tmp_path, **settings)
    for options, message in (
        ({"alpha": 1.0}, "alpha: 0.7 in the directory, 1.0 given"),
        ({"epochs": 4}, "epochs: 3 in the directory, 4 given"),
        ({"seed": 1}, "seed: 0 in the directory, 1 given"),
        ({"optimizer": "adam"}, r"optimizer/config/learning_rate"),
        (
            {"distillation_losses": kd.losses.SoftTargets()},
            "distillation_losses/soft_targets: None in the directory",
        ),
        ({"steps_per_epoch": 7}, "fit_options/steps_per_epoch: 6 in"),
        ({"teacher": generations_worker.build_student()}, "teacher: None in"),
    ):
        with pytest.raises(ValueError, match=f"(?s)other settings.*{message}"):
            run(tmp_path, **{**settings, **options})
    build = generations_worker.build_student
    try:
        generations_worker.build_student = lambda: keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(3)]
        )
        with pytest.raises(ValueError, match="networks/0: '.* parameters"):
            run(tmp_path)
    finally:
        generations_worker.build_student = build
    run(tmp_path, **settings)


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ValueError, match="something else"):
        run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [4, *nightly(6)])
def test_a_dataset_that_ends(tmp_path, steps):
    """As long as an epoch, and longer: it goes on from epoch to epoch."""
    options = {
        "dataset": kd.datasets.batches(*generations_worker.data(), 16),
        "steps_per_epoch": steps,
        "validation_data": None,
        "generations": 1,
        "optimizer": keras.optimizers.SGD(0.1),
    }
    expected = run(tmp_path / "a", **options)
    assert [len(h["loss"]) for h in expected.histories] == [3, 3]
    for stopped in (0, 1):
        with pytest.raises(Interrupted):
            run(
                tmp_path / "b",
                lambda number: [At(2, interrupt)] * (number == stopped),
                **options,
            )
    assert_same(run(tmp_path / "b", **options), expected)


@pytest.mark.slow
def test_metrics_of_several_numbers_and_validation_weights(tmp_path):
    x, y = generations_worker.data()
    y = np.eye(3, dtype="float32")[y]
    weight = np.where(y[:, 0], 1.0, 0.0)
    options = {
        "dataset": kd.datasets.batches(x, y, 16),
        "loss": keras.losses.CategoricalCrossentropy(from_logits=True),
        "metrics": [keras.metrics.F1Score(average=None, name="f1")],
        "validation_data": (x, y, weight),
        "generations": 1,
    }
    with pytest.raises(Interrupted):
        run(tmp_path, lambda number: [At(1, interrupt)], **options)
    found = run(tmp_path, **options)
    for history, metrics in zip(found.histories, found.metrics):
        assert np.shape(history["f1"]) == (3, 3)
        assert np.shape(metrics["f1"]) == (3,)
    assert len(str(found).splitlines()[2].split()) == 4 + 3 + 1
    for model, metrics in zip(found.models, found.metrics):
        logits = model.predict(x, verbose=0)
        losses = keras.losses.categorical_crossentropy(
            y, logits, from_logits=True
        )
        expected = np.mean(weight * losses)
        assert metrics["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_what_a_killed_run_left_first(tmp_path):
    (tmp_path / ".writing-settings.json").write_text("{")
    run(tmp_path, generations=1, validation_data=None, epochs=1)


@pytest.mark.nightly
def test_a_damaged_backup(tmp_path):
    settings = {"generations": 1, "validation_data": None}
    with pytest.raises(Interrupted):
        run(tmp_path, lambda number: [At(1, interrupt)], **settings)
    (file,) = (tmp_path / "backup" / "generation_0").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match="damaged.*Delete"),
    ):
        run(tmp_path, **settings)
    file.unlink()
    run(tmp_path, **settings)


@pytest.mark.nightly
def test_learning_rates_changed_by_a_callback_survive(tmp_path):
    def callbacks(stop):
        return lambda number: [
            keras.callbacks.ReduceLROnPlateau("loss", 0.5, 0, min_delta=1e9),
            *([At(2, interrupt)] * stop),
        ]

    options = {
        "optimizer": keras.optimizers.SGD(0.1),
        "generations": 1,
        "validation_data": None,
    }
    expected = run(tmp_path / "a", callbacks(False), **options)
    with pytest.raises(Interrupted):
        run(tmp_path / "b", callbacks(True), **options)
    backup = kd.callbacks.BackupAndResume(
        tmp_path / "b" / "backup" / "generation_0"
    )
    assert backup.initial_epoch == 2
    found = run(tmp_path / "b", callbacks(False), **options)
    rates = [history["learning_rate"] for history in found.histories]
    assert rates == [h["learning_rate"] for h in expected.histories]
    assert rates[0][-1] < rates[0][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "stops", [[(3, 1, 4)], *nightly([(0, 2, 1), (3, 1, 4)])], ids=str
)
def test_killed_in_generation_3_it_goes_on_there(tmp_path, stops):
    expected = run(None, generations=3)
    for stop in stops:
        done = subprocess.run(
            [
                sys.executable,
                HERE / "generations_worker.py",
                tmp_path,
                *map(str, stop),
            ],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == -9, done.stderr[-2000:]
    kept = tmp_path / "kept"
    kept.mkdir()
    for file in tmp_path.glob("generation_2.*"):
        shutil.copy(file, kept)
    assert not (tmp_path / "generation_3.json").exists()
    assert_same(run(tmp_path, generations=3), expected)
    for file in kept.iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes()
