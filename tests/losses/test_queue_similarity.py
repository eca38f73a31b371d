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


def test_two_steps_by_hand():
    """From the docstring's formulas: the queue is not full, then full."""
    loss = QueueSimilarity(
        queue_size=5, temperature=0.3, teacher_temperature=0.1, dtype="float64"
    )
    loss.build((3, 5), (3, 4))
    dense = loss.connector
    weight = np.array([0.5, 1.0, 2.0])
    queue = []
    for step in range(3):
        teacher = features(3, 5, seed=step) + 2.0
        student = features(3, 4, seed=step + 9)
        m = np.mean(queue, axis=0) if queue else 0.0
        s = unit(student @ dense.kernel.numpy() + dense.bias.numpy())
        others = np.zeros((5, 5))
        if queue:
            others[5 - len(queue) :] = unit(np.array(queue) - m)
        values = []
        for own, s_i in zip(unit(teacher - m), s):
            d = np.concatenate([others, own[None]])
            p, q = softmax(d @ own / 0.1), softmax(d @ s_i / 0.3)
            values.append(np.sum(p * np.log(p / q)))
        found = loss.compute_loss(teacher, student, sample_weight=weight)
        np.testing.assert_allclose(found, np.mean(weight * values))
        queue = [*queue, *teacher][-5:]
        assert loss.filled == len(queue)
        np.testing.assert_allclose(loss.queue.numpy()[-len(queue) :], queue)


def test_a_student_like_its_teacher_has_no_loss():
    """Also if all embeddings share a direction, which says nothing."""
    loss = QueueSimilarity(queue_size=8)
    x = features(8, 6) + 100.0
    loss.compute_loss(x, x)
    loss.connector.kernel.assign(np.eye(6))
    loss.connector.bias.assign(-x.mean(axis=0))
    np.testing.assert_allclose(loss.compute_loss(x, x), 0.0, atol=1e-6)
    assert loss.compute_loss(x, x[::-1]) > 0.1


def test_a_batch_larger_than_the_queue():
    loss = QueueSimilarity(queue_size=3)
    teacher = features(5, 4)
    loss.compute_loss(teacher, features(5, 2))
    np.testing.assert_allclose(loss.queue.numpy(), teacher[-3:], rtol=1e-6)
    assert loss.filled == 3


def test_maps_are_averaged():
    x = features(2, 3, 4, 5)
    expected = x.mean(axis=(1, 2))
    np.testing.assert_allclose(embedding(tf.constant(x)), expected)
    np.testing.assert_allclose(embedding(tf.constant(expected)), expected)


def test_another_teacher_begins_anew():
    loss = QueueSimilarity(queue_size=3)
    loss.compute_loss(features(2, 4), features(2, 2))
    loss.teacher_changed()
    assert loss.filled == 0 and not loss.queue.numpy().any()


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
