"""The teacher's fingerprint: computed once, and again when weights change."""

import keras
import numpy as np
import pytest

import keras_distill as kd
from keras_distill._keras.fingerprint import fingerprint
from keras_distill.teachers import teacher_fingerprint as module


def network():
    inputs = keras.Input((40,))
    x = keras.layers.Dense(60)(inputs)  # More than one row of the sums.
    return keras.Model(inputs, keras.layers.Dense(3)(x))


@pytest.fixture
def hashed(monkeypatch):
    """The models that were hashed, in order."""
    models = []

    def counted(model):
        models.append(model)
        return fingerprint(model)

    monkeypatch.setattr(module, "fingerprint", counted)
    return models


def distill(teacher):
    return kd.Distiller(
        student=network(),
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
    )


def test_every_save_after_the_first_hashes_nothing(hashed):
    teacher = network()
    distiller = distill(teacher)
    saved = [distiller.get_config()["teacher_fingerprint"] for _ in range(3)]
    assert saved == 3 * [fingerprint(teacher)]
    assert hashed == [teacher]
    other = network()
    distiller.set_teacher(other, check=False)
    found = distiller.get_config()["teacher_fingerprint"]
    assert found == fingerprint(other) != saved[0]


def changed(value, how):
    value = value.copy()
    if how == "one bit":
        value.flat[7] = np.nextafter(value.flat[7], np.float32(9))
    elif how == "the last value":
        value.flat[-1] += 1
    elif how == "two swapped":
        value.flat[[3, 1200]] = value.flat[[1200, 3]]
    elif how == "reversed":
        value = value[::-1]
    return value


@pytest.mark.parametrize(
    "how", ["one bit", "the last value", "two swapped", "reversed"]
)
def test_weights_that_changed_between_two_saves(hashed, how):
    teacher = network()
    distiller = distill(teacher)
    before = distiller.get_config()["teacher_fingerprint"]
    kernel = teacher.layers[1].kernel
    kernel.assign(changed(kernel.numpy(), how))
    after = distiller.get_config()["teacher_fingerprint"]
    assert after == fingerprint(teacher) != before
    assert len(hashed) == 2
