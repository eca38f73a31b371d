"""Checkpoints, files, callbacks: the teacher is in none of them."""

import json
import pathlib
import subprocess
import sys
import zipfile
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

X, Y = data(64)


def hint():
    return kd.losses.Hint(teacher_layer_name="act1", student_layer_name="act1")


def distill(student=None, teacher=None, metrics=("accuracy",), **kwargs):
    distiller = kd.Distiller(
        student=student or convnet(batch_norm=True),
        teacher=teacher or convnet(8),
        distillation_losses={"soft": kd.losses.SoftTargets(), "hint": hint()},
        distillation_loss_weights={"soft": 1.0, "hint": 0.5},
        **kwargs,
    )
    distiller.compile(
        keras.optimizers.Adam(0.01), crossentropy(), metrics=list(metrics)
    )
    return distiller


def fit(distiller, epochs=1, **kwargs):
    return distiller.fit(
        X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, **kwargs
    )


class Saved(NamedTuple):
    """A Distiller after an epoch, its teacher, its file, what it predicts."""

    distiller: kd.Distiller
    teacher: keras.Model
    path: pathlib.Path
    predictions: np.ndarray


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    # The tests start from seed 0, and make other teachers.
    keras.utils.set_random_seed(7)
    teacher = convnet(8)
    distiller = distill(teacher=teacher, alpha=0.7)
    fit(distiller)
    path = tmp_path_factory.mktemp("saved") / "distiller.keras"
    distiller.save(path)
    predictions = distiller.predict(X, verbose=0)
    return Saved(distiller, teacher, path, predictions)


@pytest.mark.slow
def test_saved_and_loaded_it_goes_on_as_if_nothing_had_happened(saved):
    distiller = saved.distiller
    loaded = kd.load_distiller(saved.path, teacher=saved.teacher)
    assert loaded.alpha == 0.7
    assert loaded.distillation_loss_weights == {"soft": 1.0, "hint": 0.5}
    expected = fit(distiller, 2).history
    got = fit(loaded, 2).history
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5)
    for a, b in zip(loaded.weights, distiller.weights):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_plain_load_model_wants_a_teacher_before_fit(saved):
    loaded = keras.saving.load_model(saved.path)
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0), saved.predictions, atol=1e-6
    )
    loaded.evaluate(X, Y, verbose=0)
    with pytest.raises(ValueError, match="set_teacher"):
        fit(loaded)
    with pytest.raises(ValueError, match="not the teacher.*check=False"):
        loaded.set_teacher(convnet(8))
    with pytest.raises(ValueError, match="not the teacher"):
        kd.load_distiller(saved.path, teacher=convnet(8))
    loaded.set_teacher(convnet(8), check=False)
    fit(loaded)


@pytest.mark.slow
def test_a_second_save_without_teacher_keeps_the_fingerprint(saved, tmp_path):
    keras.saving.load_model(saved.path).save(tmp_path / "two.keras")
    kd.load_distiller(tmp_path / "two.keras", teacher=saved.teacher)
    with pytest.raises(ValueError, match="not the teacher"):
        kd.load_distiller(tmp_path / "two.keras", teacher=convnet(8))


@pytest.mark.slow
def test_no_file_holds_the_teacher(tmp_path):
    big = convnet(64)
    student = convnet()
    distiller = distill(student, big)
    fit(distiller)
    size = big.count_params() * 4
    distiller.save(tmp_path / "d.keras")
    distiller.save_weights(tmp_path / "d.weights.h5")
    tf.train.Checkpoint(model=distiller).write(str(tmp_path / "checkpoint"))
    names = [
        v[0] for v in tf.train.list_variables(str(tmp_path / "checkpoint"))
    ]
    shapes = [
        v[1] for v in tf.train.list_variables(str(tmp_path / "checkpoint"))
    ]
    assert [3, 3, 3, 64] not in shapes, names
    for path in tmp_path.iterdir():
        assert path.stat().st_size < size / 2, path
    with zipfile.ZipFile(tmp_path / "d.keras") as archive:
        config = json.loads(archive.read("config.json"))
    assert "teacher" not in config["config"]
    connector = 4 * 64 + 64
    assert distiller.count_params() == student.count_params() + connector
    assert big not in distiller.layers


