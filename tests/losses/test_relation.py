"""Relations between samples, against NumPy written from the equations."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_distill import losses
from keras_distill.losses import gathering
from keras_distill.losses import pairwise
from keras_distill.losses.relation import METRICS
from keras_distill.losses.relation import POTENTIALS

COUPLED = [
    losses.Relation,
    losses.RelationalDistance,
    losses.RelationalAngle,
    losses.SimilarityPreserving,
    losses.CorrelationCongruence,
    losses.ProbabilisticTransfer,
]


def features(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def value(loss, teacher, student, **kwargs):
    return float(loss.compute_loss(teacher, student, **kwargs))


def value_and_gradient(loss, teacher, student):
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        result = loss.compute_loss(teacher, student)
    return float(result), tape.gradient(result, student).numpy()


# NumPy, one sum at a time.


def huber(u):
    return 0.5 * u * u if abs(u) < 1 else abs(u) - 0.5


def relative_distances(x):
    n = len(x)
    d = [[np.linalg.norm(x[i] - x[j]) for j in range(n)] for i in range(n)]
    pairs = [d[i][j] for i in range(n) for j in range(n) if i != j]
    return np.array(d) / np.mean(pairs)


def angles(x):
    n = len(x)
    result = np.zeros((n, n, n))
    for i in range(n):
        for j in range(n):
            for k in range(n):
                a, b = x[j] - x[i], x[k] - x[i]
                if i not in (j, k):
                    size = np.linalg.norm(a) * np.linalg.norm(b)
                    result[i, j, k] = a @ b / size
    return result


def rkd(relation, teacher, student):
    difference = relation(student) - relation(teacher)
    return np.mean([huber(u) for u in difference.ravel()])


def similarity_preserving(teacher, student):
    def similarity(x):
        x = x.reshape(len(x), -1)
        rows = x @ x.T
        return np.array([row / np.sqrt(np.sum(row**2)) for row in rows])

    difference = similarity(teacher) - similarity(student)
    return np.sum(difference**2) / len(teacher) ** 2


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def taylor(x, gamma, order):
    products = x @ x.T
    total = np.zeros_like(products)
    factorial = 1.0
    for p in range(order + 1):
        factorial *= max(p, 1)
        total += (2 * gamma) ** p / factorial * products**p
    return np.exp(-2 * gamma) * total


def probabilities(x, i):
    """p(j | i) over the other samples j, as the paper has it."""
    cosines = np.array([x[i] @ y / np.linalg.norm(y) for y in x])
    kernel = (cosines / np.linalg.norm(x[i]) + 1) / 2
    return kernel / sum(k for j, k in enumerate(kernel) if j != i)


def probabilistic_transfer(teacher, student):
    total = 0.0
    for i in range(len(teacher)):
        p, q = probabilities(teacher, i), probabilities(student, i)
        for j in range(len(teacher)):
            if j != i:
                total += p[j] * np.log(p[j] / q[j])
    return total


# Values.


@pytest.mark.parametrize(
    "loss, relation",
    [
        (losses.RelationalDistance, relative_distances),
        (losses.RelationalAngle, angles),
    ],
)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_relational_losses(loss, relation, scale):
    teacher, student = features(5, 7), scale * features(5, 3, seed=1)
    expected = rkd(relation, teacher, student)
    np.testing.assert_allclose(value(loss(), teacher, student), expected)
    np.testing.assert_allclose(
        value(loss(normalize=True), teacher, student),
        rkd(relation, unit(teacher), unit(student)),
    )


def test_both_sides_of_the_huber_loss_are_met():
    u = np.array([0.0, 0.3, -0.3, 1.0, -2.5])
    zeros = np.zeros_like(u)
    np.testing.assert_allclose(
        METRICS["huber"](zeros, u), np.mean([huber(x) for x in u])
    )


def test_similarity_preserving():
    teacher, student = features(4, 2, 3, 5), features(4, 7, seed=1)
    np.testing.assert_allclose(
        value(losses.SimilarityPreserving(), teacher, student),
        similarity_preserving(teacher, student),
    )


@pytest.mark.parametrize("kernel", ["gaussian", "bilinear"])
def test_the_papers_correlation_congruence_squares_the_norm(kernel):
    teacher, student = features(4, 6), features(4, 3, seed=1)
    loss = losses.CorrelationCongruence(kernel=kernel, gamma=0.3, order=3)
    if kernel == "gaussian":
        k = [taylor(unit(x), 0.3, 3) for x in (teacher, student)]
    else:
        k = [x @ x.T for x in (teacher, student)]
    squared = np.sum((k[0] - k[1]) ** 2)
    np.testing.assert_allclose(value(loss, teacher, student), squared / 16)
    norm = losses.CorrelationCongruence(
        kernel=kernel, gamma=0.3, order=3, form="norm"
    )
    np.testing.assert_allclose(
        value(norm, teacher, student), np.sqrt(squared) / 16
    )


def test_the_expansion_tends_to_the_gaussian_kernel():
    x = unit(features(5, 4))
    squared = np.sum((x[:, None] - x[None]) ** 2, axis=-1)
    np.testing.assert_allclose(
        pairwise.taylor_gaussian(tf.constant(x), 0.4, 20),
        np.exp(-0.4 * squared),
    )


def test_delta_multiplies_neighbours():
    teacher, student = features(4, 3), features(4, 3, seed=1)
    delta = np.abs(teacher - student)
    expected = sum(delta[i] @ delta[i + 1] for i in range(3)) / 3
    loss = losses.CorrelationCongruence(form="delta")
    np.testing.assert_allclose(value(loss, teacher, student), expected)


def test_the_papers_probabilistic_transfer():
    teacher, student = features(5, 6), features(5, 3, seed=1)
    np.testing.assert_allclose(
        value(losses.ProbabilisticTransfer(), teacher, student),
        probabilistic_transfer(teacher, student),
        rtol=1e-5,  # The 1e-7 in norms and logarithms.
    )


@pytest.mark.parametrize(
    "instance, potential, metric, factor",
    [
        (losses.RelationalDistance, "distance", "huber", 1),
        (losses.RelationalAngle, "angle", "huber", 1),
        (losses.SimilarityPreserving, "similarity", "mse", 1),
        (losses.CorrelationCongruence, "gaussian", "mse", 1),
        (losses.ProbabilisticTransfer, "probability", "kl", 25),
    ],
)
def test_the_others_are_instances_of_relation(
    instance, potential, metric, factor
):
    teacher, student = features(5, 6), features(5, 3, seed=1)
    general = losses.Relation(potential=potential, metric=metric)
    np.testing.assert_allclose(
        factor * value(general, teacher, student),
        value(instance(), teacher, student),
    )


def test_remaining_potentials_and_metrics():
    x, y = features(4, 3), features(4, 3, seed=1)
    tensor = tf.constant(x)
    found = {name: f(tensor).numpy() for name, f in POTENTIALS.items()}
    np.testing.assert_allclose(found["gram"], x @ x.T)
    np.testing.assert_allclose(found["cosine"], unit(x) @ unit(x).T)
    np.testing.assert_allclose(
        found["absolute_distance"],
        [[np.linalg.norm(a - b) for b in x] for a in x],
        atol=1e-12,
    )
    np.testing.assert_allclose(METRICS["mae"](x, y), np.abs(x - y).mean())
    np.testing.assert_allclose(
        METRICS["frobenius"](x, y), np.sqrt(np.sum((x - y) ** 2)) / 12
    )


def test_layers_add_up_with_their_weights():
    teacher = {"a": features(4, 5), "b": features(4, 2, 2, 3, seed=1)}
    student = {"c": features(4, 3, seed=2), "d": features(4, 6, seed=3)}
    loss = losses.RelationalDistance(
        teacher_layer_name=["a", "b"],
        student_layer_name=["c", "d"],
        layer_weights=[2.0, 0.5],
    )
    flat = teacher["b"].reshape(4, -1)
    expected = 2.0 * rkd(relative_distances, teacher["a"], student["c"])
    expected += 0.5 * rkd(relative_distances, flat, student["d"])
    np.testing.assert_allclose(value(loss, teacher, student), expected)


# Degenerate batches.


@pytest.mark.parametrize("loss", COUPLED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
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

    with gathering.gathering(gather):
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


@pytest.mark.parametrize("potential", ["no_such", None, first_feature])
def test_unknown_potentials_are_refused(potential):
    with pytest.raises(ValueError, match="potential must be one of 'distance'"):
        losses.Relation(potential=potential)
    with pytest.raises(ValueError, match="metric must be one of 'huber'"):
        losses.Relation(metric=potential)
