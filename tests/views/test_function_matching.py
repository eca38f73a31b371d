import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import nightly

import keras_distill as kd

MILD = kd.views.MILD_CROP
VIEWS = {
    "function_matching": lambda **k: kd.views.FunctionMatching(
        12, mixup=kd.views.Mixup(num_classes=5), **k
    ),
    "consistent": lambda **k: kd.views.Consistent(12, **k),
    "consistent_mild": lambda **k: kd.views.Consistent(12, **MILD, **k),
    "independent": lambda **k: kd.views.IndependentNoise(12, **k),
    "fixed": lambda **k: kd.views.FixedTeacher(12, **k),
    "fixed_centre": lambda **k: kd.views.FixedTeacher(
        12, teacher_sees="centre", **MILD, **k
    ),
}
SAME = ("function_matching", "consistent", "consistent_mild")


@pytest.fixture
def x():
    return np.random.uniform(size=(32, 16, 16, 3)).astype("float32")


@pytest.fixture
def y():
    return np.random.randint(0, 5, 32).astype("int32")


def see(views, x, y=None, epoch=0, index=None):
    index = tf.range(len(x)) if index is None else tf.constant(index)
    return views.training(x, y, epoch=tf.constant(epoch), sample_index=index)


@pytest.mark.parametrize("name", VIEWS)
def test_what_each_network_sees(name, x):
    view = see(VIEWS[name](), x)
    assert view.student.shape == view.teacher.shape == (32, 12, 12, 3)
    equal = np.array_equal(view.student, view.teacher)
    assert equal == (name in SAME)
    assert (view.student is view.teacher) == (name in SAME)
    next_epoch = see(VIEWS[name](), x, epoch=1)
    assert not np.array_equal(view.student, next_epoch.student)
    fixed = name.startswith("fixed")
    assert np.array_equal(view.teacher, next_epoch.teacher) == fixed
    assert VIEWS[name]().teacher_varies != fixed


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_replayed_from_seed_epoch_and_index(name, x, y):
    views = VIEWS[name]()
    view = see(views, x, y, epoch=3)
    # Another object, another order, half of the samples.
    order = np.random.default_rng(0).permutation(np.arange(16, 32))
    again = type(views).from_config(views.get_config())
    part = see(again, x[order], y[order], 3, order.astype("int32"))
    for one, other in zip(view[:3], part[:3]):
        np.testing.assert_array_equal(np.asarray(one)[order], other)
    changed = see(VIEWS[name](seed=1), x, y, epoch=3)
    assert not np.array_equal(changed.student, view.student)


# One for each way of choosing boxes.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["function_matching", *nightly("independent", "fixed_centre")]
)
def test_compiled_views_are_the_same(name, x):
    views = VIEWS[name]()

    def step(x, index):
        return views.training(x, epoch=tf.constant(1), sample_index=index)[:2]

    plain = tf.function(step)(x, tf.range(32))
    views.jit_compile = True
    compiled = tf.function(step, jit_compile=True)(x, tf.range(32))
    for one, other in zip(plain, compiled):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_teacher_at_a_higher_resolution_sees_the_same_part(x):
    # A plane z = y + 3 x is reproduced exactly at every resolution.
    plane = np.add.outer(np.arange(16), 3.0 * np.arange(16))
    x = np.broadcast_to(plane[None, :, :, None], (8, 16, 16, 1))
    views = kd.views.FunctionMatching(9, teacher_image_size=17)
    view = see(views, x.astype("float32"))
    assert view.teacher.shape == (8, 17, 17, 1)
    np.testing.assert_allclose(
        view.teacher[:, ::2, ::2], view.student, atol=1e-3
    )


def test_preprocessing_is_that_of_each_network(x):
    views = kd.views.Consistent(
        12,
        teacher_image_size=(8, 10),
        student_preprocess=keras.layers.Rescaling(2.0),
        teacher_preprocess=keras.layers.Rescaling(-1.0),
    )
    view = see(views, x)
    assert view.student.shape == (32, 12, 12, 3)
    assert view.teacher.shape == (32, 8, 10, 3)
    assert tf.reduce_min(view.student) >= 0 >= tf.reduce_max(view.teacher)
    assert tf.reduce_max(view.student) > 1
    seen = views.evaluation(x)
    np.testing.assert_allclose(
        seen, 2.0 * keras.ops.image.resize(x, (12, 12)), rtol=1e-6
    )
    assert views.teacher_evaluation(x).shape == (32, 8, 10, 3)


def test_stages_can_be_left_out(x):
    off = dict(crop_area=(1, 1), crop_aspect=(1, 1), flip=False, mixup=False)
    view = see(kd.views.FunctionMatching(16, **off), x)
    np.testing.assert_allclose(view.student, x, atol=1e-5)
    flips = see(kd.views.FunctionMatching(16, **{**off, "flip": True}), x)
    mirrored = [
        np.allclose(a, b[:, ::-1], atol=1e-5) for a, b in zip(flips.student, x)
    ]
    assert 4 < sum(mirrored) < 28


