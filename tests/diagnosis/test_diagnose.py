"""`kd.diagnose` on data that make each regime true by construction."""

import copy
import json
import os
import pathlib
import random
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd
from keras_distill.diagnosis import short_training
from keras_distill.diagnosis.classifier import Classifier
from keras_distill.diagnosis.diagnose import diagnose
from keras_distill.diagnosis.regimes import find

ROOT = pathlib.Path(__file__).parents[2]
layers = keras.layers
FEATURES, CLASSES = 20, 4
RULE = np.random.default_rng(7).normal(size=(FEATURES, CLASSES))


def data(samples, seed=0):
    """Points labelled by a linear rule."""
    x = np.random.default_rng(seed).normal(size=(samples, FEATURES))
    return x.astype("float32"), (x @ RULE).argmax(-1).astype("int32")


VALIDATION = data(1000, seed=1)


def linear(weights, activation=None, name="teacher"):
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(weights.shape[1], activation=activation),
        ],
        name=name,
    )
    model.set_weights([weights, np.zeros(weights.shape[1])])
    return model


def knowing_teacher(scale=1.0, **kwargs):
    """Always right; the larger the scale, the more certain."""
    return linear(scale * RULE, **kwargs)


def flexible_student(**kwargs):
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(CLASSES, **kwargs),
        ],
        name="student",
    )


def narrow_student():
    """Sees one direction only: enough for two of four classes at best."""
    return keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(1), layers.Dense(CLASSES)],
        name="student",
    )


def normalized_student(synchronized=False):
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(8)(inputs)
    x = layers.BatchNormalization(momentum=0.999, synchronized=synchronized)(x)
    x = layers.Dropout(0.2)(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name="student")


class Own(keras.Model):
    """Cannot be made again from its configuration."""

    def __init__(self, width):
        super().__init__(name="student")
        self.inner = layers.Dense(width, activation="relu")
        self.norm = layers.BatchNormalization()
        self.drop = layers.Dropout(0.2)
        self.head = layers.Dense(CLASSES)

    def call(self, x, training=None):
        x = self.norm(self.inner(x), training=training)
        return self.head(self.drop(x, training=training))

    def get_config(self):
        raise NotImplementedError


class Clonable(Own):
    def get_config(self):
        return {"width": self.inner.units}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(short_training, "LEARNING_RATES", (3e-2,))
    monkeypatch.setattr(short_training, "TRIAL_STEPS", 3)


def look(student=None, teacher=None, dataset=None, **kwargs):
    settings = {"validation_data": VALIDATION, "steps": 5, "verbose": False}
    return diagnose(
        student=flexible_student() if student is None else student,
        teacher=knowing_teacher() if teacher is None else teacher,
        dataset=data(300) if dataset is None else dataset,
        **{**settings, **kwargs},
    )


def kinds(diagnosis):
    return [kind for kind, _ in diagnosis.findings]


# The regimes.


def test_few_samples_and_a_flexible_student_are_limited_by_data():
    result = look(dataset=data(60), steps=100)
    assert kinds(result) == ["limited_by_data"]
    fit = result.as_dict()["student"]
    assert fit["training"]["accuracy"] == 1.0
    assert fit["validation"]["accuracy"] < 0.85
    text = dict(result.findings)["limited_by_data"]
    for words in ("100.0% on training", "SoftTargets", "mixup", "unlabelled"):
        assert words in text


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


def test_too_early_to_say():
    result = look(dataset=data(3000), steps=5)
    assert kinds(result) == ["undecided"]
    assert "0.2 times" in dict(result.findings)["undecided"]


def test_a_saturated_teacher():
    assert "teacher_saturated" not in kinds(look())
    certain = look(teacher=knowing_teacher(scale=100.0))
    assert "teacher_saturated" in kinds(certain)
    # Surer of its training images than of others, though not all but certain.
    x, y = data(4000)
    ranked = np.sort(x @ RULE, -1)
    clear = ranked[:, -1] - ranked[:, -2] > 3.0
    memorized = look(dataset=(x[clear], y[clear]))
    row = memorized.as_dict()["teacher"]
    assert row["training"]["largest_probability"] < 0.99
    assert row["training"]["entropy"] < 0.5 * row["validation"]["entropy"]
    assert "teacher_saturated" in kinds(memorized)


