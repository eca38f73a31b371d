"""Channel-wise distillation against loops; extremes, errors."""

import numpy as np
import pytest
import tensorflow as tf

from keras_distill.losses import ChannelWise


def channel_wise(**kwargs):
    return ChannelWise(
        teacher_layer_name="t",
        student_layer_name="s",
        dtype="float64",
        **kwargs,
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def per_sample(teacher, student, temperature):
    results = []
    for t, s in zip(teacher, student):
        total = 0.0
        for c in range(t.shape[-1]):
            p, q = (np.exp(x[..., c] / temperature) for x in (t, s))
            p, q = p / p.sum(), q / q.sum()
            total += np.sum(p * np.log(p / q))
        results.append(temperature**2 / t.shape[-1] * total)
    return np.array(results)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_value(temperature):
    teacher, student = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    loss = channel_wise(temperature=temperature)
    expected = per_sample(teacher, student, temperature)
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student), expected.mean()
    )
    weight = np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student, sample_weight=weight),
        np.sum(weight * expected) / 3,
    )


def test_the_connector_is_a_convolution():
    teacher, student = normal(3, 2, 4, 5), normal(3, 2, 4, 3, seed=1)
    loss = channel_wise()
    loss.build(teacher.shape, student.shape)
    kernel, bias = (w.numpy() for w in loss.trainable_variables)
    expected = per_sample(teacher, student @ kernel[0, 0] + bias, 4.0).mean()
    np.testing.assert_allclose(loss.compute_loss(teacher, student), expected)


def test_a_shift_of_a_channel_does_not_matter():
    teacher, student = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    loss, shift = channel_wise(), 100 * normal(5)
    np.testing.assert_allclose(
        loss.compute_loss(teacher + shift, student - shift),
        loss.compute_loss(teacher, student),
    )


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_extremes_are_finite(dtype):
    some = normal(2, 3, 3, 4)
    extreme = 1e4 * np.sign(some)
    for teacher in (some, extreme, 0 * some):
        for student in (some, extreme, 0 * some):
            x = tf.constant(student, dtype)
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = channel_wise(temperature=1).compute_loss(
                    tf.constant(teacher, dtype), x
                )
            assert np.isfinite(value)
            assert np.isfinite(tape.gradient(value, x)).all()


def test_errors():
    with pytest.raises(ValueError, match='connector="auto"') as error:
        channel_wise(connector=None).build((None, 4, 4, 8), (None, 4, 4, 6))
    assert "(None, 4, 4, 8), student (None, 4, 4, 6)" in str(error.value)
    with pytest.raises(ValueError, match="compares maps"):
        channel_wise().build((None, 8), (None, 8))
    with pytest.raises(ValueError, match="temperature must be"):
        channel_wise(temperature=0.0)
    with pytest.raises(ValueError, match="connector must be"):
        channel_wise(connector="dense")
