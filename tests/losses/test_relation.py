"""Relations between samples, against NumPy written from the equations."""

import numpy as np
import pytest
import tensorflow as tf

from keras_distill import losses
from keras_distill.losses.ops import pairwise
from keras_distill.losses.relation.relation import METRICS
from keras_distill.losses.relation.relation import POTENTIALS


def features(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def value(loss, teacher, student, **kwargs):
    return float(loss.compute_loss(teacher, student, **kwargs))


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
