"""DecoupledKD, DIST and the ablations of born-again networks, in NumPy."""

import itertools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill.losses import DIST
from keras_distill.losses import ConfidenceWeightedByTeacherMax
from keras_distill.losses import DarkKnowledgeWithPermutedPredictions
from keras_distill.losses import DecoupledKD
from keras_distill.losses import SoftTargets
from keras_distill.losses.ops import gathering
from keras_distill.losses.response.dist import pearson_correlation
from keras_distill.losses.response.permuted_predictions import (
    random_permutation,
)

LABELS = np.array([0, 3, 3, 6, 1])


def pair(*shape, scale=3.0):
    generator = np.random.default_rng(1)
    return [generator.normal(size=shape) * scale for _ in range(2)]


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def one_hot(labels, classes=7):
    return np.eye(classes)[labels]


def value(loss, teacher, student, **kwargs):
    return float(loss.compute_loss(teacher, student, **kwargs))


def gradient(loss, teacher, student, **kwargs):
    student = tf.convert_to_tensor(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        result = loss.compute_loss(teacher, student, **kwargs)
    return result, tape.gradient(result, student)


# DecoupledKD.


def decoupled(teacher, student, labels, temperature):
    """Sample by sample, from the definitions."""
    target, other = [], []
    for t, s, y in zip(teacher, student, labels):
        p, q = softmax(t / temperature), softmax(s / temperature)
        rest = [c for c in range(len(t)) if c != y]
        b_p, b_q = [p[y], p[rest].sum()], [q[y], q[rest].sum()]
        target.append(sum(a * np.log(a / b) for a, b in zip(b_p, b_q)))
        p_rest, q_rest = p[rest] / p[rest].sum(), q[rest] / q[rest].sum()
        other.append(np.sum(p_rest * np.log(p_rest / q_rest)))
    return temperature**2 * np.array([target, other])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_decoupled(temperature):
    teacher, student = pair(5, 7)
    target, other = decoupled(teacher, student, LABELS, temperature)
    loss = DecoupledKD(alpha=0.5, beta=2.0, temperature=temperature)
    expected = np.mean(0.5 * target + 2.0 * other)
    for y in (LABELS, LABELS[:, None], one_hot(LABELS).astype("float32")):
        got = value(loss, teacher, student, y=y)
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    weights = np.arange(5.0)
    got = value(loss, teacher, student, y=LABELS, sample_weight=weights)
    expected = np.mean(weights * (0.5 * target + 2.0 * other))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_the_parts_make_up_the_divergence():
    teacher, student = pair(5, 7)
    target, other = decoupled(teacher, student, LABELS, 2.0)
    p_y = softmax(teacher / 2.0)[np.arange(5), LABELS]
    whole = value(SoftTargets(temperature=2.0), teacher, student)
    np.testing.assert_allclose(np.mean(target + (1 - p_y) * other), whole)


def test_decoupled_of_sure_networks_keeps_its_digits():
    """1 - p_y is far below the rounding of float32."""
    teacher, student = np.zeros((1, 3)), np.zeros((1, 3))
    teacher[0, 0], student[0, 0] = 30.0, 28.0
    loss = DecoupledKD(alpha=1.0, beta=0.0, temperature=1.0)
    _, wide = gradient(loss, teacher, student, y=np.array([0]))
    arrays = (teacher.astype("float32"), student.astype("float32"))
    _, narrow = gradient(loss, *arrays, y=np.array([0]))
    np.testing.assert_allclose(narrow, wide, rtol=1e-4)
    assert np.abs(wide).max() < 1e-10


@pytest.mark.parametrize(
    "y, message",
    [
        (None, "needs labels. Received: y=None"),
        (np.zeros((5, 4)), r"one-hot labels \(5, 7\).*Received: y of shape"),
        ({"a": LABELS}, "Received: y of dict"),
    ],
)
def test_labels_that_do_not_fit(y, message):
    teacher, student = pair(5, 7)
    for loss in (DecoupledKD(), ConfidenceWeightedByTeacherMax()):
        with pytest.raises(ValueError, match=message):
            value(loss, teacher, student, y=y)


@pytest.mark.parametrize(
    "make", [lambda: DecoupledKD(beta=-1), lambda: DIST(gamma=np.inf)]
)
def test_weights_are_numbers_from_0(make):
    with pytest.raises(
        ValueError, match="must be a finite number of at least 0"
    ):
        make()


# DIST.


def dist(teacher, student, beta, gamma, temperature):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(p, q)]
    columns = [np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T)]
    inter, intra = 1 - np.mean(rows), 1 - np.mean(columns)
    return temperature**2 * (beta * inter + gamma * intra)


@pytest.mark.parametrize("epsilon", ["add", "clamp"])
def test_dist(epsilon):
    teacher, student = pair(5, 7)
    loss = DIST(beta=0.5, gamma=2.0, temperature=4.0, epsilon=epsilon)
    expected = dist(teacher, student, 0.5, 2.0, 4.0)
    np.testing.assert_allclose(
        value(loss, teacher, student), expected, rtol=1e-5
    )
    flat = value(DIST(), *[x.reshape(12, 5) for x in pair(3, 4, 5)])
    np.testing.assert_allclose(value(DIST(), *pair(3, 4, 5)), flat)


