import keras
import numpy as np
import pytest
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill.diagnosis.choosing import halving
from keras_distill.diagnosis.choosing.races import fair_order


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
    choice.distiller.fit(**choice.fit_arguments(), verbose=0)


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
