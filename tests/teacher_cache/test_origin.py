"""What of views the teacher's outputs depend on."""

import json

import keras
import numpy as np
import pytest

import keras_distill as kd
from keras_distill.teacher_cache.origin import views_description


def described(views):
    return json.dumps(views_description(views), sort_keys=True)


def test_does_not_depend_on_the_process():
    """Names that Keras numbers, and what a layer met when it was called."""

    def make():
        return kd.views.FunctionMatching(
            4,
            teacher_preprocess=keras.Sequential(
                [keras.layers.Rescaling(1 / 255), keras.layers.Resizing(3, 3)]
            ),
        )

    first = make()
    before = described(first)
    x = np.ones((16, 4, 4, 1), "float32")
    first.training(x, epoch=0, sample_index=np.arange(16, dtype="int32"))
    first.teacher_evaluation(x)
    assert described(first) == before == described(make())


def rescaling(factor, **kwargs):
    return kd.views.FunctionMatching(
        4, teacher_preprocess=keras.layers.Rescaling(factor, **kwargs)
    )


MATCHING, FIXED = kd.views.FunctionMatching, kd.views.FixedTeacher


@pytest.mark.parametrize(
    "one,other,same",
    [
        (MATCHING(4), MATCHING(4, name="another"), True),
        (MATCHING(4), MATCHING(4, num_classes=3), True),
        (MATCHING(4), MATCHING(2, teacher_image_size=4), True),
        (MATCHING(4), MATCHING(4, teacher_image_size=2), False),
        (MATCHING(4), MATCHING(4, crop_area=(0.1, 1.0)), False),
        (MATCHING(4), MATCHING(4, seed=1), False),
        (MATCHING(4), MATCHING(4, mixup_group_size=8), False),
        (MATCHING(4), kd.views.IndependentNoise(4, mixup=True), False),
        (rescaling(2.0), rescaling(2.0), True),
        (rescaling(2.0), rescaling(3.0), False),
        (rescaling(2.0), rescaling(2.0, dtype="float16"), False),
        (FIXED(4), FIXED(4, seed=1, flip=False, crop="mild"), True),
        (FIXED(4), FIXED(4, teacher_sees="centre"), False),
        (FIXED(4, mixup=True), FIXED(4, mixup=True, seed=1), False),
        (
            kd.views.Preprocessing(student=keras.layers.Rescaling(2.0)),
            kd.views.Preprocessing(),
            True,
        ),
        (
            kd.views.Preprocessing(teacher=keras.layers.Rescaling(2.0)),
            kd.views.Preprocessing(),
            False,
        ),
        (kd.views.Views(), kd.views.Views(name="plain"), True),
    ],
)
def test_views_whose_outputs_can_be_shared(one, other, same):
    assert (described(one) == described(other)) == same