def test_what_does_not_vary_has_an_ordinary_gradient():
    teacher, _ = pair(4, 10)
    for student in (np.zeros((4, 10)), np.full((4, 10), 0.1)):
        for dtype in ("float32", "float64"):
            arrays = (teacher.astype(dtype), student.astype(dtype))
            result, found = gradient(DIST(), *arrays)
            np.testing.assert_allclose(result, 2.0, atol=1e-5)
            assert 1e-4 < np.abs(found).max() < 10.0
    result, found = gradient(DIST(beta=0.0), teacher[:1], teacher[:1] + 1.0)
    assert result == 1.0 and not np.any(found)


def test_weighted_correlation_is_that_of_repetitions():
    a, b = pair(6, 3)
    weight = np.array([0.0, 2.0, 1.0, 3.0, 1.0, 1.0])
    repeated = np.repeat(np.arange(6), weight.astype(int))
    got = pearson_correlation(a, b, axis=0, weight=weight[:, None])
    expected = pearson_correlation(a[repeated], b[repeated], axis=0)
    np.testing.assert_allclose(got, expected, rtol=1e-7)


# Weights of the losses that couple the batch.

COUPLED = [
    DIST(),
    ConfidenceWeightedByTeacherMax(),
    ConfidenceWeightedByTeacherMax(confidence="true_class"),
]


@pytest.mark.parametrize("loss", COUPLED, ids=lambda loss: loss.name)
@pytest.mark.parametrize("shape", [(5, 7), (5, 2, 7)])
def test_weights_are_repetitions(loss, shape):
    teacher, student = pair(*shape)
    labels = np.resize(LABELS, shape[:-1])
    weights = np.resize([0.0, 1.0, 2.0, 1.0, 3.0], shape[:-1])
    repeated = np.repeat(np.arange(weights.size), weights.ravel().astype(int))
    expected = value(
        loss,
        teacher.reshape(-1, 7)[repeated],
        student.reshape(-1, 7)[repeated],
        y=labels.ravel()[repeated],
    )
    result, found = gradient(
        loss, teacher, student, y=labels, sample_weight=weights
    )
    # Keras's reduction: the sum over the weights, divided by the batch.
    np.testing.assert_allclose(result, expected * weights.mean(), rtol=1e-6)
    np.testing.assert_array_equal(np.any(found != 0, -1), weights > 0)
    result, found = gradient(
        loss, teacher, student, y=labels, sample_weight=0 * weights
    )
    assert result == 0.0 and not np.any(found)


# The ablations of born-again networks.


@pytest.mark.parametrize("confidence", ["max", "true_class"])
def test_confidence_weights(confidence):
    teacher, student = pair(5, 7)
    p, rows = softmax(teacher), np.arange(5)
    c = p.max(-1) if confidence == "max" else p[rows, LABELS]
    errors = -np.log(softmax(student)[rows, LABELS])
    loss = ConfidenceWeightedByTeacherMax(confidence=confidence)
    result, found = gradient(loss, teacher, student, y=LABELS)
    np.testing.assert_allclose(result, np.sum(c / c.sum() * errors))
    expected = (c / c.sum())[:, None] * (softmax(student) - one_hot(LABELS))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    sequence = [x.reshape(5, 1, 7) for x in (teacher, student)]
    np.testing.assert_allclose(
        value(loss, *sequence, y=LABELS[:, None]), result
    )


@pytest.mark.parametrize("loss", [DIST, ConfidenceWeightedByTeacherMax])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_replica_sees_the_gathered_samples(loss, weighted):
    """Whole samples are gathered: positions become samples afterwards."""
    teacher, student = pair(5, 3, 7)
    batch = {"y": np.arange(15).reshape(5, 3) % 7}
    if weighted:
        batch["sample_weight"] = np.linspace(0.0, 2.0, 15).reshape(5, 3)
    whole = value(loss(), teacher, student, **batch)
    labels = one_hot(batch["y"])
    everything = [teacher, student, labels, *list(batch.values())[1:]]

    def gather(x):
        (full,) = [a for a in everything if np.array_equal(a[:2], x)]
        return tf.constant(full)

    batch = {name: array[:2] for name, array in batch.items()}
    here = teacher[:2], student[:2]
    with gathering.gathering(types.SimpleNamespace(gather=gather)):
        found = value(loss(cross_replica=True), *here, **batch)
        assert found == pytest.approx(whole)
        alone = value(loss(), *here, **batch)
    assert alone == value(loss(), *here, **batch) != pytest.approx(whole)


def test_confidences_that_underflow_still_have_ratios():
    teacher = 1e4 * (1.0 - one_hot([0, 1])).astype("float32")
    teacher[1] -= 1e4
    loss = ConfidenceWeightedByTeacherMax(confidence="true_class")
    student = np.zeros((2, 7), "float32")
    result = value(loss, teacher, student, y=np.array([0, 1]))
    np.testing.assert_allclose(result, np.log(7), rtol=1e-6)


