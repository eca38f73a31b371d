"""Masked generation against a convolution in NumPy."""

import numpy as np
import pytest

from keras_distill.losses import MaskedGenerative


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def masked_generative(teacher, student, mask=None, **kwargs):
    class WithMask(MaskedGenerative):
        def masks(self, x):
            return super().masks(x) if mask is None else mask

    loss = WithMask(
        teacher_layer_name="t",
        student_layer_name="s",
        dtype="float64",
        **kwargs,
    )
    loss.build(teacher.shape, student.shape)
    for i, variable in enumerate(loss.trainable_variables):
        variable.assign(normal(*variable.shape, seed=10 + i))
    return loss


def convolved(x, kernel, bias):
    """A 3x3 convolution of zero-padded maps, position by position."""
    batch, height, width, _ = x.shape
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    result = np.zeros((batch, height, width, kernel.shape[-1])) + bias
    for i in range(3):
        for j in range(3):
            part = padded[:, i : i + height, j : j + width]
            result += part @ kernel[i, j]
    return result


def test_value():
    teacher, student = normal(2, 3, 4, 5), normal(2, 3, 4, 2, seed=1)
    mask = (normal(2, 3, 4, 1, seed=2) > 0).astype(float)
    weight = np.abs(normal(2, 3, 4, seed=3))
    for form in ("paper", "mean"):
        loss = masked_generative(teacher, student, mask, form=form)
        align, shift, first, b, second, c = (
            v.numpy() for v in loss.trainable_variables
        )
        x = (student @ align[0, 0] + shift) * mask
        generated = convolved(np.maximum(convolved(x, first, b), 0), second, c)
        squares = (teacher - generated) ** 2
        for w in (None, weight):
            weighted = squares if w is None else squares * w[..., None]
            expected = (
                weighted.sum() / 2 if form == "paper" else weighted.mean()
            )
            np.testing.assert_allclose(
                loss.compute_loss(teacher, student, sample_weight=w), expected
            )


@pytest.mark.parametrize("ratio", [0.0, 0.75])
def test_masks(ratio):
    x = normal(4, 32, 32, 3)
    loss = masked_generative(x, x, mask_ratio=ratio)
    first, second = (np.asarray(loss.masks(x)) for _ in range(2))
    assert first.shape == (4, 32, 32, 1)
    assert set(np.unique(first)) <= {0.0, 1.0}
    assert abs(first.mean() - (1 - ratio)) < 0.03
    assert (ratio > 0) == bool((first != second).any())
