"""Variational information: both forms against NumPy, limits, errors."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_distill.losses import VariationalInformation
from keras_distill.losses.information.variational import (
    inverse_softplus_variance,
)
from keras_distill.losses.information.variational import softplus_variance


def vid(**kwargs):
    return VariationalInformation(
        **{
            "teacher_layer_name": "t",
            "student_layer_name": "s",
            "dtype": "float64",
            **kwargs,
        }
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def log_likelihood(loss, teacher, student):
    """Per sample -log q(t|s) + constant, with loops, from the equation."""
    kernels = [
        w.numpy() for w in loss.trainable_variables if "kernel" in w.path
    ]
    alpha = loss.scales[0].numpy()
    results = []
    for t, s in zip(teacher, student):
        total = 0.0
        for h in range(t.shape[0]):
            for w in range(t.shape[1]):
                mu = s[h, w]
                for depth, kernel in enumerate(kernels):
                    mu = mu @ kernel[0, 0]
                    mu = np.maximum(mu, 0.0) if depth < 2 else mu
                for c in range(t.shape[2]):
                    sigma = np.sqrt(np.log(1 + np.exp(alpha[c])) + 1e-5)
                    total += np.log(sigma)
                    total += (t[h, w, c] - mu[c]) ** 2 / (2 * sigma**2)
        results.append(total)
    return np.array(results)


@pytest.fixture
def built():
    teacher, student = normal(3, 2, 4, 5), normal(3, 2, 4, 3, seed=1)
    loss = vid()
    loss.build(teacher.shape, student.shape)
    loss.scales[0].assign(normal(5, seed=2))
    return loss, teacher, student


def test_the_default_is_the_papers_sum(built):
    loss, teacher, student = built
    expected = log_likelihood(loss, teacher, student)
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student), expected.mean()
    )
    weight = np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student, sample_weight=weight),
        np.sum(weight * expected) / 3,
    )


def test_the_mean_is_the_sum_over_the_elements(built):
    loss, teacher, student = built
    mean = vid(reduction="mean")
    mean.build(teacher.shape, student.shape)
    mean.set_weights(loss.get_weights())
    np.testing.assert_allclose(
        mean.compute_loss(teacher, student),
        log_likelihood(loss, teacher, student).mean() / (2 * 4 * 5),
    )


def test_the_variance_is_stable():
    scale = tf.constant([-200.0, -20.0, 0.0, 20.0, 200.0])
    with tf.GradientTape() as tape:
        tape.watch(scale)
        variance = softplus_variance(scale)
    expected = np.logaddexp(0.0, scale.numpy().astype("float64")) + 1e-5
    np.testing.assert_allclose(variance, expected, rtol=1e-6)
    assert np.isfinite(tape.gradient(variance, scale)).all()
    # The literal log(1 + exp(-20)) is 0 in float32.
    small = softplus_variance(tf.constant(-12.0), 0.0)
    np.testing.assert_allclose(small, np.log1p(np.exp(-12.0)), rtol=1e-6)


def test_a_large_initial_variance():
    scale = inverse_softplus_variance(1000.0)
    assert scale == pytest.approx(1000.0)
    assert inverse_softplus_variance(0.01) < -4


def test_the_initial_variance_is_met():
    loss = vid(initial_variance=0.7)
    loss.build((None, 4, 4, 3), (None, 4, 4, 2))
    np.testing.assert_allclose(softplus_variance(loss.scales[0]), 0.7)
    scale = inverse_softplus_variance(5.0)
    np.testing.assert_allclose(softplus_variance(tf.constant(scale)), 5.0)


@pytest.mark.slow
def test_it_finds_the_noise_of_a_linear_teacher():
    """The trained sigma^2 is the variance that the student cannot explain."""
    generator = np.random.default_rng(0)
    student = generator.normal(size=(2048, 3)).astype("float32")
    noise = np.array([0.1, 0.5], "float32")
    teacher = student[:, :2] + noise * generator.normal(size=(2048, 2))
    keras.utils.set_random_seed(0)
    loss = vid(dtype="float32", reduction="mean", hidden_channels=16)
    loss.build(teacher.shape, student.shape)
    optimizer = keras.optimizers.Adam(0.02)
    teacher = tf.constant(teacher, "float32")

    @tf.function(jit_compile=True)
    def step():
        with tf.GradientTape() as tape:
            value = loss.compute_loss(teacher, student)
        variables = loss.trainable_variables
        optimizer.apply_gradients(
            zip(tape.gradient(value, variables), variables)
        )

    for _ in range(800):
        step()
    found = np.sqrt(softplus_variance(loss.scales[0]))
    np.testing.assert_allclose(found, noise, rtol=0.25)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, 1e-6])
def test_variances_are_checked(value):
    with pytest.raises(ValueError, match="initial_variance"):
        vid(initial_variance=value)


@pytest.mark.parametrize(
    "teacher, student",
    [((None, 4, 4, 8), (None, 6)), ((None, 5, 8), (None, 4, 8))],
)
def test_shapes_that_cannot_be_joined(teacher, student):
    with pytest.raises(ValueError, match="cannot be compared") as error:
        vid().build(teacher, student)
    assert str(teacher) in str(error.value)
    assert str(student) in str(error.value)


def test_reduction_must_be_known():
    with pytest.raises(ValueError, match="'sum', 'mean'. Received: 'batch'"):
        vid(reduction="batch")


def test_config_round_trip():
    loss = vid(reduction="mean", hidden_channels=7, initial_variance=2.0)
    text = json.dumps(keras.saving.serialize_keras_object(loss))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert copy.get_config() == loss.get_config()
    assert copy.hidden_channels == 7
