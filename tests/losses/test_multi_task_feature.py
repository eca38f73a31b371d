"""MultiTaskFeature: taps by task, weights, sizes, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_distill.losses import MultiTaskFeature

LAYERS = {"shape": "shape/conv4", "texture": "texture/conv4"}
RANDOM = np.random.default_rng(0)
TEACHERS = {
    # As `tf.nest` may sort them.
    "texture/conv4": RANDOM.normal(size=(2, 4, 4, 5)),
    "shape/conv4": RANDOM.normal(size=(2, 8, 8, 3)),
}
STUDENT = RANDOM.normal(size=(2, 4, 4, 6))


def made(layers=LAYERS, **kwargs):
    loss = MultiTaskFeature(
        teacher_layer_name=layers, student_layer_name="conv2", **kwargs
    )
    loss.build({n: x.shape for n, x in TEACHERS.items()}, STUDENT.shape)
    return loss


def by_hand(teacher, adaptor):
    rows, columns = teacher.shape[1] // 4, teacher.shape[2] // 4
    teacher = teacher.reshape(2, 4, rows, 4, columns, -1).mean(axis=(2, 4))
    adapted = STUDENT @ np.asarray(adaptor)
    a, f = (
        x / np.sqrt(np.sum(x**2, axis=-1, keepdims=True) + 1e-6)
        for x in (adapted, teacher)
    )
    return np.mean(np.sum((a - f) ** 2, axis=-1))


@pytest.mark.parametrize("weights", [{"texture": 2.0, "shape": 0.5}, [0.5, 2]])
def test_each_task_has_its_adaptor_and_weight(weights):
    loss = made(task_weights=weights)
    shape, texture = loss.adaptors
    assert shape.shape == (6, 3) and texture.shape == (6, 5)
    expected = 0.5 * by_hand(TEACHERS["shape/conv4"], shape)
    expected += 2 * by_hand(TEACHERS["texture/conv4"], texture)
    found = loss.compute_loss(TEACHERS, STUDENT)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_dict_of_layers_survives_its_configuration():
    loss = made(task_weights={"texture": 2.0, "shape": 0.5}, epsilon=1e-3)
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert again.tasks == ["shape", "texture"]
    assert again.teacher_layer_name == list(LAYERS.values())
    assert again.get_config() == loss.get_config()


def test_zeros_give_finite_gradients():
    loss = made()
    student = tf.zeros((2, 4, 4, 6))
    with tf.GradientTape() as tape:
        tape.watch(student)
        value = loss.compute_loss(TEACHERS, student)
    gradients = tape.gradient(value, [student, *loss.trainable_variables])
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"task_weights": {"shape": 1.0}}, "must have the tasks.*texture"),
        ({"task_weights": [1.0]}, "2 of them.*one per task"),
        ({"task_weights": [-1.0, 1.0]}, "task_weights must be"),
        ({"epsilon": 0.0}, "epsilon must be"),
        ({"layers": {"a": "conv", "b": "conv"}}, "lists a layer twice"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        made(**arguments)


@pytest.mark.parametrize(
    "teacher, student",
    [
        ((None, 8, 8, 3), (None, 4)),
        ((None, 7, 3), (None, 5, 4)),
        ((None, 4), (None, None)),
    ],
)
def test_shapes_that_no_convolution_joins(teacher, student):
    loss = MultiTaskFeature(
        teacher_layer_name={"shape": "conv"}, student_layer_name="conv2"
    )
    with pytest.raises(ValueError, match="for task 'shape': teacher .*Tap oth"):
        loss.build({"conv": teacher}, student)


def test_one_feature_of_the_student():
    with pytest.raises(ValueError, match="student_layer_name must be one"):
        MultiTaskFeature(
            teacher_layer_name=["a"], student_layer_name=["b", "c"]
        )
