"""Another teacher: what the losses know of the one before is gone."""

import warnings

import keras
import numpy as np
import pytest
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

X, Y = data(16)


def distill(loss, student, teacher, run_eagerly=False):
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=loss
    )
    distiller.compile("sgd", crossentropy(), run_eagerly=run_eagerly)
    distiller.fit(X, Y, verbose=0)
    return distiller


@pytest.mark.slow
@pytest.mark.parametrize("student", (Subclassed, convnet))
def test_the_new_ones_classifier_is_taken(student):
    loss = kd.losses.SoftmaxRegression(
        teacher_layer_name="conv2", student_layer_name="act1"
    )
    teachers = convnet(8), convnet(8)
    distiller = distill(loss, student(), teachers[0])
    distiller.set_teacher(teachers[1], check=False)
    distiller.fit(X, Y, verbose=0)
    head = teachers[1].get_layer("head").kernel
    np.testing.assert_array_equal(loss.classifier_kernel, head)


@pytest.mark.nightly
def test_the_paraphraser_is_trained_again():
    loss = kd.losses.FactorTransfer(
        teacher_layer_name="act1",
        student_layer_name="act1",
        paraphraser_epochs=1,
    )
    teacher = convnet(8)
    distiller = distill(loss, convnet(), teacher)
    assert loss.is_prepared
    same = keras.models.clone_model(teacher)
    same.set_weights(teacher.get_weights())
    distiller.set_teacher(same)
    assert loss.is_prepared
    distiller.set_teacher(convnet(8), check=False)
    assert not loss.is_prepared
    distiller.fit(X, Y, verbose=0)
    assert loss.is_prepared


@pytest.mark.slow
def test_one_that_does_not_fit():
    distiller = distill(kd.losses.HardLabels(), convnet(), convnet(8), True)
    with pytest.raises(ValueError, match="6 classes"):
        distiller.set_teacher(convnet(8, classes=6), check=False)
    hint = kd.losses.Hint(teacher_layer_name="act1", student_layer_name="act1")
    distiller = distill(hint, convnet(), convnet(8), True)
    with pytest.raises(ValueError, match="weights of the loss 'hint'"):
        distiller.set_teacher(convnet(6), check=False)


@pytest.mark.slow
def test_one_loss_in_two_distillers():
    hint = kd.losses.Hint(teacher_layer_name="act1", student_layer_name="act1")
    first = distill(hint, convnet(), convnet(8), True)
    with pytest.warns(UserWarning, match="'hint' comes from another"):
        distill(hint, convnet(), convnet(8), True)
    first.set_teacher(convnet(8), check=False)
    soft = kd.losses.SoftTargets()
    first = distill(soft, convnet(), convnet(8), True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        kd.Distiller(
            student=convnet(), teacher=convnet(8), distillation_losses=soft
        )


def test_a_connector_that_is_not_trained_stays_so(tmp_path):
    hint = kd.losses.Hint(teacher_layer_name="act1", student_layer_name="act1")
    teacher = convnet(8)
    distiller = kd.Distiller(
        student=convnet(), teacher=teacher, distillation_losses=hint
    )
    hint.trainable = False
    distiller.compile("sgd", crossentropy())
    distiller.save(tmp_path / "run.keras")
    loaded = kd.load_distiller(tmp_path / "run.keras", teacher=teacher)
    (loss,) = loaded.distillation_losses.values()
    assert not loss.trainable and not loss.trainable_variables
    # `build` makes the connector after the constructor has said so.
    own = {id(v) for v in loss.weights}
    assert own.isdisjoint(map(id, loaded.trainable_variables))


def test_a_loss_without_weights_is_built_for_each_teacher(tmp_path):
    names = ["act1", "conv2"]
    loss = kd.losses.ActivationBoundary(
        teacher_layer_name=names, student_layer_name=names, form="code"
    )
    teachers = convnet(), convnet()
    distiller = kd.Distiller(
        student=convnet(), teacher=teachers[0], distillation_losses=loss
    )
    teacher = {name: np.ones((1, 2, 2, 4), "float32") for name in names}
    student = {name: 0 * teacher[name] for name in names}
    expected = loss.compute_loss(teacher, student)
    distiller.set_teacher(teachers[1], check=False)
    np.testing.assert_allclose(loss.compute_loss(teacher, student), expected)
    distiller.save(tmp_path / "run.keras")
    loaded = kd.load_distiller(tmp_path / "run.keras", teacher=teachers[1])
    (again,) = loaded.distillation_losses.values()
    np.testing.assert_allclose(again.compute_loss(teacher, student), expected)
    # Other maps of as many channels need no weights; other channels do.
    with pytest.raises(ValueError, match="needed no weights.*a new loss"):
        distiller.set_teacher(convnet(6), check=False)
