import dataclasses
import gc
import sys

import keras
import numpy as np
import pytest
from networks import Subclassed
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill.datasets import batches
from keras_distill.diagnosis.choosing import halving
from keras_distill.diagnosis.choosing import races
from keras_distill.diagnosis.choosing.races import fair_order

choose_module = sys.modules["keras_distill.diagnosis.choosing.choose"]


def test_every_beginning_of_the_order_is_a_fair_part():
    y = np.repeat([0, 1, 2], [60, 30, 10])
    order = fair_order(y, 100, seed=0)
    assert sorted(order) == list(range(200))
    beginning = order[:40]
    labels = y[beginning[beginning < 100]]
    assert abs(len(labels) - 20) <= 3
    assert np.abs(np.bincount(labels, minlength=3) - [12, 6, 2]).max() <= 1
    assert not np.array_equal(order, fair_order(y, 100, seed=1))


def network(name, width=4):
    keras.utils.set_random_seed(width)
    return convnet(width, name=name)


def arguments(**kwargs):
    x, y = data(96)
    return {
        "student": network("student"),
        "teacher": network("teacher", 8),
        "x": x,
        "y": y,
        "batch_size": 16,
        "verbose": False,
        **kwargs,
    }


def test_without_time_for_a_race_the_rule_decides():
    given = arguments(steps=40)
    before = given["student"].get_weights()
    choice = kd.choose(**given)
    rule = kd.recipes.settings(samples=96, steps=40, batch_size=16)
    assert choice.settings["temperature"]["value"] == rule.temperature
    assert choice.settings["alpha"]["value"] == rule.alpha
    assert "6.7 times" in choice.settings["temperature"]["why"]
    assert all(row["accuracy"] is None for row in choice.table)
    assert choice.steps == 42  # 7 epochs of 6 steps
    for a, b in zip(before, choice.distiller.student.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_races_find_the_setting_that_wins(monkeypatch):
    """The teacher names every class wrongly: the student alone must win."""
    monkeypatch.setattr(halving, "LEAST_STEPS", 60)
    x, y = data(512)
    wrong = network("teacher", 8)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wrong.compile(keras.optimizers.Adam(0.01), loss)
    wrong.fit(x, (y + 1) % 4, epochs=8, verbose=0)
    given = arguments(teacher=wrong, x=x[:256], y=y[:256], steps=120, share=5.0)
    given["validation_data"] = x[256:], y[256:]
    before = given["student"].get_weights()
    choice = kd.choose(**given)
    assert not choice.distils
    assert choice.settings["alpha"]["value"] == 0.0
    raced = [row for row in choice.table if row["steps"]]
    assert len(raced) == 5
    assert max(raced, key=lambda row: row["accuracy"])["name"] == "alone"
    for a, b in zip(before, given["student"].get_weights()):
        np.testing.assert_array_equal(a, b)
    history = choice.distiller.fit(**choice.fit_arguments(), verbose=0).history
    assert history["student_loss"][-1] < history["student_loss"][0]
    assert "alone" in str(choice)


@pytest.mark.slow
def test_races_do_not_train_on_what_judges_them(monkeypatch):
    monkeypatch.setattr(halving, "LEAST_STEPS", 4)
    trained, judging = [], []

    def noted(x, *others, **arguments):
        trained.append(x)
        return batches(x, *others, **arguments)

    class Noting(races.Races):
        def __init__(self, **arguments):
            judging.append(arguments["validation"][0])
            super().__init__(**arguments)

    monkeypatch.setattr(races, "batches", noted)
    monkeypatch.setattr(choose_module, "Races", Noting)
    x, y = data(24)
    # One race as long as the whole training, and batches of nearly all.
    kd.choose(**arguments(x=x, y=y, batch_size=22, steps=4, share=2.0))
    *in_races, in_the_end = trained
    assert [len(x) for x in in_races] == [19, 19] and len(in_the_end) == 24
    both = np.concatenate([in_races[0], *judging]).reshape(24, -1)
    assert len(np.unique(both, axis=0)) == 24


@pytest.mark.parametrize("units, head", [(1, "sigmoid"), (4, "softmax")])
def test_networks_that_return_probabilities(units, head):
    x, y = data(24, classes=max(2, units))
    given = arguments(x=x, y=y, steps=2)
    given["student"] = convnet(classes=units)
    given["teacher"] = convnet(classes=units, head=head)
    soft_targets = kd.choose(**given).distiller.distillation_losses
    assert soft_targets["soft_targets"].teacher_probabilities
    given["student"] = convnet(classes=units, head=head)
    with pytest.raises(ValueError, match=f"ends in a {head}.*activation=None"):
        kd.choose(**given)


@pytest.mark.slow
def test_a_student_that_hides_its_layers():
    x, y = data(16)
    student = Subclassed()
    student(x)
    choice = kd.choose(**arguments(student=student, x=x, y=y, steps=2))
    choice.distiller.fit(**choice.fit_arguments(), verbose=0)


@pytest.mark.slow
@pytest.mark.nightly
def test_networks_of_one_unit(monkeypatch):
    monkeypatch.setattr(halving, "LEAST_STEPS", 10)
    x, y = data(64, classes=2)
    student, teacher = (convnet(width, classes=1) for width in (4, 8))
    given = arguments(x=x, y=y, steps=20, share=5.0)
    given |= {"student": student, "teacher": teacher}
    choice = kd.choose(**given)
    assert sum(row["steps"] is not None for row in choice.table) == 5
    history = choice.distiller.fit(**choice.fit_arguments(), verbose=0).history
    assert history["student_loss"][-1] < history["student_loss"][0]
    assert history["accuracy"][-1] >= 0.5


@pytest.mark.parametrize("crop_area", [None, (0.7, 1.0)])
def test_with_crops_by_rule_the_image_as_it_is_races(crop_area):
    from keras_distill.diagnosis.choosing.candidates import candidates

    rule = kd.recipes.settings(samples=500, steps=600, batch_size=128)
    rule = dataclasses.replace(rule, temperature=4.0, crop_area=crop_area)
    tried = candidates(rule, (8, 8), convnet(8), convnet(), True, 4)
    cropped = {c.name for c in tried if c.views is not None}
    by_name = {c.name: c for c in tried}
    if crop_area is None:
        assert [c.name for c in tried[:2]] == ["rule", "crops"]
        assert cropped == {"crops"}
    else:
        assert [c.name for c in tried[:2]] == ["rule", "plain"]
        assert cropped == set(by_name) - {"plain", "alone"}
        assert by_name["temperature"].alpha == 1.0
        assert by_name["rate"].alpha == 0.5


def test_the_reason_for_no_crops():
    from keras_distill.diagnosis.choosing.candidates import candidates

    reasons = sys.modules["keras_distill.diagnosis.choosing.choose"]._reasons
    rule = kd.recipes.settings(samples=96, steps=2000, batch_size=16)
    assert rule.crop_area is not None
    for size, name, why in (
        ((8, 8), "plain", "won the races: images as they are"),
        (None, "rule", "these are no images"),
    ):
        tried = candidates(rule, size, convnet(8), convnet(), True, 4)
        (chosen,) = (c for c in tried if c.name == name)
        table = [{"name": c.name, "steps": 600} for c in tried[:2]]
        found = reasons(chosen, table, rule)
        assert found["crop_area"] == {"value": None, "why": why}
        assert found["attention"]["why"] == "not tried"


@pytest.mark.slow
def test_crops_and_images_without_labels(monkeypatch):
    monkeypatch.setattr(halving, "LEAST_STEPS", 20)
    from keras_distill.diagnosis.choosing import candidates

    monkeypatch.setattr(candidates, "PASSES_FOR_CROPS", 1)
    x, y = data(96)
    choice = kd.choose(
        **arguments(x=x[:32], y=y[:32], unlabelled=x[32:], steps=60, share=0.7)
    )
    assert choice.settings["alpha"]["value"] == 1.0
    assert choice.steps_per_epoch == 6  # all 96 samples
    raced = [row["name"] for row in choice.table if row["steps"]]
    assert raced == ["rule", "crops"]
    assert choice.settings["attention"]["why"] == "not tried"
    choice.distiller.fit(**choice.fit_arguments(), verbose=0)


@pytest.mark.slow
def test_the_teachers_outputs_live_as_long_as_the_data(monkeypatch):
    rule = kd.recipes.settings(samples=96, steps=2000, batch_size=16)
    assert rule.crop_area is not None
    monkeypatch.setattr(kd.recipes, "settings", lambda **_: rule)
    choice = kd.choose(**arguments(steps=12))
    distiller, given = choice.distiller, choice.fit_arguments()
    del choice
    gc.collect()
    distiller.fit(**given, verbose=0)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"y": None}, "validation_data must be"),
        ({"x": np.zeros((0, 8, 8, 3))}, "at least one"),
        ({"y": np.zeros(5, "int32")}, "one for each of the 96"),
        ({"validation_data": np.zeros(3)}, "pair of arrays"),
    ],
)
def test_data_that_cannot_be_used(wrong, words):
    with pytest.raises(ValueError, match=words):
        kd.choose(**{**arguments(steps=10), **wrong})
