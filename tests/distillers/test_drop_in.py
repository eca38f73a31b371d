"""keras.distillation's losses in kd.Distiller, and what it gets wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

X, Y = data(24)
stock = keras.distillation


def right_kl(temperature=4.0):
    # The default, the string "kl_divergence", is computed on logits.
    return stock.LogitsDistillation(
        temperature=temperature, loss=keras.losses.KLDivergence()
    )


def ours(student, teacher, losses, **kwargs):
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=losses, **kwargs
    )
    distiller.compile(keras.optimizers.SGD(0.1), crossentropy())
    return distiller


def theirs(student, teacher, losses, **kwargs):
    distiller = stock.Distiller(teacher, student, losses, **kwargs)
    distiller.compile(keras.optimizers.SGD(0.1), crossentropy())
    return distiller


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        right_kl,
        lambda: stock.FeatureDistillation("mse"),
        lambda: stock.FeatureDistillation(
            keras.losses.MeanAbsoluteError(),
            teacher_layer_name="act1",
            student_layer_name="act1",
        ),
    ],
    ids=["logits", "output", "layer"],
)
def test_a_stock_loss_trains_the_same_student_in_both(make):
    student, teacher = convnet(), convnet()
    other = convnet()
    other.set_weights(student.get_weights())
    ours(student, teacher, make(), alpha=0.5).fit(
        X, Y, batch_size=8, shuffle=False, verbose=0
    )
    theirs(other, teacher, [make()], student_loss_weight=0.5).fit(
        X, Y, batch_size=8, shuffle=False, verbose=0
    )
    for a, b in zip(student.get_weights(), other.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_soft_targets_equal_the_stock_loss_where_that_is_right():
    student, teacher = convnet(), convnet(8)
    distiller = ours(
        student,
        teacher,
        {
            "ours": kd.losses.SoftTargets(temperature=3.0),
            "theirs": right_kl(3.0),
        },
    )
    logs = distiller.train_on_batch(X, Y, return_dict=True)
    np.testing.assert_allclose(
        logs["ours_loss"], logs["theirs_loss"], rtol=1e-4
    )


def test_the_stock_default_is_still_wrong_and_ours_is_not():
    teacher = tf.constant([[8.0, 0.0, -4.0]])
    student = tf.constant([[0.0, 4.0, 0.0]])
    p = tf.nn.softmax(teacher / 4)
    q = tf.nn.softmax(student / 4)
    expected = 16 * tf.reduce_sum(p * tf.math.log(p / q))
    got = kd.losses.SoftTargets(temperature=4.0).compute_loss(teacher, student)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    wrong = stock.LogitsDistillation(temperature=4.0).compute_loss(
        teacher, student
    )
    assert abs(wrong - expected) > 1.0


@pytest.mark.slow
def test_a_custom_stock_loss_and_saving(tmp_path):
    @keras.saving.register_keras_serializable(package="tests")
    class MeanDifference(stock.DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            return keras.ops.mean(
                keras.ops.abs(teacher_outputs - student_outputs)
            )

        def get_config(self):
            return {}

        @classmethod
        def from_config(cls, config):
            return cls(**config)

    teacher = convnet(8)
    distiller = ours(convnet(), teacher, [MeanDifference(), right_kl()])
    assert list(distiller.distillation_losses) == [
        "mean_difference",
        "logits_distillation",
    ]
    distiller.fit(X, Y, verbose=0)
    distiller.save(tmp_path / "d.keras")
    loaded = kd.load_distiller(tmp_path / "d.keras", teacher=teacher)
    a = distiller.train_on_batch(X, Y, return_dict=True)
    b = loaded.train_on_batch(X, Y, return_dict=True)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)


@pytest.mark.slow
def test_stock_losses_are_finite_in_float16():
    student = convnet(dtype="mixed_float16")
    logs = ours(student, convnet(8), right_kl()).train_on_batch(
        X, Y, return_dict=True
    )
    assert np.isfinite(list(logs.values())).all()
