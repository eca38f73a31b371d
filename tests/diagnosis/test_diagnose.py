"""`kd.diagnose` on data that make each regime true by construction."""

import itertools
import json
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from diagnosis_cases import CLASSES
from diagnosis_cases import FEATURES
from diagnosis_cases import RULE
from diagnosis_cases import VALIDATION
from diagnosis_cases import data
from diagnosis_cases import flexible_student
from diagnosis_cases import kinds
from diagnosis_cases import knowing_teacher
from diagnosis_cases import linear
from diagnosis_cases import look
from diagnosis_cases import narrow_student

import keras_distill as kd
from keras_distill.diagnosis import diagnose
from keras_distill.diagnosis import short_training
from keras_distill.diagnosis.data import Data
from keras_distill.diagnosis.short_training import LEARNING_RATES
from keras_distill.diagnosis.short_training import TRIAL_STEPS

layers = keras.layers


ROOT = pathlib.Path(__file__).parents[2]


# The regimes.


@pytest.mark.slow
def test_few_samples_and_a_flexible_student_are_limited_by_data(limited):
    assert kinds(limited) == ["limited_by_data"]
    fit = limited.as_dict()["student"]
    assert fit["training"]["accuracy"] == 1.0
    assert fit["validation"]["accuracy"] < 0.85
    text = dict(limited.findings)["limited_by_data"]
    for words in ("100.0% on training", "SoftTargets", "mixup", "unlabelled"):
        assert words in text


@pytest.mark.slow
def test_many_samples_and_a_narrow_student_are_limited_by_capacity():
    result = look(narrow_student(), dataset=data(3000), steps=200)
    assert kinds(result) == ["limited_by_capacity"]
    fit = result.as_dict()["student"]
    assert fit["training"]["accuracy"] < 0.8
    assert fit["validation"]["accuracy"] == pytest.approx(
        fit["training"]["accuracy"], abs=0.05
    )
    text = dict(result.findings)["limited_by_capacity"]
    for words in ("larger student", "longer", "kd.losses.Hint"):
        assert words in text


@pytest.mark.slow
def test_too_early_to_say(capsys):
    result = look(dataset=data(3000), steps=5)
    assert capsys.readouterr().out == ""
    assert kinds(result) == ["undecided"]
    assert "0.2 times" in dict(result.findings)["undecided"]


def test_a_saturated_teacher(ordinary):
    assert "teacher_saturated" not in kinds(ordinary)
    # Surer of its training images than of others, though not all but certain.
    x, y = data(4000)
    ranked = np.sort(x @ RULE, -1)
    clear = ranked[:, -1] - ranked[:, -2] > 3.0
    memorized = look(dataset=(x[clear], y[clear]))
    row = memorized.as_dict()["teacher"]
    assert row["training"]["largest_probability"] < 0.99
    assert row["training"]["entropy"] < 0.5 * row["validation"]["entropy"]
    assert "teacher_saturated" in kinds(memorized)


@pytest.mark.slow
def test_a_useless_teacher():
    useless = linear(np.random.default_rng(0).normal(size=RULE.shape))
    result = look(teacher=useless, dataset=data(1000), steps=50)
    assert kinds(result)[0] == "teacher_not_better"
    assert "distil (kd" not in str(result)
    few = look(teacher=useless, dataset=data(60), steps=100)
    assert kinds(few) == ["teacher_not_better", "limited_by_data"]
    assert "distil (kd" not in dict(few.findings)["limited_by_data"]