def test_a_useless_teacher():
    useless = linear(np.random.default_rng(0).normal(size=RULE.shape))
    result = look(teacher=useless, dataset=data(1000), steps=50)
    assert kinds(result)[0] == "teacher_not_better"
    assert "distil (kd" not in str(result)
    few = look(teacher=useless, dataset=data(60), steps=100)
    assert kinds(few) == ["teacher_not_better", "limited_by_data"]
    assert "distil (kd" not in dict(few.findings)["limited_by_data"]


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


def test_numbers_of_a_student_that_learns_nothing():
    # Trained at a rate of 0 it stays what it was.
    short_training.LEARNING_RATES = (0.0,)
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
    first, second = (
        look(samples=50, steps=n).as_dict()["teacher"]["training"]["entropy"]
        for n in (1, 4)
    )
    assert first == second


def test_the_learning_rate_that_brings_the_loss_down_is_taken(monkeypatch):
    monkeypatch.setattr(short_training, "LEARNING_RATES", (1e-5, 1e-2, 1e9))
    monkeypatch.setattr(short_training, "TRIAL_STEPS", 20)
    assert look().as_dict()["short_training"]["learning_rate"] == 1e-2


def test_trials_leave_nothing_behind(monkeypatch):
    results = []
    for rates in ((1e-2,), (1e-2, 1e9)):
        monkeypatch.setattr(short_training, "LEARNING_RATES", rates)
        keras.utils.set_random_seed(3)
        x, y = data(128)
        # One batch is all there is: each step sees the same.
        result = look(dataset=(x, y), steps=10).as_dict()
        results.append(result["student"]["validation"]["cross_entropy"])
    assert results[0] == pytest.approx(results[1], rel=1e-3)


def test_little_time_means_fewer_steps():
    result = look(steps=100000, seconds=0.05)
    assert 1 <= result.as_dict()["short_training"]["steps"] < 1000
    assert kinds(result)[-1] == "cut_short"
    assert "cut_short" not in kinds(look())


# Heads, classes, replicas, labels.


def test_probabilities_are_taken_as_they_are():
    logits = look().as_dict()["teacher"]
    result = look(teacher=knowing_teacher(activation="softmax"))
    teacher = result.as_dict()["teacher"]
    assert (logits["head"], teacher["head"]) == ("logits", "softmax")
    for key in ("entropy", "largest_probability"):
        assert teacher["validation"][key] == pytest.approx(
            logits["validation"][key], rel=1e-4
        )
    text = dict(result.findings)["heads"]
    assert "teacher_probabilities=True" in text
    assert "student" not in text


def test_probabilities_are_seen_where_the_structure_hides_them():
    inputs = keras.Input((FEATURES,))
    plain = knowing_teacher()
    members = [
        knowing_teacher(activation="softmax", name=name) for name in "ab"
    ]
    average = layers.Average()([member(inputs) for member in members])
    softmax = layers.Lambda(keras.ops.softmax)(plain(inputs))
    expected = classifier(plain).probabilities(VALIDATION[0])
    for output in average, softmax:
        found = classifier(keras.Model(inputs, output))
        assert found.head == "softmax"
        np.testing.assert_allclose(
            found.probabilities(VALIDATION[0]), expected, atol=1e-6
        )


class OneUnit(keras.Model):
    def __init__(self):
        super().__init__()
        self.unit = layers.Dense(1, activation="sigmoid")

    def call(self, x):
        return self.unit(x)


def test_few_values_in_the_unit_interval_prove_nothing():
    model, x = OneUnit(), VALIDATION[0]
    model(x[:1])
    assert classifier(model, x[:31]).head == "logits"
    assert classifier(model, x[:32]).head == "sigmoid"
    # A head that shows what it is, is believed.
    inputs = keras.Input((FEATURES,))
    seen = layers.Dense(1, kernel_initializer="zeros")(inputs)
    assert classifier(keras.Model(inputs, seen), x).head == "logits"


