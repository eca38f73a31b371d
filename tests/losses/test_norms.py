"""Tensors over their norms, also where these are 0."""

import numpy as np
import pytest
import tensorflow as tf

from keras_distill import losses
from keras_distill.losses.ops.norms import over_norm

TAPS = {"teacher_layer_name": "t", "student_layer_name": "s"}


@pytest.mark.parametrize("axis", (-1, 1, (1, 2)))
def test_over_norm(axis):
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    expected = x / np.sqrt((x**2).sum(axis, keepdims=True))
    np.testing.assert_allclose(over_norm(x, axis), expected, rtol=1e-12)
    np.testing.assert_array_equal(over_norm(0 * x, axis), 0 * x)


@pytest.mark.parametrize(
    "loss",
    (
        losses.AttentionTransfer(power=1, **TAPS),
        losses.NeuronSelectivityTransfer(kernel="linear", **TAPS),
        losses.FactorTransfer(translate=False, paraphrase_rate=None, **TAPS),
    ),
)
def test_a_dead_student_gets_no_enormous_gradient(loss):
    teacher = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    student = tf.zeros((2, 4, 4, 3))
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = loss.compute_loss(teacher.astype("float32"), student)
    assert np.isfinite(value)
    assert np.abs(tape.gradient(value, student)).max() < 1e3