@pytest.mark.slow
def test_the_student_needs_nothing_of_this_package(saved, tmp_path):
    distiller = saved.distiller
    distiller.student.save(tmp_path / "student.keras")
    distiller.student.export(tmp_path / "student", verbose=False)
    np.save(tmp_path / "x.npy", X)
    code = f"""
import sys, keras, numpy as np, tensorflow as tf
x = np.load({str(tmp_path / "x.npy")!r})
model = keras.saving.load_model({str(tmp_path / "student.keras")!r})
saved = tf.saved_model.load({str(tmp_path / "student")!r})
np.save({str(tmp_path / "y.npy")!r}, [model(x), saved.serve(x)])
assert not [m for m in sys.modules if m.startswith("keras_distill")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    for got in np.load(tmp_path / "y.npy"):
        np.testing.assert_allclose(
            got, distiller.predict(X, verbose=0), atol=1e-5
        )


@keras.saving.register_keras_serializable(package="tests")
class Student(Subclassed):
    pass


@pytest.mark.slow
def test_a_subclassed_student_is_saved_and_loaded(tmp_path):
    teacher = convnet(8)
    distiller = distill(Student(), teacher)
    fit(distiller)
    distiller.save(tmp_path / "d.keras")
    loaded = kd.load_distiller(tmp_path / "d.keras", teacher=teacher)
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0), distiller.predict(X, verbose=0), atol=1e-6
    )
    a, b = fit(distiller).history, fit(loaded).history
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)


@pytest.mark.slow
def test_schedules_metrics_and_views_survive(tmp_path):
    teacher = convnet(8)
    distiller = distill(
        teacher=teacher,
        metrics=["accuracy", kd.metrics.Agreement()],
        alpha=keras.optimizers.schedules.CosineDecay(1.0, 100),
        views=kd.views.Preprocessing(student=keras.layers.Rescaling(0.5)),
    )
    fit(distiller)
    distiller.save(tmp_path / "d.keras")
    loaded = kd.load_distiller(tmp_path / "d.keras", teacher=teacher)
    assert loaded.alpha.get_config() == distiller.alpha.get_config()
    expected = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    got = loaded.evaluate(X, Y, verbose=0, return_dict=True)
    assert set(got) == {"loss", "accuracy", "agreement"}
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5)


def half():
    return convnet(dtype="mixed_float16")


@pytest.mark.parametrize(
    "make",
    [
        lambda: kd.Distiller(
            student=half(), distillation_losses=kd.losses.SoftTargets()
        ),
        lambda: kd.MutualDistiller(students={"a": half(), "b": half()}),
        lambda: kd.NativeEnsembleDistiller(student=half(), branch_from="act1"),
    ],
    ids=["one", "mutual", "ensemble"],
)
def test_without_loss_scaling_it_is_loaded_without(make):
    distiller = make()
    distiller.compile("sgd", crossentropy(), auto_scale_loss=False)
    loaded = type(distiller).from_config(distiller.get_config())
    loaded.compile_from_config(distiller.get_compile_config())
    for member in getattr(loaded, "_members", {"": loaded}).values():
        assert type(member.optimizer) is keras.optimizers.SGD


def test_load_distiller_refuses_other_models(tmp_path):
    convnet().save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="not a Distiller"):
        kd.load_distiller(tmp_path / "m.keras")


# Callbacks.


@pytest.mark.slow
def test_model_checkpoint_and_early_stopping(tmp_path):
    teacher = convnet(8)
    distiller = distill(teacher=teacher)
    best = tmp_path / "best.keras"
    weights = tmp_path / "{epoch}.weights.h5"
    history = fit(
        distiller,
        4,
        validation_data=(X, Y),
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                best, monitor="val_accuracy", mode="max", save_best_only=True
            ),
            keras.callbacks.ModelCheckpoint(weights, save_weights_only=True),
            keras.callbacks.EarlyStopping(
                monitor="val_loss",
                patience=1,
                min_delta=100.0,
                restore_best_weights=True,
            ),
        ],
    ).history
    assert len(history["loss"]) == 2  # stopped: no gain of 100
    loaded = kd.load_distiller(best, teacher=teacher)
    result = loaded.evaluate(X, Y, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        result["accuracy"], max(history["val_accuracy"]), atol=1e-6
    )
    other = distill(teacher=teacher)
    other.load_weights(tmp_path / "1.weights.h5")
    result = other.evaluate(X, Y, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        result["loss"], history["val_loss"][0], rtol=1e-5
    )


@pytest.mark.nightly
def test_backup_and_restore_goes_on_after_an_interruption(tmp_path):
    class Interrupted(Exception):
        pass

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise Interrupted

    start = convnet(batch_norm=True).get_weights()
    teacher = convnet(8)

    def fresh():
        keras.utils.set_random_seed(7)
        student = convnet(batch_norm=True)
        student.set_weights(start)
        return distill(student, teacher)

    uninterrupted = fresh()
    fit(uninterrupted, 4)
    backup = lambda: keras.callbacks.BackupAndRestore(tmp_path / "b")  # noqa: E731
    with pytest.raises(Interrupted):
        fit(fresh(), 4, callbacks=[backup(), Interrupt()])
    again = fresh()
    history = fit(again, 4, callbacks=[backup()])
    assert history.epoch == [2, 3]
    for a, b in zip(again.weights, uninterrupted.weights):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_csv_logger_reduce_on_plateau_and_swap_ema(tmp_path):
    distiller = distill()
    distiller.compile(
        keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5),
        crossentropy(),
    )
    fit(
        distiller,
        3,
        validation_data=(X, Y),
        callbacks=[
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss", patience=0, min_delta=100.0
            ),
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        ],
    )
    header = (tmp_path / "log.csv").read_text().splitlines()[0].split(",")
    assert set(header) >= {
        "agreement",
        "distillation_loss",
        "hint_loss",
        "loss",
        "soft_loss",
        "student_loss",
        "val_loss",
    }
    assert float(distiller.optimizer.learning_rate) < 0.01


@pytest.mark.slow
def test_tensorboard_shows_every_term(tmp_path):
    fit(
        distill(),
        2,
        validation_data=(X, Y),
        callbacks=[keras.callbacks.TensorBoard(tmp_path, histogram_freq=1)],
    )
    tags = set()
    for path in (tmp_path / "train").glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    assert tags >= {
        "epoch_loss",
        "epoch_student_loss",
        "epoch_distillation_loss",
        "epoch_soft_loss",
        "epoch_hint_loss",
        "epoch_agreement",
        "epoch_accuracy",
    }


@pytest.mark.slow
def test_compile_again_starts_new_logs_and_keeps_the_weights():
    distiller = distill()
    fit(distiller)
    weights = distiller.student.get_weights()
    distiller.compile("sgd", crossentropy())
    assert [w.tolist() for w in weights] == [
        w.tolist() for w in distiller.student.get_weights()
    ]
    history = fit(distiller).history
    assert "accuracy" not in history
    assert sum(m.name == "training_log" for m in distiller.metrics) == 1