def classifier(model, x=VALIDATION[0]):
    return Classifier(model, lambda x: x, x, "teacher")


def test_a_softmax_student_is_trained_as_such():
    keras.utils.set_random_seed(0)
    student = flexible_student(activation="softmax")
    result = look(student, dataset=data(1000), steps=50)
    assert result.as_dict()["student"]["training"]["accuracy"] > 0.8
    assert "from_logits=True" in dict(result.findings)["heads"]


def test_one_unit_for_two_classes():
    x, y = data(500)
    y = (y > 1).astype("int32")
    rule = RULE[:, 2:].sum(-1, keepdims=True)
    one = {"name": "student"}
    for activation in (None, "sigmoid"):
        student = linear(np.zeros((FEATURES, 1)), activation, **one)
        result = look(
            student,
            linear(rule, activation),
            (x, y),
            validation_data=(x, y[:, None]),
            steps=50,
        ).as_dict()
        p = 1 / (1 + np.exp(-(x @ rule)))
        p = np.concatenate([p, 1 - p], -1)
        row = result["teacher"]["validation"]
        assert row["largest_probability"] == pytest.approx(
            p.max(-1).mean(), rel=1e-4
        )
        assert result["student"]["classes"] == 2
        assert result["student"]["training"]["accuracy"] > 0.7


def test_other_classes():
    teacher = linear(np.ones((FEATURES, 6)))
    result = look(teacher=teacher)
    assert kinds(result)[0] == "classes_differ"
    assert "class_map" in str(result)
    assert "accuracy" not in result.as_dict()["teacher"]["validation"]
    assert "teacher_not_better" not in kinds(result)


def test_batch_normalization_under_replicas(monkeypatch):
    module = sys.modules["keras_distill.diagnosis.diagnose"]
    student = normalized_student()
    assert "batch_normalization" not in kinds(look(student))
    monkeypatch.setattr(module, "_replicas", lambda model: 4)
    text = dict(look(student).findings)["batch_normalization"]
    assert "4 replicas" in text and "synchronized=True" in text
    synchronized = normalized_student(synchronized=True)
    assert "batch_normalization" not in kinds(look(synchronized))


WORKER = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from test_diagnose import *
short_training.LEARNING_RATES, short_training.TRIAL_STEPS = (3e-2,), 3
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    student, teacher = normalized_student(), knowing_teacher()
before = student.get_weights()
def check():
    result = look(student, teacher, dataset=data(1000), steps=40)
    assert "batch_normalization" in kinds(result), kinds(result)
    assert result.as_dict()["student"]["training"]["accuracy"] > 0.6
check()
with strategy.scope():
    check()
