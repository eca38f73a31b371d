"""The student is trained on the views that it will be trained on."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from diagnosis_cases import data
from diagnosis_cases import facts
from diagnosis_cases import found
from diagnosis_cases import kinds
from diagnosis_cases import look

import keras_distill as kd
from keras_distill.diagnosis.data import Data
from keras_distill.diagnosis.regimes import find
from keras_distill.diagnosis.views_in_training import milder
from keras_distill.diagnosis.views_in_training import seen_in_training

layers = keras.layers
SIZE = 6


def images(samples, seed=0):
    """Bright images and dark ones."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, samples)
    x = rng.uniform(-0.5, 0, (samples, SIZE, SIZE, 1))
    x[y == 1] += 0.5
    return x.astype("float32"), y.astype("int32")


def network(units=2, name="student"):
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            layers.Flatten(),
            layers.Dense(units, kernel_initializer="zeros"),
        ],
        name=name,
    )


def teacher():
    model = network(name="teacher")
    ramp = np.stack([-np.ones(SIZE**2), np.ones(SIZE**2)], -1)
    model.set_weights([ramp, np.zeros(2)])
    return model


def look_at_images(**arguments):
    settings = {
        "student": network(),
        "teacher": teacher(),
        "dataset": images(100),
        "validation_data": images(200, seed=1),
        "steps": 20,
    }
    return look(**{**settings, **arguments})


class Blank(kd.views.Views):
    """Nothing can be learned from what the student sees in training."""

    def training(self, x, *others, **arguments):
        return super().training(0 * x, *others, **arguments)


class Doubled(kd.views.Views):
    """What training shows is what evaluation shows."""

    def evaluation(self, x):
        return 2 * x


@pytest.mark.slow
def test_the_student_sees_what_training_will_show():
    result = look(views=Blank(), steps=30, dataset=data(1000))
    numbers = result.as_dict()
    blank, plain = (
        numbers[name]["validation"]["accuracy"]
        for name in ("student", "without_views")
    )
    assert blank < 0.35 and plain > 0.7
    # Views that cost so much are found out; the headroom comes first.
    assert "strong_views" in kinds(result)
    words = dict(result.findings)["strong_views"]
    assert f"{100 * blank:.1f} % of" in words
    assert f"{100 * plain:.1f} % without" in words
    text = " ".join(str(result).split())
    assert "times, with Blank" in text
    assert "Headroom, teacher minus student without views, on 1,000" in text
    gain = numbers["without_views"]["gain"]
    assert gain["difference"] == pytest.approx(plain - blank)


def test_views_without_randomness_are_trained_once():
    numbers = look(views=Doubled()).as_dict()
    assert "without_views" not in numbers
    assert numbers["short_training"]["views"] is None


def better(low):
    """Facts in which the student is better without the views."""
    plain = facts()
    result = facts(
        short_training__views="FunctionMatching",
        views__name="FunctionMatching",
    )
    result["without_views"] = {
        "training": {**plain["student"]["training"], "cross_entropy": 0.1},
        "validation": plain["student"]["validation"],
        "short_training": plain["short_training"],
        "headroom": {
            "accuracy": {"difference": 0.0, "low": -0.01, "high": 0.01},
        },
        "gain": {"difference": 0.05, "low": low, "high": 0.09},
    }
    return [kind for kind, _ in find(result)]


def test_the_better_training_decides():
    # There is no headroom over the student without views.
    expected = ["teacher_not_better", "strong_views", "limited_by_data"]
    assert better(0.01) == expected
    assert better(-0.01) == ["limited_by_capacity"]
    # Random views show something else in each pass: passes prove nothing.
    many = {"student__parameters": 9000, "short_training__passes": 500.0}
    assert found(**many) == ["limited_by_capacity"]
    random = {"short_training__views": "FunctionMatching"}
    assert found(**many, **random) == ["undecided"]


@pytest.mark.parametrize(
    "views, expected",
    [
        (
            kd.views.FunctionMatching(SIZE),
            "crop_area=(0.8, 1.0), mixup=False",
        ),
        (kd.views.Consistent(SIZE, crop_area=(0.9, 1.0)), ""),
        (kd.views.Augmented(layers.RandomFlip()), ""),
        (Doubled(), ""),
    ],
)
def test_milder_views(views, expected):
    assert milder(views) == expected


def test_strong_views_without_labels():
    x, _ = images(100)
    result = look_at_images(dataset=x, views=kd.views.FunctionMatching(SIZE))
    words = dict(result.findings)["no_labels"]
    assert "Nor whether FunctionMatching (crops of 5 to 100 %" in words
    assert "Nor" not in dict(look_at_images(dataset=x).findings)["no_labels"]


@pytest.mark.slow
@pytest.mark.parametrize("units", [1, 2])
def test_labels_are_mixed(units):
    student = network(units)
    result = look_at_images(
        student=student,
        views=kd.views.FunctionMatching(SIZE, crop_area=(0.8, 1.0)),
    )
    numbers = result.as_dict()
    views = "FunctionMatching (crops of 80 to 100 %, mixup)"
    assert numbers["short_training"]["views"] == views
    for name in "student", "without_views":
        assert numbers[name]["validation"]["accuracy"] > 0.9


def test_a_loss_that_does_not_take_mixed_labels():
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with pytest.raises(ValueError, match="FunctionMatching blends labels"):
        look_at_images(task_loss=sparse, views=kd.views.FunctionMatching(SIZE))


class Noting(kd.views.Views):
    """Shows epoch and index of each sample."""

    def training(
        self, x, y=None, sample_weight=None, epoch=None, sample_index=None
    ):
        epoch = tf.broadcast_to(epoch, tf.shape(x)[:1])
        index = -tf.ones_like(epoch) if sample_index is None else sample_index
        return kd.views.View(
            tf.stack([epoch, index], -1), None, y, sample_weight
        )


def test_epochs_and_indices_are_those_of_a_distiller():
    x, y = images(8)

    def seen(dataset, batches):
        stream = seen_in_training(Noting(), Data(dataset, "d", 4).stream())
        return np.stack([next(stream)[0] for _ in range(batches)])

    plain = tf.data.Dataset.from_tensor_slices((x, y))
    indexed = kd.views.indexed(plain).batch(4)
    np.testing.assert_array_equal(
        seen(indexed, 4)[..., 0], np.repeat([0, 0, 1, 1], 4).reshape(4, 4)
    )
    np.testing.assert_array_equal(
        seen(indexed, 2)[..., 1], np.arange(8).reshape(2, 4)
    )
    # Without an index each step draws anew.
    np.testing.assert_array_equal(
        seen(plain.batch(4), 3)[..., 0], np.repeat([0, 1, 2], 4).reshape(3, 4)
    )
    # Data may know its epoch.
    seeded = kd.datasets.batches(x, y, 8, seed=0, indexed=True)
    np.testing.assert_array_equal(
        seen(seeded, 3)[..., 0], np.repeat([0, 1, 2], 8).reshape(3, 8)
    )


def test_generators_of_the_views_are_left_as_they_were():
    flip = layers.RandomFlip(seed=3)
    views = kd.views.Augmented(flip)
    before = [np.array(v) for v in views.variables]
    assert before
    results = [look_at_images(views=views, steps=3).as_dict() for _ in range(2)]
    for was, now in zip(before, views.variables, strict=True):
        np.testing.assert_array_equal(was, now)
    for result in results:
        result["short_training"].pop("seconds")
        result["without_views"]["short_training"].pop("seconds")
    assert results[0] == results[1]
