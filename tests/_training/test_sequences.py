"""Masks and lengths of sequences that teacher and student see differently."""

import keras
import numpy as np
import pytest

import keras_distill as kd

layers = keras.layers
WORDS = 6
X = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 5, 1, 2], [3, 3, 0, 0]])
Y = np.array([[2, 3, 1, 0], [1, 0, 0, 0], [5, 1, 2, 4], [3, 2, 0, 0]])


def network(mask_zero=False, change=None):
    inputs = keras.Input((None,), dtype="int32")
    x = inputs if change is None else change(inputs)
    x = layers.Embedding(WORDS, 8, mask_zero=mask_zero)(x)
    return keras.Model(inputs, layers.Dense(WORDS)(layers.Dense(8)(x)))


def distilled(teacher, student):
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
    )
    distiller.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return distiller


@pytest.mark.slow
@pytest.mark.parametrize("masks", [(True, True), (True, False), (False, True)])
def test_padding_of_either_network_does_not_count(masks):
    teacher, student = map(network, masks)
    history = distilled(teacher, student).fit(X, Y, verbose=0).history
    loss = kd.losses.SoftTargets()
    counted = X != 0
    expected = loss.compute_loss(
        teacher(X).numpy()[counted], student(X).numpy()[counted]
    )
    found = history["soft_targets_loss"][0]
    np.testing.assert_allclose(found, float(expected), rtol=1e-4)


def test_masks_that_differ():
    teacher = network(True, lambda x: keras.ops.flip(x, axis=1))
    distiller = distilled(teacher, network(True))
    with pytest.raises(ValueError, match="different ones.*counts 10 of 16"):
        distiller.fit(X, Y, verbose=0)


def test_lengths_that_only_the_data_shows():
    distiller = distilled(network(change=lambda x: x[:, 1:]), network())
    with pytest.raises(ValueError, match="position by position.*3, 6.*4, 6"):
        distiller.fit(X, Y, verbose=0)


def test_a_vocabulary_that_the_teacher_does_not_share():
    inputs = keras.Input((None,), dtype="int32")
    teacher = keras.Model(inputs, layers.Embedding(WORDS, 9)(inputs))
    with pytest.raises(ValueError, match="teacher has 9 classes"):
        distilled(teacher, network())
    with pytest.raises(ValueError, match="6"):  # A label that is no word.
        distilled(network(), network()).fit(X, Y + 2, verbose=0)