for a, b in zip(before, student.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)
print("done")
"""


@pytest.mark.slow
def test_under_a_strategy_of_two_replicas():
    worker = subprocess.run(
        [sys.executable, "-c", WORKER],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert worker.stdout.strip().endswith("done"), worker.stderr[-3000:]


def test_without_labels():
    x, _ = data(300)
    result = look(dataset=tf.data.Dataset.from_tensor_slices(x).batch(50))
    assert kinds(result) == ["no_labels"]
    assert "in the training data" in result.findings[0][1]
    facts = result.as_dict()
    assert facts["teacher"]["validation"]["accuracy"] == 1.0
    assert "entropy" in facts["teacher"]["training"]
    assert "validation" not in facts["student"]
    neither = look(dataset=x, validation_data=VALIDATION[0])
    assert "training and validation data" in neither.findings[0][1]
    only = look(validation_data=VALIDATION[0])
    assert "in the validation data" in only.findings[0][1]


def test_sorted_data():
    x, y = VALIDATION
    order = np.argsort(y, kind="stable")
    ordered = tf.data.Dataset.from_tensor_slices((x[order], y[order]))
    result = look(validation_data=ordered.batch(50), samples=200)
    assert "sorted_data" in kinds(result)
    assert "in the validation data" in dict(result.findings)["sorted_data"]
    arrays = look(validation_data=(x[order], y[order]), samples=200)
    assert "sorted_data" not in kinds(arrays)


# The forms of data.


def test_datasets_with_and_without_an_end():
    x, y = data(300)
    finite = tf.data.Dataset.from_tensor_slices((x, y)).batch(64)
    seeded = kd.datasets.batches(x, y, 64, seed=0)
    one_hot = kd.datasets.batches(x, y, 64, seed=0, classes=CLASSES)
    for dataset in (finite, seeded, one_hot):
        result = look(dataset=dataset, steps=20).as_dict()
        assert result["data"]["training_samples"] == 300
        assert result["short_training"]["passes"] == pytest.approx(
            20 * 60 / 300, rel=0.1
        )
        assert result["student"]["training"]["accuracy"] > 0.8
    whole = tf.data.Dataset.from_tensor_slices(VALIDATION).batch(64)
    result = look(validation_data=whole, samples=5000).as_dict()["data"]
    assert result["validation_samples"] == 1000
    assert look(validation_data=whole, samples=100).as_dict()["data"][
        "validation_samples"
    ] in range(1000, 1064)
    # Always other samples: how many there are is not known.
    fresh = seeded.map(lambda x, y: (x + tf.random.normal(tf.shape(x)), y))
    result = look(dataset=fresh, steps=10)
    assert result.as_dict()["data"]["training_samples"] is None
    assert "an unknown number of times" in result.findings[0][1]


def test_weights_inputs_by_name_and_pydatasets():
    x, y = data(300)
    # Samples of weight 0 teach nothing: labels of all others are wrong.
    right = np.arange(300) < 150
    wrong = np.where(right, y, (y + 1) % CLASSES)
    weighted = look(dataset=(x, wrong, right.astype("float32")), steps=50)
    assert weighted.as_dict()["student"]["validation"]["accuracy"] > 0.7

    inputs = keras.Input((FEATURES,), name="small")
    student = keras.Model(inputs, layers.Dense(CLASSES)(inputs))
    named = {"student": 2 * x, "teacher": x}
    result = look(
        student,
        dataset=(named, y),
        validation_data=(named, y),
    ).as_dict()
    assert result["teacher"]["training"]["accuracy"] == 1.0

    class Batches(keras.utils.PyDataset):
        num_batches = 3

        def __getitem__(self, index):
            rows = slice(100 * index, 100 * (index + 1))
            return x[rows], y[rows]

    assert look(dataset=Batches()).as_dict()["data"]["training_samples"] == 300


def test_views():
    x, y = data(300)
    views = kd.views.Preprocessing(teacher=layers.Rescaling(-1.0))
    wrong = look(dataset=(x, y), views=views, validation_data=(x, y))
    assert wrong.as_dict()["teacher"]["training"]["accuracy"] < 0.2
    right = look(dataset=(-x, y), views=views, validation_data=(-x, y))
    assert right.as_dict()["teacher"]["training"]["accuracy"] == 1.0


# Nothing is changed.


def state_of(model):
    return {
        "weights": [np.array(v) for v in model.variables],
        "trainable": [layer.trainable for layer in model._flatten_layers()],
        "momenta": [
            getattr(layer, "momentum", None)
            for layer in model._flatten_layers()
        ],
        "optimizer": getattr(model, "optimizer", None),
        "compiled": model.compiled,
        "functions": (model.train_function, model.predict_function),
    }


@pytest.mark.parametrize("make", [normalized_student, Clonable, Own])
def test_networks_are_left_as_they_were(make):
    student = make(8) if issubclass(type(make), type) else make()
    x, y = data(300)
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile("adam", entropy)
    student.train_on_batch(x, y)
    teacher = knowing_teacher()
    teacher.layers[0].trainable = False
    iterations = int(student.optimizer.iterations)
    before = [state_of(student), state_of(teacher)]
    seeds = random.getstate()
    result = look(student, teacher, dataset=(x, y), steps=30)
    assert result.as_dict()["student"]["training"]["accuracy"] > 0.6
    assert random.getstate() == seeds
    assert int(student.optimizer.iterations) == iterations
    for was, model in zip(before, (student, teacher), strict=True):
        now = state_of(model)
        for a, b in zip(was.pop("weights"), now.pop("weights"), strict=True):
            np.testing.assert_array_equal(a, b)
        assert was == now


def test_a_student_that_cannot_be_copied_comes_back_after_an_error():
    student = Own(8)
    student(data(4)[0])
    before = state_of(student)
    x, y = VALIDATION
    with pytest.raises(ValueError, match="must lie in"):
        look(student, validation_data=(x, y + 1))
    now = state_of(student)
    for a, b in zip(before["weights"], now["weights"], strict=True):
        np.testing.assert_array_equal(a, b)
    assert now["momenta"] == before["momenta"]


def test_the_copy_is_equal_to_the_student():
    x = data(8)[0]
    own = Own(8)
    own(x)
    with short_training.stand_in(own, x) as model:
        assert model is own
    student = Clonable(8)
    student(x)
    for student in (knowing_teacher(), normalized_student(), student):
        with short_training.stand_in(student, x) as model:
            assert model is not student
            np.testing.assert_array_equal(model(x), student(x))


def test_a_configuration_that_tells_half_gives_no_copy():
    class Half(Clonable):
        def __init__(self, width, scale=1.0):
            super().__init__(width)
            self.scale = scale

        def call(self, x, training=None):
            return self.scale * super().call(x, training)

    x = data(8)[0]
    for scale, copied in ((1.0, True), (3.0, False)):
        student = Half(8, scale)
        student(x)
        with short_training.stand_in(student, x) as model:
            assert (model is not student) == copied


def test_slow_batch_statistics_do_not_hide_what_was_learned():
    x, y = data(500)
    far = (x + 20.0, y)
    student = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.BatchNormalization(momentum=0.999),
            layers.Dense(CLASSES),
        ]
    )
    views = kd.views.Preprocessing(teacher=layers.Rescaling(1.0, -20.0))
    result = look(
        student, dataset=far, validation_data=far, views=views, steps=60
    ).as_dict()
    assert result["student"]["training"]["accuracy"] > 0.8


def test_an_unbuilt_student_stays_unbuilt():
    student = keras.Sequential([layers.Dense(8), layers.Dense(CLASSES)])
    facts = look(student).as_dict()
    assert facts["student"]["parameters"] == 20 * 8 + 8 + 8 * 4 + 4
    assert not student.built
    with pytest.raises(ValueError, match="copy of it cannot be made"):
        look(Own(8))


# What the user sees.


def test_the_table_and_the_words():
    result = look(dataset=data(60), steps=100)
    text = str(result)
    assert all(len(line) <= 80 for line in text.splitlines())
    rows = {line[:30].strip(): line[30:].split() for line in text.splitlines()}
    assert rows["parameters"] == ["1,604", "84"]
    assert rows["multiply-accumulates"] == ["1,536", "80"]
    assert rows["samples"] == ["60", "1,000"]
    assert rows["teacher's accuracy"] == ["100.0%", "100.0%"]
    assert "LIMITED BY DATA: " in text
    assert repr(result) == "<Diagnosis: limited_by_data>"


def test_it_is_printed_when_verbose_and_silent_when_not(capsys):
    look()
    assert capsys.readouterr().out == ""
    result = look(verbose=True)
    out = capsys.readouterr().out
    assert out.endswith(str(result) + "\n")
    # The bar ends where the training does; how far depends on the machine.
    assert re.search(r"\[1m(\d+)/\1\x1b", out)


def test_as_dict_is_json_and_a_copy():
    result = look()
    facts = result.as_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["findings"][0] == dict(
        zip(("kind", "text"), result.findings[0], strict=True)
    )
    facts["teacher"].clear()
    assert result.as_dict()["teacher"]


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
        ({"dataset": [(X, Y)] * 2}, TypeError, "dataset must be a tf.data"),
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


# The words, from numbers alone.


def facts(**changes):
    """Numbers in which nothing is remarkable but the student's capacity."""
    row = {"entropy": 0.3, "largest_probability": 0.9, "accuracy": 0.9}
    fit = {"accuracy": 0.8, "cross_entropy": 0.50}
    fit["cross_entropy_standard_error"] = 0.01
    result = {
        "teacher": {
            "head": "logits",
            "classes": 10,
            "training": dict(row),
            "validation": {**row, "lead": 0.1, "lead_standard_error": 0.01},
        },
        "student": {
            "head": "logits",
            "classes": 10,
            "parameters": 1000,
            "local_batch_normalizations": 0,
            "training": dict(fit),
            "validation": dict(fit),
        },
        "data": {
            "training_samples": 10000,
            "training_samples_used": 2000,
            "validation_samples_used": 2000,
            "training_classes_seen": 10,
            "validation_classes_seen": 10,
        },
        "short_training": {"steps": 1000, "steps_wanted": 1000, "passes": 10.0},
        "replicas": 1,
    }
    for path, value in changes.items():
        place = result
        *outer, last = path.split("__")
        for key in outer:
            place = place[key]
        place[last] = value
    return copy.deepcopy(result)