@pytest.mark.nightly
def test_the_two_regimes_of_fashion_mnist(monkeypatch):
    """Distilled is 3.5 points better than alone with 2 000 images, no better
    with 20 000 (5000 steps)."""
    monkeypatch.setattr(short_training, "LEARNING_RATES", LEARNING_RATES)
    monkeypatch.setattr(short_training, "TRIAL_STEPS", TRIAL_STEPS)
    monkeypatch.syspath_prepend(ROOT / "examples")
    from _shared import small_networks

    images = kd.datasets.fashion_mnist()
    order = np.random.default_rng(0).permutation(60000)
    x, y = images.x_train[order], images.y_train[order]
    keras.utils.set_random_seed(0)
    teacher = small_networks.plain_teacher()
    # At a rate of 0.002 it is at 84 % after 2000 steps, as the student is.
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, 2500)
    teacher.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    batches = kd.datasets.batches(x[:20000], y[:20000], 64, seed=0)
    teacher.fit(batches, steps_per_epoch=2500, shuffle=False, verbose=0)
    for labels, regime in (
        (2000, "limited_by_data"),
        (20000, "limited_by_capacity"),
    ):
        keras.utils.set_random_seed(1000)
        result = diagnose(
            student=small_networks.plain_student(7),
            teacher=teacher,
            dataset=(x[:labels], y[:labels]),
            validation_data=(x[-10000:], y[-10000:]),
            seconds=120.0,
        )
        assert kinds(result) == [regime]


# The numbers.


def test_numbers_of_the_teacher_and_of_the_networks_by_hand():
    x, y = data(300)
    result = look(dataset=(x, y)).as_dict()
    logits = VALIDATION[0] @ RULE
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    row = result["teacher"]["validation"]
    assert row["accuracy"] == 1.0
    np.testing.assert_allclose(
        [row["entropy"], row["largest_probability"]],
        [-(p * np.log(p)).sum(-1).mean(), p.max(-1).mean()],
        rtol=1e-4,
    )
    assert result["teacher"]["parameters"] == 20 * 4 + 4
    assert result["teacher"]["multiply_accumulates"] == 20 * 4
    assert result["student"]["multiply_accumulates"] == 20 * 64 + 64 * 4
    assert result["data"]["training_samples"] == 300
    assert result["data"]["validation_samples_used"] == 1000
    training = result["short_training"]
    assert training["steps"] == 5
    assert training["samples"] == 5 * 128
    assert training["passes"] == pytest.approx(5 * 128 / 300)


def test_numbers_of_a_student_that_learns_nothing(monkeypatch):
    # Trained at a rate of 0 it stays what it was.
    monkeypatch.setattr(short_training, "LEARNING_RATES", (0.0,))
    student = flexible_student()
    result = look(student).as_dict()["student"]["validation"]
    x, y = VALIDATION
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    logits = student(x)
    assert result["cross_entropy"] == pytest.approx(
        float(entropy(y, logits)), rel=1e-4
    )
    assert result["accuracy"] == np.mean(np.argmax(logits, -1) == y)


def test_at_most_so_many_samples_are_looked_at():
    used = look(samples=150, batch_size=64).as_dict()["data"]
    assert used["training_samples_used"] == 150
    assert used["validation_samples_used"] == 150
    assert used["validation_samples"] == 1000
    # Which ones does not depend on what was drawn before.
    samples = Data(data(300), "dataset", 128)
    first = [batch[1] for batch in samples.some(50)]
    list(itertools.islice(samples.stream(), 4))
    second = [batch[1] for batch in samples.some(50)]
    np.testing.assert_array_equal(first, second)
    assert len(first[0]) == 50


def test_little_time_means_fewer_steps(ordinary):
    result = look(steps=100000, seconds=0.05)
    assert 1 <= result.as_dict()["short_training"]["steps"] < 1000
    assert kinds(result)[-1] == "cut_short"
    assert "cut_short" not in kinds(ordinary)


# What the user sees.


def test_the_table_and_the_words(limited):
    text = str(limited)
    assert all(len(line) <= 80 for line in text.splitlines())
    rows = {line[:30].strip(): line[30:].split() for line in text.splitlines()}
    assert rows["parameters"] == ["1,604", "84"]
    assert rows["multiply-accumulates"] == ["1,536", "80"]
    assert rows["samples"] == ["60", "1,000"]
    assert rows["teacher's accuracy"] == ["100.0%", "100.0%"]
    assert "LIMITED BY DATA: " in text
    assert repr(limited) == "<Diagnosis: limited_by_data>"


