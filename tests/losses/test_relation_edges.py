"""Relations between samples: degenerate batches, replicas, errors, saving."""

import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import nightly
from test_relation import features
from test_relation import value

from keras_distill import losses
from keras_distill.losses.ops import gathering
from keras_distill.losses.relation.relation import POTENTIALS

COUPLED = [
    losses.Relation,
    losses.RelationalDistance,
    losses.RelationalAngle,
    losses.SimilarityPreserving,
    losses.CorrelationCongruence,
    losses.ProbabilisticTransfer,
]


def value_and_gradient(loss, teacher, student):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        result = loss.compute_loss(teacher, student)
    return float(result), tape.gradient(result, student).numpy()


# Degenerate batches.


@pytest.mark.parametrize("loss", COUPLED)
@pytest.mark.parametrize("dtype", ["float32", *nightly("float64")])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_degenerate_batches_are_finite(loss, dtype, batch):
    some, other = features(batch, 6), features(batch, 6, seed=1)
    zero = np.zeros_like(some)
    same = np.repeat(some[:1], batch, axis=0)
    twins = some.copy()
    twins[-1] = twins[0]
    for teacher, student in (
        (some, some),
        (zero, zero),
        (zero, some),
        (some, zero),
        (other, same),
        (same, other),
        (other, twins),
        (other, 1e-6 * some),
        (other, 1e4 * some),
        (other, some + 1e3),
    ):
        result, gradient = value_and_gradient(
            loss(), teacher.astype(dtype), student.astype(dtype)
        )
        assert np.isfinite(result)
        assert np.isfinite(gradient).all()
        # Twins shall not blow up a training.
        assert np.abs(gradient).max() < 1e8
        if teacher is student:
            assert abs(result) < 1e-6


def test_opposite_samples_in_float32():
    """Their cosine is rounded to less than -1, and was no probability."""
    loss = losses.ProbabilisticTransfer()
    teacher = np.eye(2, 4, dtype="float32")
    for seed in range(20):
        one = features(1, 128, seed=seed).astype("float32")
        opposite = np.concatenate([one, -one])
        result, gradient = value_and_gradient(loss, teacher, opposite)
        assert np.isfinite(result) and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "loss", [losses.RelationalDistance, losses.RelationalAngle]
)
def test_equal_samples_bring_no_noise_in_float32(loss):
    """Their difference is rounding, whose direction means nothing."""
    teacher, student = features(6, 40), features(6, 30, seed=1)
    student[3] = student[0]
    exact = value_and_gradient(loss(), teacher, student)
    single = value_and_gradient(
        loss(), teacher.astype("float32"), student.astype("float32") + 10.0
    )
    np.testing.assert_allclose(single[0], exact[0], rtol=1e-4)
    np.testing.assert_allclose(
        single[1], exact[1], atol=2e-3 * np.abs(exact[1]).max()
    )


@pytest.mark.parametrize("loss", COUPLED)
def test_sample_weights_are_ignored(loss):
    teacher, student = features(4, 6), features(4, 3, seed=1)
    weights = np.array([0.0, 1.0, 2.0, 3.0])
    assert value(loss(), teacher, student, sample_weight=weights) == value(
        loss(), teacher, student
    )
    assert loss.batch_coupled


# Other replicas.


@pytest.mark.parametrize("loss", COUPLED)
def test_cross_replica_sees_the_gathered_samples(loss):
    teacher, student = features(6, 5), features(6, 3, seed=1)
    whole = value(loss(), teacher, student)

    def gather(x):
        full = teacher if x.shape[-1] == 5 else student
        return tf.concat([x, tf.constant(full[2:])], axis=0)

    with gathering.gathering(types.SimpleNamespace(gather=gather)):
        here = teacher[:2], student[:2]
        assert value(loss(cross_replica=True), *here) == pytest.approx(whole)
        assert value(loss(), *here) == value(loss(cross_replica=False), *here)
    x = tf.constant(teacher)
    assert gathering.gather_replicas(x) is x


# Errors, and saving.


@pytest.mark.parametrize("loss", COUPLED)
def test_shapes_without_samples_are_refused(loss):
    for teacher, student in (((8,), (8, 4)), ((4, 3), (5, 3))):
        with pytest.raises(ValueError, match="compares samples") as error:
            loss().build(teacher, student)
        assert f"teacher {teacher}, student {student}" in str(error.value)


def test_delta_needs_equal_widths():
    with pytest.raises(ValueError, match='Pass form="paper"') as error:
        losses.CorrelationCongruence(form="delta").build((None, 4), (None, 5))
    assert "teacher (None, 4), student (None, 5)" in str(error.value)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"form": "code"}, "form must be one of 'paper', 'norm', 'delta'"),
        ({"kernel": "cosine"}, "kernel must be one of"),
        ({"gamma": 0.0}, "gamma must be a positive"),
        ({"order": 0}, "order must be an integer of at least 1"),
        ({"order": 1.5}, "order must be an integer"),
    ],
)
def test_arguments_of_correlation_congruence(arguments, message):
    with pytest.raises(ValueError, match=message):
        losses.CorrelationCongruence(**arguments)


@keras.saving.register_keras_serializable(package="test_relation")
def first_feature(x):
    return x[:, :1] - x[:, 0]


def test_a_registered_function_is_a_potential():
    loss = losses.Relation(
        potential="test_relation>first_feature", metric="mse"
    )
    text = json.dumps(keras.saving.serialize_keras_object(loss))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    teacher, student = features(3, 5), features(3, 2, seed=1)
    a, b = (x[:, :1] - x[:, 0] for x in (teacher, student))
    expected = np.mean((a - b) ** 2)
    np.testing.assert_allclose(value(copy, teacher, student), expected)


@pytest.mark.parametrize("potential", POTENTIALS)
def test_the_divergence_is_of_what_is_not_negative(potential):
    teacher, student = (
        np.random.default_rng(seed).normal(size=(6, 5)) for seed in (0, 1)
    )
    try:
        loss = losses.Relation(potential=potential, metric="kl")
    except ValueError as error:
        assert "may be negative" in str(error)
        assert POTENTIALS[potential](teacher).numpy().min() < -0.1
    else:
        assert np.isfinite(loss.compute_loss(teacher, student))


@pytest.mark.parametrize("potential", ["no_such", None, first_feature])
def test_unknown_potentials_are_refused(potential):
    with pytest.raises(ValueError, match="potential must be one of 'distance'"):
        losses.Relation(potential=potential)
    with pytest.raises(ValueError, match="metric must be one of 'huber'"):
        losses.Relation(metric=potential)