def found(**changes):
    return [kind for kind, _ in find(facts(**changes))]


def test_thresholds_of_the_student():
    loss = "student__validation__cross_entropy"
    assert found() == ["limited_by_capacity"]
    assert found(**{loss: 0.549}) == ["limited_by_capacity"]
    assert found(**{loss: 0.551}) == ["limited_by_data"]
    error = {"student__training__cross_entropy_standard_error": 0.03}
    assert found(**{loss: 0.551}, **error) == ["limited_by_capacity"]
    assert found(student__parameters=1999) == ["limited_by_capacity"]
    assert found(student__parameters=2001) == ["undecided"]
    assert found(data__training_samples=None) == ["undecided"]
    many = {"short_training__passes": 101.0}
    assert found(student__parameters=2001, **many) == ["limited_by_capacity"]


def test_thresholds_of_the_teacher():
    sure = "teacher__training__largest_probability"
    assert found(**{sure: 0.989}) == ["limited_by_capacity"]
    assert found(**{sure: 0.991})[-1] == "teacher_saturated"
    assert "teacher_saturated" in found(teacher__training__entropy=0.149)
    assert "teacher_saturated" not in found(teacher__training__entropy=0.151)
    lead = "teacher__validation__lead"
    assert found(**{lead: 0.011}) == ["limited_by_capacity"]
    # A student as good as its teacher is limited by neither.
    assert found(**{lead: 0.009}) == ["teacher_not_better"]
    assert found(**{lead: -0.2}) == ["teacher_not_better"]


