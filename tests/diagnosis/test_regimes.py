"""The findings, from numbers."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from diagnosis_cases import VALIDATION
from diagnosis_cases import classifier
from diagnosis_cases import data
from diagnosis_cases import facts
from diagnosis_cases import found
from diagnosis_cases import kinds
from diagnosis_cases import look
from diagnosis_cases import normalized_student

import keras_distill as kd
from keras_distill.diagnosis import examination
from keras_distill.diagnosis.regimes import find


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


def test_thresholds_of_the_labels():
    agrees = "teacher__training__accuracy"
    assert found(**{agrees: 0.81}) == ["limited_by_capacity"]
    assert found(**{agrees: 0.79}) == ["limited_by_labels"]
    few = {"data__training_samples_used": 50, "data__training_samples": 50}
    few["data__training_classes_seen"] = 10
    assert found(**{agrees: 0.79}, **few) == ["undecided"]
    # A gap of the student's says more, and so does a lack of headroom.
    gap = {"student__validation__cross_entropy": 0.7}
    assert found(**{agrees: 0.79}, **gap) == ["limited_by_data"]
    worse = {"headroom__accuracy": interval(-0.1, 0.02)}
    assert found(**{agrees: 0.79}, **worse) == ["teacher_not_better"]
    words = dict(find(facts(**{agrees: 0.561})))["limited_by_labels"]
    assert "56.1% of the training labels" in words


def interval(difference, half):
    low, high = difference - half, difference + half
    return {"difference": difference, "low": low, "high": high}


def test_the_headroom_comes_first():
    lead = "headroom__accuracy"
    assert found(**{lead: interval(0.02, 0.019)}) == ["limited_by_capacity"]
    assert found(**{lead: interval(0.02, 0.021)}) == ["no_clear_headroom"]
    assert found(**{lead: interval(-0.02, 0.03)}) == ["teacher_not_better"]
    assert found(**{lead: interval(-0.2, 0.01)}) == ["teacher_not_better"]
    memorized = {"student__validation__cross_entropy": 0.7}
    unclear = {lead: interval(0.02, 0.021)}
    words = dict(find(facts(**unclear, **memorized)))
    assert list(words) == ["no_clear_headroom", "limited_by_data"]
    assert "distil (kd" not in words["limited_by_data"]
    first = words["no_clear_headroom"]
    for part in (
        "+2.0 points (95 % interval -0.1 to +4.1)",
        "on 2,000 samples",
        "take more validation data",
    ):
        assert part in first
    more = dict(find(facts(**unclear, data__validation_samples=9000)))
    assert (
        "your 9,000 validation samples (samples=)" in more["no_clear_headroom"]
    )


def test_the_headroom_of_imbalanced_classes():
    imbalanced = {
        "data__validation_imbalanced": True,
        "data__validation_majority": 0.69,
        "headroom__accuracy": interval(0.0, 0.02),
    }
    balanced = "headroom__balanced_accuracy"
    clear = {balanced: interval(0.05, 0.03)}
    assert found(**imbalanced, **clear) == ["limited_by_capacity", "imbalanced"]
    unclear = {balanced: interval(0.05, 0.06)}
    assert found(**imbalanced, **unclear) == ["no_clear_headroom", "imbalanced"]
    # More right decisions that find fewer of the rare class are no headroom.
    imbalanced["headroom__accuracy"] = interval(0.05, 0.02)
    worse = {balanced: interval(-0.05, 0.03)}
    words = dict(find(facts(**imbalanced, **worse)))
    assert list(words) == ["no_clear_headroom", "imbalanced"]
    assert "in balanced accuracy -5.0 points" in words["no_clear_headroom"]
    assert "right on 69.0%" in words["imbalanced"]


def test_thresholds_of_the_data_and_the_time():
    few = "data__validation_classes_seen"
    assert found(**{few: 9})[-1] == "sorted_data"
    assert "sorted_data" not in found(**{few: 10})
    small = {"data__validation_samples_used": 199}
    assert "sorted_data" not in found(**{few: 9}, **small)
    assert found(short_training__steps=499)[-1] == "cut_short"
    assert "cut_short" not in found(short_training__steps=500)


@pytest.mark.slow
def test_batch_normalization_under_replicas(monkeypatch):
    monkeypatch.setattr(examination, "_replicas", lambda model: 4)
    text = dict(look(normalized_student()).findings)["batch_normalization"]
    assert "4 replicas" in text and "synchronized=True" in text
    layers = "student__local_batch_normalizations"
    assert "batch_normalization" in found(**{layers: 1}, replicas=2)
    assert "batch_normalization" not in found(**{layers: 1}, replicas=1)
    synchronized = classifier(normalized_student(synchronized=True))
    assert not synchronized.facts(VALIDATION[0])["local_batch_normalizations"]


WORKER = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from diagnosis_cases import *
from keras_distill.diagnosis import short_training
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


@pytest.mark.nightly
def test_under_a_strategy_of_two_replicas():
    worker = subprocess.run(
        [sys.executable, "-c", WORKER],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert worker.stdout.strip().endswith("done"), worker.stderr[-3000:]


@pytest.mark.slow
def test_without_labels(monkeypatch):
    # Nothing can be compared: nothing is trained, random views or not.
    monkeypatch.setattr(examination, "train", None)
    x, _ = data(300)
    result = look(dataset=tf.data.Dataset.from_tensor_slices(x).batch(50))
    assert kinds(result) == ["no_labels"]
    assert "in the training data" in result.findings[0][1]
    numbers = result.as_dict()
    assert numbers["teacher"]["validation"]["accuracy"] == 1.0
    assert "entropy" in numbers["teacher"]["training"]
    assert "validation" not in numbers["student"]
    for views in None, kd.views.Augmented(keras.layers.GaussianNoise(0.1)):
        only = look(validation_data=VALIDATION[0], views=views)
        assert kinds(only) == ["no_labels"]
        assert "in the validation data" in only.findings[0][1]
    neither = facts()
    for part in ("training", "validation"):
        del neither["data"][f"{part}_classes_seen"]
    assert "training and validation data" in find(neither)[0][1]


@pytest.mark.slow
def test_sorted_data():
    x, y = VALIDATION
    order = np.argsort(y, kind="stable")
    ordered = tf.data.Dataset.from_tensor_slices((x[order], y[order]))
    result = look(validation_data=ordered.batch(50), samples=200)
    assert "sorted_data" in kinds(result)
    assert "in the validation data" in dict(result.findings)["sorted_data"]
    arrays = look(validation_data=(x[order], y[order]), samples=200)
    assert "sorted_data" not in kinds(arrays)
