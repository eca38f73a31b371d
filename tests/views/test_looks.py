"""Views for other than natural photographs, and a user's own function."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd
from keras_distill.teachers.cache.origin import views_description
from keras_distill.views import Consistent
from keras_distill.views import draws
from keras_distill.views import looks

SIZE, SAMPLES = 6, 64
AS_THEY_ARE = {"crop_area": None, "flip": None}


@keras.saving.register_keras_serializable(package="tests_looks")
def shifted(image, seed):
    """Each image plus a number of its own."""
    return image + tf.random.stateless_uniform([], seed)


def images(samples=SAMPLES):
    rng = np.random.default_rng(0)
    return rng.uniform(size=(samples, SIZE, SIZE, 3)).astype("float32")


def seen(views, x=None, index=None, epoch=0):
    x = images() if x is None else x
    index = np.arange(len(x), dtype="int32") if index is None else index
    view = views.training(x, epoch=epoch, sample_index=index)
    return np.asarray(view.student), np.asarray(view.teacher)


def chosen(views, candidates):
    """For each sample, the number of the candidate that is seen."""
    x, (student, teacher) = images(), seen(views)
    np.testing.assert_array_equal(student, teacher)
    candidates = np.stack([[f(image) for image in x] for f in candidates])
    close = np.isclose(candidates, student, atol=1e-6).all(axis=(2, 3, 4))
    assert (close.sum(axis=0) == 1).all()
    return np.bincount(close.argmax(axis=0), minlength=len(candidates))


FLIPS = {
    "horizontal": [lambda x: x, np.fliplr],
    "vertical": [lambda x: x, np.flipud],
    "both": [lambda x: x, np.fliplr, np.flipud, lambda x: x[::-1, ::-1]],
    None: [lambda x: x],
}
FLIPS |= {True: FLIPS["horizontal"], False: FLIPS[None]}


@pytest.mark.parametrize("flip", FLIPS)
def test_flips(flip):
    """Each with equal probability; without a crop, pixels as they are."""
    counts = chosen(Consistent(SIZE, crop_area=None, flip=flip), FLIPS[flip])
    assert (counts > SAMPLES / len(counts) / 2).all()


def test_quarter_turns():
    views = Consistent(SIZE, quarter_turns=True, **AS_THEY_ARE)
    turns = [lambda x, k=k: np.rot90(x, k) for k in range(4)]
    counts = chosen(views, turns)
    assert (counts > SAMPLES / 16).all()


def test_turns_are_to_the_left():
    x = images(4)
    boxes = np.tile([[0.0, 0.0, 1.0, 1.0]], (4, 1)).astype("float32")
    turns = tf.range(4)
    found = looks.Look(x, boxes, turns).cut((SIZE, SIZE), compiled=False)
    for k in range(4):
        np.testing.assert_allclose(found[k], np.rot90(x[k], k), atol=1e-6)


def test_brightness():
    views = Consistent(SIZE, brightness=0.5, **AS_THEY_ARE)
    for scale in (1.0, 255.0, 65535.0):
        x = 0.5 * scale * images()
        student, teacher = seen(views, x)
        np.testing.assert_array_equal(student, teacher)
        factors = (student / x).reshape(SAMPLES, -1)
        np.testing.assert_allclose(factors.min(1), factors.max(1), rtol=1e-5)
        assert 0.5 <= factors.min() < 0.6 and 1.4 < factors.max() <= 1.5
        bright, _ = seen(views, scale * images())
        assert bright.max() == scale


def test_a_function_sees_each_image_with_a_seed_of_its_own():
    views = Consistent(SIZE, augmentation=shifted, **AS_THEY_ARE)
    student, teacher = seen(views, epoch=3)
    np.testing.assert_array_equal(student, teacher)
    index = np.arange(SAMPLES, dtype="int32")
    seeds = draws.seeds(0, 3, index, looks.STUDENT.function)
    assert seeds.shape == (SAMPLES, 2) and seeds.dtype == "int32"
    assert len(np.unique(seeds)) == seeds.shape[0] * 2
    expected = [shifted(x, s) for x, s in zip(images(), seeds)]
    np.testing.assert_array_equal(student, expected)


EVERYTHING = {
    "flip": "both",
    "quarter_turns": True,
    "brightness": 0.3,
    "augmentation": shifted,
    "seed": 5,
}
KINDS = {
    "consistent": lambda: Consistent(SIZE, **EVERYTHING),
    "no crop": lambda: Consistent(SIZE, **{**EVERYTHING, "crop_area": None}),
    "two sizes": lambda: Consistent(4, teacher_image_size=8, **EVERYTHING),
    "noise": lambda: kd.views.IndependentNoise(SIZE, **EVERYTHING),
    "fixed": lambda: kd.views.FixedTeacher(SIZE, **EVERYTHING),
    "mixup": lambda: kd.views.FunctionMatching(SIZE, **EVERYTHING),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_is_replayed_whatever_the_batch(kind):
    views = KINDS[kind]()
    x, whole = images(), seen(views, epoch=2)
    order = np.arange(SAMPLES, dtype="int32").reshape(-1, 16)[::-1]
    copy = type(views).from_config(views.get_config())
    for part in order:
        for found, expected in zip(seen(copy, x[part], part, 2), whole):
            np.testing.assert_array_equal(found, expected[part])
    other_seed = type(views).from_config({**views.get_config(), "seed": 6})
    for other in (seen(views, epoch=1), seen(other_seed, epoch=2)):
        changed = (other[0] != whole[0]).any(axis=(1, 2, 3))
        assert changed.all()


def test_who_sees_what():
    student, teacher = seen(KINDS["fixed"]())
    np.testing.assert_array_equal(teacher, images())
    assert (student != teacher).any(axis=(1, 2, 3)).all()
    student, teacher = seen(KINDS["noise"]())
    assert (student != teacher).any(axis=(1, 2, 3)).all()


@pytest.mark.slow
def test_in_a_compiled_graph():
    """Without a function: XLA's stateless random numbers are others."""
    without = {**EVERYTHING, "augmentation": None}
    views = kd.views.FunctionMatching(SIZE, **without)
    expected = seen(views)
    views.jit_compile = True
    compiled = tf.function(
        lambda x, i: views.training(x, epoch=0, sample_index=i)[:2],
        jit_compile=True,
    )
    found = compiled(images(), np.arange(SAMPLES, dtype="int32"))
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, atol=2e-5)