def test_thresholds_of_the_data_and_the_time():
    few = "data__validation_classes_seen"
    assert found(**{few: 9})[-1] == "sorted_data"
    assert "sorted_data" not in found(**{few: 10})
    small = {"data__validation_samples_used": 199}
    assert "sorted_data" not in found(**{few: 9}, **small)
    assert found(short_training__steps=499)[-1] == "cut_short"
    assert "cut_short" not in found(short_training__steps=500)


@pytest.mark.nightly
def test_the_two_regimes_of_fashion_mnist(monkeypatch):
    """Distilled is 3.5 points better than alone with 2 000 images, no better
    with 20 000 (5000 steps)."""
    monkeypatch.undo()
    monkeypatch.syspath_prepend(ROOT / "examples" / "studies")
    import what_to_expect as example

    images = kd.datasets.fashion_mnist()
    order = np.random.default_rng(0).permutation(60000)
    x, y = images.x_train[order], images.y_train[order]
    keras.utils.set_random_seed(0)
    teacher = example.plain_teacher()
    # At a rate of 0.002 it is at 84 % after 2000 steps, as the student is.
    teacher.compile(example.optimizer(2500, 1e-2), example.CROSSENTROPY)
    example.fit(teacher, x[:20000], y[:20000], 2500, seed=0)
    for labels, regime in (
        (2000, "limited_by_data"),
        (20000, "limited_by_capacity"),
    ):
        keras.utils.set_random_seed(1000)
        result = diagnose(
            student=example.plain_student(7),
            teacher=teacher,
            dataset=(x[:labels], y[:labels]),
            validation_data=(x[-10000:], y[-10000:]),
            seconds=120.0,
        )
        assert kinds(result) == [regime]
