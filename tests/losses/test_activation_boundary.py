"""Activation boundaries: the hinge, both scalings, connectors, errors."""

import numpy as np
import pytest

from keras_distill.losses import ActivationBoundary


def boundary(**kwargs):
    return ActivationBoundary(
        **{
            "teacher_layer_name": "t",
            "student_layer_name": "s",
            "dtype": "float64",
            **kwargs,
        }
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def per_sample(teacher, student, margin=1.0):
    """The paper's equation, with its indicator of the teacher's activation."""
    fires = (teacher > 0).astype(float)
    left_out = np.maximum(margin - student, 0.0)
    wrong = np.maximum(margin + student, 0.0)
    d = fires * left_out + (1 - fires) * wrong
    return (d**2).sum(axis=(1, 2, 3))


@pytest.mark.parametrize("margin", [0.5, 1.0, 3.0])
def test_value(margin):
    teacher, student = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    loss = boundary(margin=margin)
    expected = per_sample(teacher, student, margin)
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student), expected.mean()
    )
    weight = np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student, sample_weight=weight),
        np.sum(weight * expected) / 3,
    )


def test_a_response_beyond_the_margin_costs_nothing():
    teacher = np.array([[[[2.0, 0.1, -4.0, 0.0]]]])
    student = np.array([[[[1.0, 9.0, -1.0, -2.0]]]])
    assert boundary().compute_loss(teacher, student) == 0.0


@pytest.mark.parametrize("weights", [None, [1.0, 5.0]])
def test_scaling_of_the_code(weights):
    teacher = {"a": normal(3, 2, 2, 3), "b": normal(3, 1, 1, 4)}
    student = {"c": normal(3, 2, 2, 3, seed=1), "d": normal(3, 1, 1, 4, seed=2)}
    loss = boundary(
        teacher_layer_name=["a", "b"],
        student_layer_name=["c", "d"],
        form="code",
        layer_weights=weights,
    )
    each = [
        per_sample(teacher["a"], student["c"]).mean(),
        per_sample(teacher["b"], student["d"]).mean(),
    ]
    expected = 0.003 * np.dot(weights or [0.5, 1.0], each)
    np.testing.assert_allclose(loss.compute_loss(teacher, student), expected)


def test_the_connector_normalizes_and_does_not_rectify():
    teacher, student = normal(4, 3, 3, 5), normal(4, 3, 3, 2, seed=1)
    loss = boundary()
    loss.build(teacher.shape, student.shape)
    kernel, gamma, beta = (w.numpy() for w in loss.trainable_variables)
    z = student @ kernel[0, 0]
    mean, variance = z.mean(axis=(0, 1, 2)), z.var(axis=(0, 1, 2))
    z = gamma * (z - mean) / np.sqrt(variance + 1e-5) + beta
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student), per_sample(teacher, z).mean()
    )


def test_one_sample_of_one_position_is_finite():
    """The variance of the batch is then 0."""
    loss = boundary(connector="conv_bn")
    value = loss.compute_loss(normal(1, 1, 1, 4), normal(1, 1, 1, 3))
    assert np.isfinite(value)


@pytest.mark.parametrize("margin", [0.0, -1.0, np.nan, np.inf])
def test_margin_must_be_positive(margin):
    with pytest.raises(
        ValueError, match="margin must be a positive, finite number"
    ):
        boundary(margin=margin)


def test_without_connector_the_channels_must_agree():
    with pytest.raises(ValueError, match='connector="auto"') as error:
        boundary(connector=None).build((None, 4, 4, 8), (None, 4, 4, 6))
    assert "(None, 4, 4, 8), student (None, 4, 4, 6)" in str(error.value)


@pytest.mark.parametrize("connector", ["auto", None])
def test_features_must_be_maps(connector):
    with pytest.raises(ValueError, match="compares maps"):
        boundary(connector=connector).build((None, 8), (None, 8))