@pytest.mark.slow
def test_it_is_printed_when_verbose(capsys):
    result = look(verbose=True)
    out = capsys.readouterr().out
    assert out.endswith(str(result) + "\n")
    # The bar ends where the training does; how far depends on the machine.
    assert re.search(r"^(\d+)/\1 - ", out, re.MULTILINE)


def test_as_dict_is_json_and_a_copy(ordinary):
    numbers = ordinary.as_dict()
    assert json.loads(json.dumps(numbers)) == numbers
    assert numbers["findings"][0] == dict(
        zip(("kind", "text"), ordinary.findings[0], strict=True)
    )
    numbers["teacher"].clear()
    assert ordinary.as_dict()["teacher"]


# Bad input.


def _two_outputs():
    inputs = keras.Input((FEATURES,))
    outputs = [layers.Dense(CLASSES)(inputs), layers.Dense(CLASSES)(inputs)]
    return keras.Model(inputs, outputs)


def _endless_values():
    return linear(np.full_like(RULE, np.nan))


def _several_labels():
    return knowing_teacher(activation="sigmoid")


MAKERS = (_two_outputs, _endless_values, _several_labels)
X, Y = data(50)
EMPTY = tf.data.Dataset.from_tensor_slices((X, Y)).batch(64, True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"student": "model"}, TypeError, "student must be a keras.Model"),
        ({"teacher": "model"}, TypeError, "teacher must be a keras.Model"),
        (
            {"teacher": keras.Sequential([layers.Dense(4)])},
            ValueError,
            "not built",
        ),
        ({"dataset": EMPTY}, ValueError, "dataset yields nothing"),
        ({"validation_data": EMPTY}, ValueError, "validation_data yields"),
        ({"dataset": (X[:0], Y[:0])}, ValueError, "dataset yields nothing"),
        ({"dataset": (X, Y[:9])}, ValueError, r"number of samples.*\[9, 50\]"),
        ({"dataset": [(X, Y)] * 2}, TypeError, "`dataset` must be a tf.data"),
        ({"dataset": 3}, TypeError, "Received: 3 of type int"),
        ({"dataset": (X, Y + 1)}, ValueError, r"\[0, 3\].*such as 4"),
        ({"dataset": (X, Y - 1)}, ValueError, r"\[0, 3\].*such as -1"),
        ({"dataset": (X, Y + 0.5)}, ValueError, "regression"),
        ({"dataset": (X, np.ones((50, 4)))}, ValueError, "several labels"),
        ({"dataset": (X, np.ones((50, 3)))}, ValueError, r"shape \(50, 3\)"),
        ({"dataset": (X, {"a": Y})}, ValueError, "are several tensors"),
        (
            {"dataset": tf.data.Dataset.from_tensor_slices((X, Y))},
            ValueError,
            "batch it",
        ),
        ({"student": _two_outputs}, ValueError, "one output"),
        ({"teacher": _two_outputs}, ValueError, "one output"),
        ({"teacher": _endless_values}, ValueError, "NaN or infinite"),
        (
            {"teacher": _several_labels},
            ValueError,
            "multi-label",
        ),
        ({"steps": 0}, ValueError, "steps must be an integer"),
        ({"samples": 1.5}, ValueError, "samples must be an integer"),
        ({"batch_size": None}, ValueError, "batch_size must be"),
        ({"seconds": 0}, ValueError, "seconds must be a positive"),
        (
            {"task_loss": lambda y, p: keras.ops.mean(p) * np.nan},
            ValueError,
            "not finite",
        ),
        ({"views": "flip"}, TypeError, "views must be"),
    ],
    ids=lambda value: None if isinstance(value, type) else str(value)[:30],
)
def test_bad_input(arguments, error, message):
    arguments = dict(arguments)
    for role in ("student", "teacher"):
        if arguments.get(role) in MAKERS:
            arguments[role] = arguments[role]()
    with pytest.raises(error, match=message):
        look(**arguments)


def test_student_is_teacher_and_a_frozen_student():
    model = flexible_student()
    with pytest.raises(ValueError, match="same object"):
        look(model, model)
    model.trainable = False
    with pytest.raises(ValueError, match="no trainable weights"):
        look(model)
