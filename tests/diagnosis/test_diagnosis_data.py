"""The forms of data that `kd.diagnose` reads."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from diagnosis_cases import CLASSES
from diagnosis_cases import FEATURES
from diagnosis_cases import VALIDATION
from diagnosis_cases import counted
from diagnosis_cases import data
from diagnosis_cases import facts
from diagnosis_cases import look

import keras_distill as kd
from keras_distill.diagnosis.data import Data
from keras_distill.diagnosis.regimes import find

layers = keras.layers


@pytest.mark.slow
def test_datasets_with_and_without_an_end():
    x, y = data(300)
    finite = tf.data.Dataset.from_tensor_slices((x, y)).batch(64)
    seeded = kd.datasets.batches(x, y, 64, seed=0)
    for dataset in (finite, seeded):
        samples = counted(dataset)
        assert samples.samples == 300
        assert samples.drawn == 20 * 60
    one_hot = kd.datasets.batches(x, y, 64, seed=0, classes=CLASSES)
    result = look(dataset=one_hot, steps=20).as_dict()
    assert result["short_training"]["passes"] == pytest.approx(
        20 * 60 / 300, rel=0.1
    )
    assert result["student"]["training"]["accuracy"] > 0.8
    whole = tf.data.Dataset.from_tensor_slices(VALIDATION).batch(64)
    for samples, most in ((5000, 1000), (100, 1063)):
        some = Data(whole, "validation_data", 128)
        some.first()
        used = sum(len(y) for _, y, _ in some.some(samples))
        assert used == min(samples, 1000)
        assert 1000 <= some.samples <= most
    # Always other samples: how many there are is not known.
    fresh = seeded.map(lambda x, y: (x + tf.random.normal(tf.shape(x)), y))
    assert counted(fresh, 10).samples is None
    unknown = {"data__training_samples": None, "short_training__passes": None}
    assert "an unknown number of times" in find(facts(**unknown))[0][1]


@pytest.mark.slow
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

    assert counted(Batches()).samples == 300


@pytest.mark.slow
def test_views():
    x, y = data(300)
    views = kd.views.Preprocessing(teacher=layers.Rescaling(-1.0))
    right = look(dataset=(-x, y), views=views, validation_data=(-x, y))
    assert right.as_dict()["teacher"]["training"]["accuracy"] == 1.0
