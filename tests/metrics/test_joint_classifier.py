"""The bound of IJCKD, measured."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill.metrics.joint_classifier import ideal_joint_classifier


def sample(n=400, channels=6, classes=4, noise=1.0, seed=0):
    """Features around a mean per class; the student's are rotated, too."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, classes, n)
    means = generator.normal(size=(classes, channels)) * 2
    teacher = means[y] + noise * generator.normal(size=(n, channels))
    turn = generator.normal(size=(channels, channels)) * 0.3
    student = teacher @ (np.eye(channels) + turn)
    student = student + noise * generator.normal(size=(n, channels))
    return teacher, student, y, means.T


@pytest.mark.parametrize("seed", range(5))
def test_terms_and_bound(seed):
    teacher, student, y, kernel = sample(seed=seed)
    bias = -0.5 * np.sum(kernel**2, 0)
    gap = kd.metrics.JointClassifierGap(kernel, bias, steps=50)
    gap.update_state(teacher[:100], student[:100], y[:100])
    gap.update_state(teacher[100:], student[100:], np.eye(4)[y[100:]])
    got = gap.result()
    decided = [(x @ kernel + bias).argmax(-1) for x in (teacher, student)]
    np.testing.assert_allclose(got["teacher_error"], np.mean(decided[0] != y))
    np.testing.assert_allclose(got["student_error"], np.mean(decided[1] != y))
    np.testing.assert_allclose(
        got["disagreement"], np.mean(decided[0] != decided[1])
    )
    best, offset = ideal_joint_classifier(
        np.concatenate([teacher, student]),
        np.concatenate([y, y]),
        kernel,
        bias,
        50,
    )
    ideal = [(x @ best + offset).argmax(-1) for x in (teacher, student)]
    errors = [np.mean(d != y) for d in ideal]
    np.testing.assert_allclose(got["ideal_joint_error"], sum(errors))
    # Never worse than the classifier it began at, and better here.
    assert sum(errors) < got["teacher_error"] + got["student_error"]
    unlike = [np.mean(a != b) for a, b in zip(decided, ideal)]
    np.testing.assert_allclose(got["discrepancy"], abs(unlike[0] - unlike[1]))
    total = got["teacher_error"] + got["discrepancy"] + sum(errors)
    np.testing.assert_allclose(got["bound"], total)
    assert got["student_error"] <= got["bound"]


def test_the_ideal_classifier_separates_what_can_be_separated():
    teacher, student, y, kernel = sample(noise=0.05)
    gap = kd.metrics.JointClassifierGap(np.zeros_like(kernel))
    gap.update_state(teacher, teacher, y)
    got = gap.result()
    assert got["student_error"] > 0.5
    assert got["ideal_joint_error"] == 0.0
    assert got["discrepancy"] == got["disagreement"] == 0.0


@pytest.mark.slow
def test_of_a_distiller():
    x, y = data(48)
    teacher = convnet(8)
    loss = kd.losses.IdealJointClassifier(
        teacher_layer_name="conv2", student_layer_name="conv2"
    )
    distiller = kd.Distiller(
        student=convnet(), teacher=teacher, distillation_losses=loss
    )
    distiller.compile("adam", crossentropy(), metrics=["accuracy"])
    distiller.fit(x, y, verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(20)
    got = kd.metrics.JointClassifierGap.measure(distiller, dataset, steps=10)
    accuracy = distiller.evaluate(x, y, verbose=0, return_dict=True)["accuracy"]
    np.testing.assert_allclose(got["student_error"], 1 - accuracy, atol=1e-6)
    right = teacher(x).numpy().argmax(-1) == y
    np.testing.assert_allclose(got["teacher_error"], 1 - right.mean())
    plain = kd.Distiller(
        student=convnet(),
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
    )
    with pytest.raises(ValueError, match="IdealJointClassifier"):
        kd.metrics.JointClassifierGap.measure(plain, dataset)


def test_what_does_not_fit():
    gap = kd.metrics.JointClassifierGap(keras.ops.ones((3, 2)))
    with pytest.raises(ValueError, match="no data"):
        gap.result()
    with pytest.raises(ValueError, match=r"\(batch, 3\).*\(2, 4\)"):
        gap.update_state(np.ones((2, 3)), np.ones((2, 4)), np.zeros(2, int))
    with pytest.raises(ValueError, match="such as 2"):
        gap.update_state(np.ones((2, 3)), np.ones((2, 3)), np.array([0, 2]))
    gap.update_state(np.eye(2, 3), np.eye(2, 3), np.array([[0.0], [1.0]]))
    assert gap.result()["ideal_joint_error"] == 0.0
