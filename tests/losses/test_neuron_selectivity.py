"""Neuron selectivity: both kernels against loops, both ways to compute."""

import numpy as np
import pytest
import tensorflow as tf

from keras_distill.losses import NeuronSelectivityTransfer
from keras_distill.losses.feature.neuron_selectivity import (
    polynomial_discrepancy,
)
from keras_distill.losses.feature.neuron_selectivity import selectivities


def nst(**kwargs):
    return NeuronSelectivityTransfer(
        teacher_layer_name="t", student_layer_name="s", **kwargs
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def per_sample(teacher, student, kernel):
    """Squared MMD with loops over pairs of channels."""
    results = []
    for t, s in zip(teacher, student):
        channels = []
        for x in (t, s):
            x = [x[..., c].ravel() for c in range(x.shape[-1])]
            channels.append([c / max(np.linalg.norm(c), 1e-12) for c in x])
        t, s = channels

        def mean(a, b):
            return np.mean([kernel(x, y) for x in a for y in b])

        results.append(mean(t, t) + mean(s, s) - 2 * mean(s, t))
    return np.array(results)


KERNELS = {
    "polynomial": lambda x, y: np.dot(x, y) ** 2,
    "linear": np.dot,
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [(2, 2), (4, 5)])  # < and > the channels
def test_value(kernel, size):
    teacher, student = normal(3, *size, 6), normal(3, *size, 5, seed=1)
    expected = per_sample(teacher, student, KERNELS[kernel])
    loss = nst(kernel=kernel)
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student), expected.mean()
    )
    weight = np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student, sample_weight=weight),
        np.sum(weight * expected) / 3,
    )


def test_the_order_and_number_of_channels_do_not_matter():
    teacher = normal(2, 3, 3, 4)
    student = np.concatenate([teacher, teacher], axis=-1)[..., ::-1]
    np.testing.assert_allclose(
        nst().compute_loss(teacher, student), 0.0, atol=1e-12
    )


def test_the_larger_map_is_averaged():
    teacher, student = normal(2, 2, 2, 4), normal(2, 4, 4, 3, seed=1)
    small = student.reshape(2, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(
        nst().compute_loss(teacher, student),
        per_sample(teacher, small, KERNELS["polynomial"]).mean(),
    )


@pytest.mark.parametrize("size", [(2, 2), (4, 5)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_degenerate_maps_have_finite_gradients(size, dtype):
    some = tf.constant(normal(1, *size, 6), dtype)
    dead = tf.concat([some[..., :3], tf.zeros_like(some[..., 3:])], -1)
    zero = tf.zeros_like(some)
    for teacher in (some, dead, zero):
        for student in (some, dead, zero):
            with tf.GradientTape() as tape:
                tape.watch(student)
                value = nst().compute_loss(teacher, student)
            assert np.isfinite(value)
            assert np.isfinite(tape.gradient(value, student)).all()


@pytest.mark.slow
def test_unknown_sizes_take_the_products_of_channels():
    teacher, student = normal(2, 2, 2, 6), normal(2, 2, 2, 5, seed=1)
    expected = nst().compute_loss(teacher, student)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, None, 6), "float64"),
            tf.TensorSpec((None, None, None, 5), "float64"),
        ]
    )
    def unknown(teacher, student):
        return nst().compute_loss(teacher, student)

    np.testing.assert_allclose(unknown(teacher, student), expected)


def test_no_product_of_positions_of_a_large_map():
    """64 * 64 positions: their products would be 16.8 million numbers."""
    x = tf.TensorSpec((2, 64, 64, 8), "float32")
    graph = tf.function(
        lambda a, b: polynomial_discrepancy(selectivities(a), selectivities(b))
    ).get_concrete_function(x, x)
    sizes = [
        int(np.prod(out.shape))
        for op in graph.graph.get_operations()
        for out in op.outputs
        if out.shape.is_fully_defined()
    ]
    assert max(sizes) == 2 * 64 * 64 * 8


def test_features_must_be_maps():
    with pytest.raises(ValueError, match="compares maps") as error:
        nst().build((None, 8), (None, 4, 4, 8))
    assert "teacher (None, 8), student (None, 4, 4, 8)" in str(error.value)


def test_kernel_must_be_known():
    with pytest.raises(ValueError, match="'polynomial', 'linear'"):
        nst(kernel="gaussian")