# A cache knows its views.


def test_the_identity_of_views_in_a_cache():
    """Caches from before these arguments fit views without them."""
    plain = views_description(Consistent(SIZE))
    assert not {"quarter_turns", "brightness", "augmentation"} & set(plain)
    assert plain["flip"] is True
    assert views_description(Consistent(SIZE, flip="horizontal")) == plain
    descriptions = [plain] + [
        views_description(Consistent(SIZE, **{argument: value}))
        for argument, value in {**EVERYTHING, "crop_area": None}.items()
    ]
    for number, description in enumerate(descriptions):
        assert description not in descriptions[:number]


def test_another_function_of_the_same_name_is_other_views(monkeypatch):
    views = Consistent(SIZE, augmentation=shifted)
    before = views_description(views)
    monkeypatch.setattr(inspect, "getsource", lambda f: "return -image")
    assert views_description(views) != before


def test_what_a_fixed_teacher_sees_depends_on_none_of_it():
    plain = views_description(kd.views.FixedTeacher(SIZE))
    assert views_description(KINDS["fixed"]()) == plain


# What is refused.


def test_arguments():
    with pytest.raises(ValueError, match="quarter_turns=True needs square"):
        Consistent((4, 6), quarter_turns=True)
    with pytest.raises(ValueError, match="augmentation must be registered"):
        Consistent(SIZE, augmentation=lambda image, seed: image)
    with pytest.raises(TypeError, match="kd.views.Augmented"):
        Consistent(SIZE, augmentation=keras.layers.RandomFlip())
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match="seed must be .* 4294967295"):
            Consistent(SIZE, seed=seed)


@keras.saving.register_keras_serializable(package="tests_looks")
def cut_off(image, seed):
    return image[1:]


def test_a_function_that_changes_the_shape():
    views = Consistent(SIZE, augmentation=cut_off)
    with pytest.raises(ValueError, match="augmentation must return an image"):
        seen(views)
