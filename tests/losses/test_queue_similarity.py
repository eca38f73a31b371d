"""The loss and its queue of the teacher's embeddings."""

import numpy as np
import pytest
import tensorflow as tf

from keras_distill.losses import QueueSimilarity
from keras_distill.losses.relation.queue_similarity import embedding


def features(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("regressor", ["dense", None])
def test_one_step_by_hand(regressor):
    """From the docstring's formulas."""
    loss = QueueSimilarity(
        queue_size=7,
        temperature=0.3,
        teacher_temperature=0.1,
        regressor=regressor,
        dtype="float64",
    )
    teacher = features(3, 5)
    student = features(3, 4 if regressor else 5, seed=1)
    loss.build(teacher.shape, student.shape)
    queue = loss.queue.numpy()
    np.testing.assert_allclose(np.linalg.norm(queue, axis=-1), 1.0)
    t, s = unit(teacher), unit(student)
    if regressor:
        dense = loss.connector
        s = unit(student @ dense.kernel.numpy() + dense.bias.numpy())
    values = []
    for t_i, s_i in zip(t, s):
        others = np.concatenate([queue, t_i[None]])
        p, q = softmax(others @ t_i / 0.1), softmax(others @ s_i / 0.3)
        values.append(np.sum(p * np.log(p / q)))
    weight = np.array([0.5, 1.0, 2.0])
    found = loss.compute_loss(teacher, student, sample_weight=weight)
    np.testing.assert_allclose(found, np.mean(weight * values))
    # The batch entered, the oldest left.
    np.testing.assert_allclose(loss.queue.numpy(), [*queue[3:], *t])


def test_a_student_like_its_teacher_has_no_loss():
    loss = QueueSimilarity(
        queue_size=9, temperature=0.1, teacher_temperature=0.1, regressor=None
    )
    x = features(4, 6)
    np.testing.assert_allclose(loss.compute_loss(x, 3.0 * x), 0.0, atol=1e-6)
    assert loss.compute_loss(x, -x) > 1.0


def test_a_batch_larger_than_the_queue():
    loss = QueueSimilarity(queue_size=3)
    teacher = features(5, 4)
    loss.compute_loss(teacher, features(5, 2))
    np.testing.assert_allclose(
        loss.queue.numpy(), unit(teacher)[-3:], rtol=1e-6
    )


def test_maps_are_averaged():
    x = features(2, 3, 4, 5)
    expected = x.mean(axis=(1, 2))
    np.testing.assert_allclose(embedding(tf.constant(x)), expected)
    loss, other = (
        QueueSimilarity(regressor=None),
        QueueSimilarity(regressor=None),
    )
    of_maps = loss.compute_loss(x, x[:, ::-1] ** 2)
    of_vectors = other.compute_loss(expected, (x**2).mean(axis=(1, 2)))
    np.testing.assert_allclose(of_maps, of_vectors)


def test_the_same_seed_gives_the_same_queue():
    queues = []
    for seed in (0, 0, 1):
        loss = QueueSimilarity(queue_size=5, seed=seed)
        loss.build((None, 3), (None, 2))
        queues.append(loss.queue.numpy())
    np.testing.assert_array_equal(queues[0], queues[1])
    assert (queues[0] != queues[2]).all()


@pytest.mark.parametrize(
    "teacher, student, message",
    [
        ((4,), (4, 3), "one tap per network.*teacher_layer_name"),
        ((4, 3), (4, None), "one tap per network.*student_layer_name"),
        ({"a": (4, 3), "b": (4, 3)}, (4, 3), "one tap per network"),
    ],
)
def test_shapes_that_are_no_embedding(teacher, student, message):
    names = list(teacher) if isinstance(teacher, dict) else "a"
    loss = QueueSimilarity(teacher_layer_name=names, student_layer_name="a")
    with pytest.raises(ValueError, match=message):
        loss.build(teacher, student)


def test_widths_that_differ_need_a_regressor():
    loss = QueueSimilarity(regressor=None)
    with pytest.raises(ValueError, match="channels must agree"):
        loss.build((4, 3), (4, 2))
