"""Pearson's correlation of channels against NumPy's own."""

import numpy as np
import pytest

from keras_distill.losses import PearsonFeature


def pearson_feature(**kwargs):
    return PearsonFeature(
        teacher_layer_name="t",
        student_layer_name="s",
        dtype="float64",
        **kwargs,
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def distances(teacher, student):
    """1 - r per channel, of arrays `(positions, channels)`."""
    return [1 - np.corrcoef(t, s)[0, 1] for t, s in zip(teacher.T, student.T)]


def test_value():
    teacher, student = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    flat = teacher.reshape(-1, 5), student.reshape(-1, 5)
    value = pearson_feature().compute_loss(teacher, student)
    np.testing.assert_allclose(value, np.mean(distances(*flat)), rtol=1e-6)
    # The authors': half the squared difference of standardized maps.
    t, s = ((x - x.mean(0)) / (x.std(0, ddof=1) + 1e-6) for x in flat)
    n = len(flat[0])
    code = np.mean((t - s) ** 2) / 2
    np.testing.assert_allclose(value, code * n / (n - 1), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 2, 4), (3,)])
def test_a_weight_of_0_leaves_positions_out(shape):
    teacher, student = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    weight = (normal(*shape, seed=2) > 0).astype(float)
    where = np.broadcast_to(
        weight.reshape(shape + (1,) * (3 - len(shape))), (3, 2, 4)
    )
    expected = np.mean(distances(teacher[where > 0], student[where > 0]))
    value = pearson_feature().compute_loss(
        teacher, student, sample_weight=weight
    )
    np.testing.assert_allclose(value, expected * weight.mean(), rtol=1e-6)


def test_scale_and_shift_do_not_matter():
    teacher = normal(2, 4, 4, 3)
    loss = pearson_feature()
    for scale, value in ((0.1, 0.0), (-3.0, 2.0)):
        np.testing.assert_allclose(
            loss.compute_loss(teacher, scale * teacher + 5.0), value, atol=1e-6
        )


def test_a_dead_channel_gives_1():
    teacher = normal(2, 4, 4, 3)
    value = pearson_feature().compute_loss(teacher, 0 * teacher)
    np.testing.assert_allclose(value, 1.0)
