"""Layer alignment: the sum over pairs, lambda, the entropy's part, joining."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import nightly

import keras_distill as kd
from keras_distill.losses import LayerAlignedVariationalInformation
from keras_distill.losses.information.layer_aligned_variational import (
    gaussian_entropy,
)
from keras_distill.losses.information.layer_alignment import aligned
from keras_distill.losses.information.layer_alignment import make_projection
from keras_distill.losses.information.running_moments import RunningMoments
from keras_distill.losses.information.running_moments import batch_moments

ENTROPIES = (None, "gaussian", "standardized")


def layer_aligned(teachers=2, students=1, **kwargs):
    return LayerAlignedVariationalInformation(
        **{
            "teacher_layer_name": [f"t{i}" for i in range(teachers)],
            "student_layer_name": [f"s{j}" for j in range(students)],
            "dtype": "float64",
            **kwargs,
        }
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


TEACHER = {"t0": normal(3, 4, 2, 5), "t1": 2 + 3 * normal(3, 6, seed=1)}
STUDENT = {"s0": normal(3, 4, 2, 3, seed=2), "s1": normal(3, 4, seed=3)}


def information(t, s, projection, alpha, entropy):
    """Per sample, with loops over samples and positions."""
    kernel, bias = (w.numpy() for w in projection.weights)
    variance = np.log(1 + np.exp(alpha)) + 1e-5
    flat = t.reshape(-1, t.shape[-1])
    if entropy == "standardized":
        t = (t - flat.mean(axis=0)) / flat.std(axis=0)
        flat = t.reshape(-1, t.shape[-1])
    h = 0.5 * np.log(flat.var(axis=0)) + 0.5 if entropy else 0.0
    results = []
    for b in range(len(t)):
        total = 0.0
        for place in np.ndindex(t.shape[1:-1]):
            if s.ndim == 4 and t.ndim == 2:
                x = s[b].mean(axis=(0, 1))
            else:
                x = s[b] if s.ndim == 2 else s[(b, *place)]
            d = t[(b, *place)] - (x @ kernel + bias)
            total += np.sum(h - 0.5 * np.log(variance) - d**2 / (2 * variance))
        results.append(total)
    return np.array(results)


MATRICES = {
    "identity": [[1.0, 0.0], [0.0, 1.0]],
    "uniform": [[0.5, 0.5], [0.5, 0.5]],
    "learned": [[0.8, 0.1], [0.2, 0.9]],
    "matrix": [[0.3, 0.0], [0.7, 1.0]],
}


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("alignment", MATRICES)
def test_value(alignment, entropy, reduction):
    matrix = np.array(MATRICES[alignment])
    loss = layer_aligned(
        students=2,
        alignment=matrix if alignment == "matrix" else alignment,
        entropy=entropy,
        reduction=reduction,
    )
    loss.compute_loss(TEACHER, STUDENT)
    for index, variable in enumerate(loss.trainable_variables):
        variable.assign(normal(*variable.shape, seed=index))
    for moments in loss.moments:
        moments.seen.assign(0.0)
    if alignment == "learned":
        loss.logits.assign(np.log(matrix))
    np.testing.assert_allclose(loss.alignment_matrix(), matrix)
    pairs = [(i, j) for i in (0, 1) for j in (0, 1) if matrix[i, j]]
    assert len(loss.projections) == len(pairs)
    expected = np.zeros(3)
    for (i, j), projection, scale in zip(pairs, loss.projections, loss.scales):
        t, s = TEACHER[f"t{i}"], STUDENT[f"s{j}"]
        found = information(t, s, projection, scale.numpy(), entropy)
        if reduction == "mean":
            found = found / t[0].size
        expected -= matrix[i, j] * found
    weight = np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(
        loss.compute_loss(TEACHER, STUDENT, sample_weight=weight),
        np.sum(weight * expected) / 3,
    )
    for moments in loss.moments:
        moments.seen.assign(0.0)
    np.testing.assert_allclose(
        loss.compute_loss(TEACHER, STUDENT), expected.mean()
    )


def learned_matrix(entropy, small=0.01, steps=300):
    """lambda after training: `t0` has small values that the student does not
    know, `t1` is what the student knows, with some noise."""
    generator = np.random.default_rng(0)
    s = generator.normal(size=(4096, 4)).astype("float32")
    t0 = small * generator.normal(size=(4096, 6)).astype("float32")
    t1 = s @ generator.normal(size=(4, 6)).astype("float32")
    t1 += 0.3 * generator.normal(size=t1.shape).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((t0, t1, s)).repeat().batch(256)
    loss = layer_aligned(
        alignment="learned",
        entropy=entropy,
        reduction="mean",
        dtype="float32",
    )
    loss.build({"t0": t0.shape, "t1": t1.shape}, {"s0": s.shape})
    optimizer = keras.optimizers.Adam(0.03)

    @tf.function
    def step(t0, t1, s):
        with tf.GradientTape() as tape:
            value = loss.compute_loss({"t0": t0, "t1": t1}, {"s0": s})
        variables = loss.trainable_variables
        gradients = tape.gradient(value, variables)
        optimizer.apply_gradients(zip(gradients, variables))

    for batch in data.take(steps):
        step(*batch)
    return loss.alignment_matrix().numpy()[:, 0], loss


@pytest.mark.slow
@pytest.mark.parametrize(
    "entropy", ["gaussian", *nightly("standardized", "auto")]
)
def test_a_learned_lambda_prefers_information_to_small_values(entropy):
    (small, informative), _ = learned_matrix(entropy)
    assert informative > 0.9, (small, informative)


@pytest.mark.slow
def test_without_the_entropy_it_prefers_small_values():
    """The mistake that the entropy is there for."""
    (small, informative), _ = learned_matrix(None)
    assert small > 0.9, (small, informative)


@pytest.mark.parametrize("variance", [1e-12, 1e-5, 1e-3, 1.0, 50.0])
def test_knowing_nothing_is_no_information(variance):
    """The entropy is the least energy of a prediction without knowledge."""
    candidates = np.exp(np.linspace(np.log(1e-5), 6, 20001))
    energies = 0.5 * (np.log(candidates) + variance / candidates)
    np.testing.assert_allclose(
        gaussian_entropy(variance), energies.min(), atol=1e-6
    )


def test_running_moments_are_those_of_all_that_was_seen():
    x = 5 + normal(12, 3, 2) * [1.0, 100.0]
    moments = RunningMoments(2, 0.99, "float64")
    for batch in np.split(x, 4):
        mean, variance = moments.update(batch)
    np.testing.assert_allclose(mean, x.mean(axis=(0, 1)))
    np.testing.assert_allclose(variance, x.var(axis=(0, 1)))
    np.testing.assert_allclose(moments.variance, variance)
    # Samples of 1, 2 and 3 positions that count.
    where = np.tril(np.ones((3, 3), bool))
    mean, variance = batch_moments(x[:3], where[..., None])
    np.testing.assert_allclose(mean, x[:3][where].mean(axis=0))
    np.testing.assert_allclose(variance, x[:3][where].var(axis=0))
    fading = RunningMoments(2, 0.5, "float64")
    for _ in range(40):
        fading.update(x)
    for _ in range(40):
        mean, variance = fading.update(3 * x)
    np.testing.assert_allclose(mean, 3 * x.mean(axis=(0, 1)))
    np.testing.assert_allclose(variance, 9 * x.var(axis=(0, 1)))


# Joining features of unlike kind.


def test_a_vector_is_the_same_at_every_position_of_a_map():
    t, s = normal(2, 3, 4, 5), normal(2, 6)
    projection = make_projection(t.shape, s.shape, "float64")
    kernel, bias = (w.numpy() for w in projection.weights)
    out = np.broadcast_to(aligned(projection, tf.constant(s), t), t.shape)
    expected = (s @ kernel + bias)[:, None, None]
    np.testing.assert_allclose(out, np.broadcast_to(expected, t.shape))


def test_a_map_is_averaged_for_a_vector():
    t, s = normal(2, 5), normal(2, 3, 4, 6)
    projection = make_projection(t.shape, s.shape, "float64")
    kernel, bias = (w.numpy() for w in projection.weights)
    np.testing.assert_allclose(
        aligned(projection, tf.constant(s), t),
        s.mean(axis=(1, 2)) @ kernel + bias,
    )


def test_a_map_takes_the_size_of_the_teachers():
    t, s = normal(2, 4, 2, 5), normal(2, 2, 4, 6)
    projection = make_projection(t.shape, s.shape, "float64")
    kernel, bias = (w.numpy() for w in projection.weights)
    small = s.reshape(2, 2, 2, 2, 6).mean(axis=3)  # Four columns to two.
    expected = small.repeat(2, axis=1) @ kernel + bias  # Two rows to four.
    np.testing.assert_allclose(aligned(projection, tf.constant(s), t), expected)


# Errors.


@pytest.mark.parametrize(
    "matrix, wrong",
    [
        ([[0.5, 0.6], [0.5, 0.5]], r"wrong: column \[1\]"),
        ([[0.5, 0.6], [0.0, 0.5]], r"wrong: column \[0, 1\]"),
        ([[1.5, 0.5], [-0.5, 0.5]], "must not be negative"),
        ([[np.nan, 0.5], [0.5, 0.5]], r"wrong: column \[0\]"),
        ([[1.0], [0.0]], r"\(2 x 2\)"),
        ([[1.0, 0.0], [0.0]], r"\(2 x 2\)"),
        (3, r"\(2 x 2\)"),
        ("diagonal", "'identity', 'uniform', 'learned' or a matrix"),
    ],
)
def test_alignment_is_checked(matrix, wrong):
    with pytest.raises(ValueError, match=wrong):
        layer_aligned(students=2, alignment=matrix)


def test_identity_needs_as_many_layers():
    with pytest.raises(ValueError, match="2 of the teacher and 3 of the stud"):
        layer_aligned(2, 3, alignment="identity")


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="momentum must be a number in"):
        layer_aligned(momentum=1.0)
    with pytest.raises(ValueError, match="entropy must be one of"):
        layer_aligned(entropy="uniform")


@pytest.mark.parametrize(
    "teacher, student",
    [
        ((None, 4, 4, 8), (None, 16, 8)),
        ((None, 5, 8), (None, 4, 8)),
        ((None, None, None, 8), (None, 4, 4, 8)),
        ((None, 2, 2, 2, 8), (None, 8)),
    ],
)
def test_shapes_that_cannot_be_joined(teacher, student):
    loss = layer_aligned(1, 1)
    with pytest.raises(ValueError, match="cannot be compared") as error:
        loss.build({"t0": teacher}, {"s0": student})
    assert f"teacher {teacher}, student {student}" in str(error.value)
    # A pair that does not count is not compared.
    fine = (None, 8)
    loss = layer_aligned(2, 1, alignment=[[0.0], [1.0]])
    loss.build({"t0": teacher, "t1": fine}, {"s0": fine})


def test_config_round_trip():
    loss = layer_aligned(
        students=2, alignment=np.array(MATRICES["matrix"]), entropy="gaussian"
    )
    text = json.dumps(keras.saving.serialize_keras_object(loss))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert copy.get_config() == loss.get_config()
    assert copy.alignment == MATRICES["matrix"]


@pytest.mark.slow
def test_networks_of_unlike_kind_and_depth():
    def network(*stack, name):
        keras.utils.set_random_seed(0)
        return keras.Sequential([keras.Input((8, 8, 3)), *stack], name=name)

    layers = keras.layers
    teacher = network(
        layers.Conv2D(6, 3, padding="same", activation="relu", name="t0"),
        layers.MaxPooling2D(),
        layers.Conv2D(8, 3, padding="same", activation="relu", name="t1"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, name="t2"),
        name="teacher",
    )
    student = network(
        layers.Flatten(),
        layers.Dense(8, activation="relu", name="s0"),
        layers.Dense(3, name="s1"),
        name="student",
    )
    loss = layer_aligned(
        3, 2, alignment="learned", reduction="mean", dtype="float32"
    )
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=loss
    )
    distiller.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    x, y = normal(32, 8, 8, 3).astype("float32"), np.zeros(32, "int32")
    history = distiller.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert float(loss.moments[0].seen) == 5
    matrix = loss.alignment_matrix().numpy()
    np.testing.assert_allclose(matrix.sum(axis=0), 1.0, rtol=1e-6)
    assert np.ptp(matrix) > 0
