"""The short training learns, and changes nothing."""

import random
import types

import keras
import numpy as np
import pytest
from diagnosis_cases import CLASSES
from diagnosis_cases import FEATURES
from diagnosis_cases import VALIDATION
from diagnosis_cases import Clonable
from diagnosis_cases import Own
from diagnosis_cases import data
from diagnosis_cases import knowing_teacher
from diagnosis_cases import look
from diagnosis_cases import normalized_student

import keras_distill as kd
from keras_distill.diagnosis import short_training

layers = keras.layers


@pytest.mark.slow
def test_the_learning_rate_that_brings_the_loss_down_is_taken(monkeypatch):
    monkeypatch.setattr(short_training, "LEARNING_RATES", (1e-5, 1e-2, 1e9))
    monkeypatch.setattr(short_training, "TRIAL_STEPS", 20)
    assert look().as_dict()["short_training"]["learning_rate"] == 1e-2


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


class BusyMachine:
    """A clock on which a step takes so many seconds, and a pause as many."""

    def __init__(self, seconds):
        self.seconds, self.now = seconds, 0.0

    def perf_counter(self):
        self.now += self.seconds
        return self.now


def on_a_busy_machine(monkeypatch, seconds, **arguments):
    clock = BusyMachine(seconds)
    monkeypatch.setattr(
        short_training,
        "time",
        types.SimpleNamespace(perf_counter=clock.perf_counter),
    )
    keras.utils.set_random_seed(0)
    return look(**arguments)


@pytest.mark.slow
def test_a_busy_machine_gives_the_same_answer(monkeypatch):
    """A student that 60 samples limit: ten times the time changes nothing."""
    arguments = {"dataset": data(60), "steps": 100}
    quick = on_a_busy_machine(monkeypatch, 0.05, **arguments)
    slow = on_a_busy_machine(monkeypatch, 0.5, **arguments)
    assert quick.findings == slow.findings
    assert [kind for kind, _ in slow.findings] == ["limited_by_data"]
    facts = slow.as_dict()["short_training"]
    assert facts["steps"] == facts["steps_wanted"] == 100
    assert facts["seconds"] > 100
    assert "for 100 steps of Adam" in str(slow)


@pytest.mark.slow
def test_what_time_cuts_is_told(monkeypatch):
    cut = on_a_busy_machine(monkeypatch, 4.0, dataset=data(60), steps=100)
    short = cut.as_dict()["short_training"]
    assert 30 < short["steps"] < 75
    text = " ".join(str(cut).split())
    assert f"for {short['steps']} of the 100 steps of Adam" in text
    # What was seen suffices for an answer.
    assert cut.findings[0][0] == "limited_by_data"
    extreme = on_a_busy_machine(monkeypatch, 30.0, steps=100)
    kind, words = extreme.findings[-1]
    assert kind == "cut_short"
    assert "for 5 of 100 steps, because the time was up" in words


def test_what_was_trained_is_told(ordinary):
    text = " ".join(str(ordinary).split())
    assert (
        "Student alone: a copy, trained from its present weights for 5 steps "
        "of Adam on batches of 128, at a learning rate that falls from 0.03 "
        "(the best of 8 steps of trials) to 0; 640 samples drawn, each 2.1 "
        "times. It took "
    ) in text
