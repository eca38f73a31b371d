"""What of views the teacher's outputs depend on."""

import json

import keras
import numpy as np
import pytest

import keras_distill as kd
from keras_distill.teachers.cache.origin import computation
from keras_distill.teachers.cache.origin import origin_of
from keras_distill.teachers.cache.origin import views_description


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


@pytest.mark.parametrize("apart", [2**31, 2**30, 2**24])
def test_seeds_that_are_far_apart(apart):
    """They are told apart to the last bit."""
    teacher = {"fingerprint": "", "head": None}
    seeds = [
        origin_of({"teacher": teacher, "views": {"seed": seed}}).seed
        for seed in (7, 7 + apart, None, "a user's own")
    ]
    assert seeds[:3] == [7, 7 + apart, -1] and seeds[3] not in seeds[:3]


def adapted(factor):
    """A layer with weights, which its configuration does not tell."""
    layer = keras.layers.Normalization()
    layer.adapt(factor * np.arange(8.0).reshape(2, 2, 2, 1))
    return layer


SAME = adapted(1.0)
MATCHING, FIXED = kd.views.FunctionMatching, kd.views.FixedTeacher


@pytest.mark.parametrize(
    "one,other,same",
    [
        (MATCHING(4), MATCHING(4, name="another"), True),
        (MATCHING(4), MATCHING(4, mixup=kd.views.Mixup(num_classes=3)), True),
        (MATCHING(4), MATCHING(2, teacher_image_size=4), True),
        (MATCHING(4), MATCHING(4, teacher_image_size=2), False),
        (MATCHING(4), MATCHING(4, crop_area=(0.1, 1.0)), False),
        (MATCHING(4), MATCHING(4, seed=1), False),
        (MATCHING(4), MATCHING(4, mixup=kd.views.Mixup(group_size=8)), False),
        (MATCHING(4), kd.views.IndependentNoise(4, mixup=True), False),
        (rescaling(2.0), rescaling(2.0), True),
        (rescaling(2.0), rescaling(3.0), False),
        (rescaling(2.0), rescaling(2.0, dtype="float16"), False),
        (FIXED(4), FIXED(4, seed=1, flip=False, **kd.views.MILD_CROP), True),
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
        (kd.views.Preprocessing(student=adapted(2.0)), kd.views.Views(), True),
        (MATCHING(4, student_preprocess=adapted(2.0)), MATCHING(4), True),
        (
            kd.views.Preprocessing(student=adapted(2.0), teacher=SAME),
            kd.views.Preprocessing(teacher=SAME),
            True,
        ),
        (
            kd.views.Preprocessing(teacher=adapted(2.0)),
            kd.views.Preprocessing(teacher=SAME),
            False,
        ),
    ],
)
def test_views_whose_outputs_can_be_shared(one, other, same):
    assert (described(one) == described(other)) == same


def functional(factor=2.0, swapped=False):
    """Two branches whose layers Keras numbers anew."""
    image = keras.Input((4, 4, 1))
    scaled = keras.layers.Rescaling(factor)(image)
    pooled = keras.layers.AveragePooling2D(1)(image)
    parts = [pooled, scaled] if swapped else [scaled, pooled]
    return keras.Model(image, keras.layers.Subtract()(parts))


def test_functional_preprocessing_built_twice_is_the_same():
    first, second, swapped, other = (
        described(kd.views.Preprocessing(teacher=network))
        for network in (
            functional(),
            functional(),
            functional(swapped=True),
            functional(3.0),
        )
    )
    assert first == second
    assert len({first, swapped, other}) == 3


# What a teacher computes with the same weights.


def teacher(factor=0.5, activation=None, head=None, **kwargs):
    image = keras.Input((4, 4, 1))
    x = keras.layers.Rescaling(factor)(image)
    x = keras.layers.Conv2D(2, 3, activation=activation, **kwargs)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.1)(keras.layers.Flatten()(x))
    return keras.Model(image, keras.layers.Dense(3, activation=head)(x))


MEMBERS = [teacher(), teacher()]


@pytest.mark.parametrize(
    "one,other,same",
    [
        (teacher(), teacher(), True),
        (teacher(), teacher(factor=1.0), False),
        (teacher(), teacher(activation="relu"), False),
        (teacher(), teacher(head="softmax"), False),
        (teacher(), teacher(padding="same", strides=2), False),
        (kd.Ensemble(MEMBERS), kd.Ensemble(MEMBERS, name="e"), True),
        (kd.Ensemble(MEMBERS), kd.Ensemble(MEMBERS, weights=[1, 3]), False),
    ],
)
def test_what_a_teacher_computes(one, other, same):
    assert (computation(one) == computation(other)) == same


@pytest.mark.slow
def test_saved_frozen_and_called_it_computes_the_same(tmp_path):
    for name, model in {
        "functional": teacher(),
        "sequential": keras.Sequential([teacher(), keras.layers.ReLU()]),
        "ensemble": kd.Ensemble([teacher(), teacher()]),
    }.items():
        x = np.ones((2, 4, 4, 1), "float32")
        model(x)
        before = computation(model)
        model.save(tmp_path / f"{name}.keras")
        loaded = keras.saving.load_model(tmp_path / f"{name}.keras")
        model.trainable = False
        model.compile("sgd", "mse")
        model.predict(x, verbose=0)
        assert computation(model) == computation(loaded) == before, name


def test_a_teacher_without_configuration():
    class Own(keras.Model):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def call(self, x):
            return self.network(x)

    assert computation(Own(object())) is None
