"""Which places of an image look alike."""

import numpy as np
import pytest

from keras_distill.losses import PatchSimilarity


def features(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def cosines(x):
    """`(batch, positions, positions)` of `(batch, ..., channels)`."""
    x = x.reshape(len(x), -1, x.shape[-1])
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return np.einsum("bpc,bqc->bpq", x, x)


@pytest.mark.parametrize("shape", [(3, 4, 2), (3, 6)])
def test_by_hand(shape):
    teacher, student = features(2, *shape), features(2, *shape[:-1], 5, seed=1)
    squares = (cosines(teacher) - cosines(student)) ** 2
    values = squares.mean(axis=(1, 2))
    loss = PatchSimilarity()
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student), values.mean()
    )
    weighted = loss.compute_loss(teacher, student, sample_weight=[2.0, 0.0])
    np.testing.assert_allclose(weighted, values[0])


def test_the_larger_map_is_averaged():
    teacher, student = features(2, 4, 4, 3), features(2, 2, 2, 5, seed=1)
    pooled = teacher.reshape(2, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    loss = PatchSimilarity()
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student), loss.compute_loss(pooled, student)
    )


@pytest.mark.parametrize(
    "teacher, student, message",
    [
        ((2, 8), (2, 8), "expected two maps"),
        ((2, 4, 4, 3), (2, 16, 3), "expected two maps"),
        ((2, 5, 3), (2, 6, 3), "sequences of equal length"),
    ],
)
def test_shapes_without_common_places(teacher, student, message):
    with pytest.raises(ValueError, match=message):
        PatchSimilarity().build(teacher, student)
