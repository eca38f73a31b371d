"""Overhauled feature distillation: partial L2, margins and their source."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_distill.losses import OverhauledFeature
from keras_distill.losses.feature.overhauled_feature import batch_norm_margin


def overhauled(**kwargs):
    return OverhauledFeature(
        **{
            "teacher_layer_name": "norm",
            "student_layer_name": "s",
            "dtype": "float64",
            **kwargs,
        }
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def per_sample(teacher, student, margin):
    """By cases, elementwise."""
    total = np.zeros(len(teacher))
    for (b, h, w, c), t in np.ndenumerate(teacher):
        s, m = student[b, h, w, c], margin[c]
        t_hat = max(t, m)
        if t > 0:
            total[b] += (s - t) ** 2
        elif s > t_hat:
            total[b] += (s - t_hat) ** 2
    return total


def teacher_network(gamma, beta, **kwargs):
    norm = layers.BatchNormalization(name="norm", **kwargs)
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.Conv2D(len(beta), 1, name="conv"),
            norm,
            layers.ReLU(name="relu"),
        ],
        name="teacher",
    )
    if norm.scale:
        norm.gamma.assign(gamma)
    if norm.center:
        norm.beta.assign(beta)
    return model


def test_value():
    teacher, student = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    margin = [-0.5, -0.1, 0.0, -2.0, -0.7]
    loss = overhauled(margin=[margin])
    expected = per_sample(teacher, student, margin)
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student), expected.mean()
    )
    weight = np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student, sample_weight=weight),
        np.sum(weight * expected) / 3,
    )


def test_the_margin_is_the_mean_of_the_negative_values():
    gamma, beta = np.array([0.5, -2.0, 1.0]), np.array([0.3, -1.0, 0.0])
    draws = beta + gamma * normal(2_000_000, 3)
    expected = [d[d < 0].mean() for d in draws.T]
    np.testing.assert_allclose(
        batch_norm_margin(gamma, beta), expected, rtol=3e-3
    )


def test_a_normalization_without_weights_has_a_margin_too():
    inputs = keras.Input((4, 4, 3))
    outputs = layers.BatchNormalization(center=False, scale=False, name="bn")(
        inputs
    )
    loss = OverhauledFeature(teacher_layer_name="bn", student_layer_name="bn")
    loss.bind(keras.Model(inputs, outputs), None)
    loss.build((None, 4, 4, 3), (None, 4, 4, 3))
    expected = batch_norm_margin(np.ones(3), np.zeros(3))
    np.testing.assert_allclose(loss.margins[0], expected, rtol=1e-6)


def test_margins_of_channels_that_are_never_negative_or_constant():
    margin = batch_norm_margin([0.1, 0.0, 0.0], [5.0, 2.0, -2.0])
    np.testing.assert_allclose(margin, [-0.3, 0.0, -2.0])


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}])
@pytest.mark.parametrize("given", ["tap", "name", "after build"])
def test_the_margin_is_taken_from_the_teacher(options, given):
    gamma, beta = np.array([0.5, -2.0]), np.array([0.3, -1.0])
    teacher = teacher_network(gamma, beta, **options)
    names = {}
    if given == "name":
        names = {"teacher_layer_name": "conv", "batch_norm_layer_name": "norm"}
    loss = overhauled(**names)
    shape = (None, 4, 4, 2)
    if given == "after build":  # A loaded Distiller that is given a teacher.
        loss.build(shape, shape)
        loss.bind(teacher, None)
    else:
        loss.bind(teacher, None)
        loss.build(shape, shape)
    gamma = np.ones(2) if "scale" in options else gamma
    beta = np.zeros(2) if "center" in options else beta
    expected = batch_norm_margin(gamma, beta)
    np.testing.assert_allclose(loss.margins[0], expected, rtol=1e-6)
    t, s = normal(3, 4, 4, 2), normal(3, 4, 4, 2, seed=1)
    np.testing.assert_allclose(
        loss.compute_loss(t, s), per_sample(t, s, expected).mean(), rtol=1e-6
    )


def test_without_margin_the_loss_is_not_a_number():
    x = normal(1, 2, 2, 3)
    assert np.isnan(overhauled().compute_loss(x, x + 1))


def test_a_tap_that_is_no_batch_normalization():
    teacher = teacher_network(np.ones(2), np.zeros(2))
    with pytest.raises(
        ValueError, match="'relu'.* is a ReLU layer.*batch_norm_"
    ):
        overhauled(teacher_layer_name="relu").bind(teacher, None)
    with pytest.raises(ValueError, match="teacher.*no layer 'nowhere'"):
        overhauled(batch_norm_layer_name="nowhere").bind(teacher, None)


@pytest.mark.parametrize("margin", [0.1, [0.5], [[-1.0, 0.1]], np.nan])
def test_margin_must_not_be_positive(margin):
    with pytest.raises(ValueError, match="must not be positive"):
        overhauled(margin=margin)


def test_margin_must_fit_the_pairs_and_channels():
    with pytest.raises(ValueError, match="one entry per pair"):
        overhauled(margin=[-1.0, -1.0])
    loss = overhauled(margin=[[-1.0, -1.0]])
    with pytest.raises(ValueError, match="margin has 2 numbers.* 3 channels"):
        loss.build((None, 4, 4, 3), (None, 4, 4, 3))
    with pytest.raises(ValueError, match="one name per pair"):
        overhauled(batch_norm_layer_name=["a", "b"])


def test_the_margin_is_not_trained_and_is_saved():
    loss = overhauled(margin=-0.5, connector="conv_bn")
    loss.build((None, 4, 4, 3), (None, 4, 4, 2))
    assert not any(v is loss.margins[0] for v in loss.trainable_variables)
    assert any(v is loss.margins[0] for v in loss.weights)
