"""Distributions of box sides against loops; regions; errors."""

import keras
import numpy as np
import pytest

from keras_distill.losses import LocalizationDistillation

BINS = 3


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def per_anchor(teacher, student, temperature):
    """`(batch, anchors)` of `(batch, anchors, 4 * bins)`."""
    result = np.zeros(teacher.shape[:2])
    for place in np.ndindex(*result.shape):
        for side in range(4):
            part = slice(BINS * side, BINS * (side + 1))
            p, q = (
                np.exp(x[place][part] / temperature) for x in (teacher, student)
            )
            p, q = p / p.sum(), q / q.sum()
            result[place] += temperature**2 * np.sum(p * np.log(p / q))
    return result


def test_value():
    teacher, student = normal(2, 5, 12), normal(2, 5, 12, seed=1)
    values = per_anchor(teacher, student, 10.0)
    weight = np.abs(normal(2, 5, seed=2))
    np.testing.assert_allclose(
        LocalizationDistillation().compute_loss(teacher, student),
        values.mean(),
    )
    loss = LocalizationDistillation(form="code")
    value = loss.compute_loss(teacher, student, sample_weight=weight)
    np.testing.assert_allclose(value, np.mean(weight * values) / 12)
    sides = (x.reshape(2, 5, 4, BINS) for x in (teacher, student))
    loss = LocalizationDistillation(bins=BINS)
    np.testing.assert_allclose(loss.compute_loss(*sides), values.mean())


@pytest.mark.parametrize("activation", [None, "sigmoid", "cached"])
def test_the_teacher_chooses_regions(activation):
    x = keras.Input((5, 2))
    cached = activation == "cached"
    head = keras.layers.Dense(
        7, activation=None if cached else activation, name="classes"
    )
    outputs = [keras.layers.Dense(12, name="sides")(x), head(x)]
    model = keras.Model(x, outputs)
    teacher, student = normal(2, 5, 12), normal(2, 5, 12, seed=1)
    classes = normal(2, 5, 7, seed=2)
    p = 1 / (1 + np.exp(-classes))
    regions = p.max(-1)
    loss = LocalizationDistillation(
        teacher_layer_name=["sides", "classes"],
        student_layer_name="sides",
        temperature=2.0,
    )
    loss.bind(None if cached else model, model)
    given = {"classes": p if activation else classes, "sides": teacher}
    loss.validate_batch(given)
    expected = np.sum(regions * per_anchor(teacher, student, 2.0))
    np.testing.assert_allclose(
        loss.compute_loss(given, student), expected / regions.sum()
    )
    assert loss.batch_coupled
    given["classes"] = 0 * p if activation else classes - 1e4
    assert loss.compute_loss(given, student) == 0.0


@pytest.mark.parametrize(
    "teacher, student, kwargs, message",
    [
        ((2, 5, 12), (2, 6, 12), {}, "same boxes"),
        ((2, 5, 12), (2, 5, 16), {}, "same boxes"),
        ((2, 5, 10), (2, 5, 10), {}, r"4 \* bins"),
        ((2, 5, 12), (2, 5, 12), {"bins": 4}, r"4 \* bins"),
        ((2, 12), (2, 12), {}, r"4 \* bins"),
        # 4 sides of 16 bins, or 4 columns of 4 sides of 4 bins?
        ((2, 5, 4, 16), (2, 5, 4, 16), {}, "size 4, pass bins="),
    ],
)
def test_refused_shapes(teacher, student, kwargs, message):
    with pytest.raises(ValueError, match=message):
        LocalizationDistillation(**kwargs).build(teacher, student)


def test_refused_layers():
    with pytest.raises(ValueError, match="teacher_layer_name must be"):
        LocalizationDistillation(teacher_layer_name=["a", "b", "c"])
    with pytest.raises(ValueError, match="student_layer_name must be"):
        LocalizationDistillation(student_layer_name=["a", "b"])
    loss = LocalizationDistillation(
        teacher_layer_name=["a", "b"], student_layer_name="a"
    )
    with pytest.raises(ValueError, match="second of teacher_layer_name"):
        loss.build({"a": (2, 5, 12), "b": (2, 4, 7)}, (2, 5, 12))
