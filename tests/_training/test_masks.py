"""Positions that a teacher leaves out, of several, and the student does not."""

import keras
import numpy as np
import pytest
from networks import crossentropy

import keras_distill as kd

IDS = np.array([[3, 1, 2, 0, 0], [1, 4, 4, 2, 0]], "int32")
LABELS = np.zeros((2, 5), "int32")


def tagger(padding=0):
    """A network that leaves out the ids up to `padding`."""
    ids = keras.Input((5,), dtype="int32")
    shifted = keras.ops.maximum(ids - padding, 0)
    h = keras.layers.Embedding(6, 4, mask_zero=True)(shifted)
    h = keras.layers.LSTM(4, return_sequences=True)(h)
    return keras.Model(ids, keras.layers.Dense(3)(h))


@pytest.mark.parametrize("rule", [None, "mean", "label"])
@pytest.mark.parametrize("padding", [0, 1])
def test_each_of_several_teachers_leaves_out_what_the_student_does(
    padding, rule
):
    teachers = {"one": tagger(), "other": tagger(padding)}
    read = "other"
    if rule is not None:
        both = kd.teachers.Combination(["one", "other"], rule=rule)
        teachers = kd.Teachers(teachers, combinations={"both": both})
        read = "both"
    distiller = kd.Distiller(
        student=tagger(),
        teacher=teachers,
        distillation_losses=kd.losses.SoftTargets(teacher_layer_name=read),
    )
    distiller.compile("adam", crossentropy())
    if padding == 0:
        assert np.isfinite(distiller.train_on_batch(IDS, LABELS)).all()
    else:
        with pytest.raises(ValueError, match="counts 5 of 10.*student 7"):
            distiller.train_on_batch(IDS, LABELS)