def test_uint8_images_keep_their_range():
    x = np.full((4, 16, 16, 3), 200, "uint8")
    view = see(kd.views.FunctionMatching(12), x)
    assert view.student.dtype == tf.float32
    np.testing.assert_allclose(view.student, 200.0, rtol=1e-5)
    assert kd.views.FunctionMatching(12).evaluation(x).dtype == tf.float32


@pytest.mark.parametrize("form", ["sparse", "column", "one_hot"])
def test_labels_are_blended_as_images_are(y, form):
    # An image that is its one-hot label.
    x = np.eye(5, dtype="float32")[y][:, None, None, :] * np.ones((1, 4, 4, 1))
    mixup = kd.views.Mixup(num_classes=5)
    off = dict(crop_area=(1, 1), crop_aspect=(1, 1), mixup=mixup)
    given = {"sparse": y, "column": y[:, None], "one_hot": np.eye(5)[y]}[form]
    view = see(kd.views.FunctionMatching(4, **off), x, given)
    np.testing.assert_allclose(view.y, view.student[:, 0, 0], atol=1e-5)


def test_sample_weights_are_blended(x):
    views = kd.views.FunctionMatching(12)
    weight = tf.ones(32)
    view = views.training(x, None, weight, tf.constant(0), tf.range(32))
    np.testing.assert_allclose(view.sample_weight, 1.0, rtol=1e-6)


def test_labels_of_evaluation(y):
    mixed = kd.views.FunctionMatching(4, mixup=kd.views.Mixup(num_classes=5))
    np.testing.assert_array_equal(mixed.evaluation_labels(y), np.eye(5)[y])
    assert mixed.evaluation_labels(None) is None
    assert kd.views.Consistent(4).evaluation_labels(y) is y


def test_without_an_index_every_call_is_fresh(x):
    views = kd.views.FunctionMatching(12)
    assert not np.array_equal(views.training(x).student, views.training(x)[0])


@pytest.mark.slow
def test_in_a_data_pipeline(x, y):
    views = kd.views.IndependentNoise(12, teacher_image_size=8)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).map(views)
    for seen, labels in data:
        assert seen["student"].shape == (8, 12, 12, 3)
        assert seen["teacher"].shape == (8, 8, 8, 3)
        assert labels.shape == (8,)
    weighted = data.map(lambda x, y: (x["student"], y, tf.ones(8))).map(views)
    assert len(weighted.element_spec) == 3
    alone = tf.data.Dataset.from_tensor_slices(x).batch(8).map(views)
    assert set(alone.element_spec) == {"student", "teacher"}


@pytest.mark.parametrize("name", VIEWS)
def test_serialization(name):
    views = VIEWS[name](seed=7, student_preprocess=keras.layers.Rescaling(2.0))
    config = keras.saving.serialize_keras_object(views)
    again = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(config))
    )
    assert type(again) is type(views)
    assert again.get_config() == views.get_config()
    assert (again.mixup is None) == (name != "function_matching")


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(image_size=0), ValueError, "image_size must be a number of pix"),
        (dict(image_size="big"), ValueError, "image_size"),
        (dict(teacher_image_size=(1, 2, 3)), ValueError, "teacher_image_size"),
        (dict(crop_area=(0.0, 1.0)), ValueError, r"crop_area.*\(0, 1\]"),
        (dict(crop_area=(0.5, 1.1)), ValueError, "crop_area"),
        (dict(crop_area=(0.5, 0.1)), ValueError, "least first"),
        (dict(crop_area=0.5), ValueError, "crop_area"),
        (dict(crop_aspect=(-1, 1)), ValueError, "crop_aspect"),
        (dict(mixup=0.2), TypeError, r"kd.views.Mixup.*0\.2"),
        (dict(seed=-1), ValueError, "seed"),
        (dict(student_preprocess=abs), TypeError, "student_preprocess must be"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        kd.views.FunctionMatching(**{"image_size": 8, **arguments})


def test_bad_variants():
    with pytest.raises(ValueError, match="'image', 'centre'"):
        kd.views.FixedTeacher(8, teacher_sees="nothing")


def test_bad_data(x, y):
    views = kd.views.FunctionMatching(8)
    with pytest.raises(ValueError, match=r"\(batch, height.*\(32, 16, 16\)"):
        views.training(x[..., 0])
    with pytest.raises(ValueError, match="Received: dict"):
        views.evaluation({"image": x})
    with pytest.raises(ValueError, match=r"one-hot.*Mixup\(num_classes="):
        views.training(x, y)


def test_images_have_their_channels_last_whatever_keras_says(x):
    keras.config.set_image_data_format("channels_first")
    try:
        seen = kd.views.FunctionMatching(12).evaluation(x)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert seen.shape == (32, 12, 12, 3)