def test_permutations_are_uniform_and_keep_the_argmax():
    decided = one_hot(np.full(6000, 2), 4).astype("float32")
    found = np.asarray(random_permutation(decided, seed=3))
    np.testing.assert_array_equal(np.sort(found, -1)[0], [0, 1, 2, 3])
    assert (found[:, 2] == 2).all()
    rows, counts = np.unique(found, axis=0, return_counts=True)
    assert {tuple(row) for row in rows} == {
        (a, b, 2, c) for a, b, c in itertools.permutations([0, 1, 3])
    }
    assert abs(counts - 1000).max() < 150  # 5 standard deviations


def test_permuted_predictions():
    teacher, student = pair(5, 7)
    loss = DarkKnowledgeWithPermutedPredictions(seed=1)
    loss.build(teacher.shape, student.shape)
    p, log_q = softmax(teacher), np.log(softmax(student))
    state = loss.seed_generator.state.numpy()
    targets, _ = map(np.asarray, loss.targets(teacher))
    np.testing.assert_allclose(np.sort(targets), np.sort(p), rtol=1e-12)
    np.testing.assert_allclose(targets.max(-1), p.max(-1), rtol=1e-12)
    np.testing.assert_array_equal(targets.argmax(-1), p.argmax(-1))
    assert np.abs(targets - p).max() > 1e-3
    loss.seed_generator.state.assign(state)
    first = value(loss, teacher, student)
    np.testing.assert_allclose(first, -np.mean(np.sum(targets * log_q, -1)))
    assert value(loss, teacher, student) != first, "not a fresh permutation"
    again = DarkKnowledgeWithPermutedPredictions(seed=1)
    assert value(again, teacher, student) == first
    other = DarkKnowledgeWithPermutedPredictions(seed=2)
    assert value(other, teacher, student) != first


@pytest.mark.slow
def test_permuted_under_xla():
    teacher, student = pair(5, 7)
    teacher, student = tf.constant(teacher), tf.constant(student)
    loss = DarkKnowledgeWithPermutedPredictions(seed=1)
    compiled = tf.function(loss.compute_loss, jit_compile=True)
    values = {float(compiled(teacher, student)) for _ in range(4)}
    assert len(values) == 4
    targets = tf.function(loss.targets, jit_compile=True)(teacher)[0]
    np.testing.assert_allclose(
        np.sort(targets), np.sort(softmax(teacher.numpy())), rtol=1e-12
    )
    # Of one permutation, eager and XLA are the same number.
    fixed = loss.permutation(tf.one_hot(tf.argmax(teacher, -1), 7))
    loss.permutation = lambda decided: fixed
    compiled = tf.function(loss.compute_loss, jit_compile=True)
    expected = value(loss, teacher, student)
    np.testing.assert_allclose(compiled(teacher, student), expected)


def test_parts_of_the_gradient_are_logged():
    x, y = data(16)
    teacher, student = convnet(8), convnet()
    losses = {
        "permuted": DarkKnowledgeWithPermutedPredictions(
            log_gradient_parts=True
        ),
        "weighted": ConfidenceWeightedByTeacherMax(log_gradient_parts=True),
    }
    losses["permuted"].permutation = lambda decided: np.argsort(
        np.argsort(np.zeros(decided.shape), -1), -1
    )  # as it is
    p, q = softmax(teacher(x).numpy()), softmax(student(x).numpy())
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=losses
    )
    distiller.compile("sgd", crossentropy())
    logs = distiller.train_on_batch(x, y, return_dict=True)
    decided = one_hot(p.argmax(-1), 4)
    shares = p.max(-1) / p.max(-1).sum()
    parts = {
        "permuted": (q - p, decided, np.full(16, 1 / 16)),
        "weighted": (q - one_hot(y, 4), one_hot(y, 4), shares),
    }
    for name, (g, correct, share) in parts.items():
        for part, where in (
            ("correct_class", correct),
            ("dark_knowledge", 1 - correct),
        ):
            expected = share @ np.sqrt(np.sum(where * g**2, -1))
            got = logs[f"{name}_{part}"]
            np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert "permuted_loss" in logs
    losses["permuted"].log_gradient_parts = False
    assert losses["permuted"].extra_log_names == ()


@pytest.mark.slow
def test_the_seed_goes_on_after_loading(tmp_path):
    x, y = data(16)
    teacher = convnet(8)
    distiller = kd.Distiller(
        student=convnet(),
        teacher=teacher,
        distillation_losses=DarkKnowledgeWithPermutedPredictions(seed=3),
    )
    distiller.compile(keras.optimizers.SGD(0.1), crossentropy())
    distiller.fit(x, y, verbose=0)
    distiller.save(tmp_path / "d.keras")
    loaded = kd.load_distiller(tmp_path / "d.keras", teacher=teacher)
    expected = distiller.fit(x, y, verbose=0, shuffle=False).history
    got = loaded.fit(x, y, verbose=0, shuffle=False).history
    np.testing.assert_allclose(got["loss"], expected["loss"], rtol=1e-6)
