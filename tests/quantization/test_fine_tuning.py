"""From a float student to one that is good in few bits."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_distill as kd


def agreement(model, student, x):
    ours = model.predict(x, verbose=0).argmax(-1)
    return np.mean(ours == student.predict(x, verbose=0).argmax(-1))


@pytest.mark.slow
def test_it_wins_back_what_two_bits_lose():
    split = kd.datasets.digits()
    keras.utils.set_random_seed(0)
    student = keras.Sequential(
        [
            keras.Input(split.x_train.shape[1:]),
            layers.Conv2D(8, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, strides=2),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    student.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    student.fit(split.x_train, split.y_train, epochs=10, verbose=0)
    calibrated = kd.quantization.aware(
        student, weights=2, calibration_data=split.x_train
    )
    tuned = kd.quantization.fine_tune(
        student, split.x_train, weights=2, epochs=6, verbose=0
    )
    before = agreement(calibrated, student, split.x_test)
    after = agreement(tuned, student, split.x_test)
    assert 1.0 - after < 0.5 * (1.0 - before)


def test_a_dataset_without_a_length():
    student = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    dataset = kd.datasets.batches(np.ones((8, 2)), None, 4).repeat()
    with pytest.raises(ValueError, match="steps_per_epoch|never ends"):
        kd.quantization.fine_tune(student, dataset)
