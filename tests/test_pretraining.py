"""`kd.pretrain`: what it takes, and what it trains."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import Subclassed
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill import pretraining
from keras_distill.taps.embedding import embedding_layer_name

layers = keras.layers
X, Y = data(20)


def backbone():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, strides=2, activation="relu", name="conv"),
        ],
        name="backbone",
    )


def with_operation():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = layers.Dropout(0.1)(keras.ops.mean(x, axis=(1, 2)))
    return keras.Model(inputs, layers.Dense(2)(x))


def nested_head():
    head = keras.Sequential(
        [keras.Input((6,)), layers.Dropout(0.1), layers.Dense(2)]
    )
    pool = layers.GlobalAveragePooling2D(name="pool")
    return keras.Sequential(
        [keras.Input((8, 8, 3)), backbone(), pool, head, layers.Softmax()]
    )


def nested_backbone():
    return keras.Sequential(
        [backbone(), layers.GlobalMaxPooling2D(name="pool"), layers.Dense(2)]
    )


def first_of_a_sequence():
    inputs = keras.Input((8, 8, 3))
    x = layers.Dense(5)(layers.Reshape((64, 3))(inputs))
    return keras.Model(inputs, layers.Dense(2)(x[:, 0]))


def vision_transformer():
    return kd.models.vision_transformer(
        (4, 4, 1), 3, patch_size=2, width=4, depth=1, heads=1
    )


@pytest.mark.parametrize(
    "make, expected",
    [
        (convnet, "pool"),
        (backbone, None),
        (with_operation, "conv"),
        (nested_head, "pool"),
        (nested_backbone, "pool"),
        (
            lambda: keras.Sequential([backbone(), layers.Dense(2)]),
            "backbone/conv",
        ),
        (Subclassed, None),
        (first_of_a_sequence, None),
        (vision_transformer, "class_token"),
        (lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2)]), None),
    ],
)
def test_the_embedding(make, expected):
    assert embedding_layer_name(make()) == expected


UNKNOWN = tf.data.Dataset.from_tensor_slices(X).filter(lambda x: True).batch(8)
UNSIZED = tf.data.Dataset.from_generator(
    lambda: iter([X]), output_signature=tf.TensorSpec((None, None, None, 3))
)
IMAGES = {
    "array": (X, 3),
    "with labels": ((X, Y), 3),
    "dataset": (tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), 3),
    "endless": (kd.datasets.batches(X, Y, batch_size=8, seed=1), None),
    "of unknown length": (UNKNOWN, None),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images(name):
    """Batches without labels, for as long as it takes."""
    images, per_epoch = IMAGES[name]
    dataset, count = pretraining._unlabelled(images, batch_size=8, seed=0)
    assert count == per_epoch
    batches = list(dataset.take(4))
    assert all(len(keras.tree.flatten(batch)) == 1 for batch in batches)
    sizes = [len(keras.tree.flatten(batch)[0]) for batch in batches]
    assert sizes == [8, 8, 4, 8]


@pytest.mark.parametrize(
    "epochs, steps, per_epoch, expected",
    [
        (2, None, 3, (3, 2)),
        (None, None, 3, (3, 100)),
        (None, 2, 3, (2, 1)),
        (None, 4, 3, (2, 2)),
        (None, 7, 3, (3, 3)),
        (None, 7, None, (7, 1)),
    ],
)
def test_length(epochs, steps, per_epoch, expected):
    assert pretraining._length(epochs, steps, per_epoch) == expected


def test_views_have_the_size_of_each_network():
    dataset, _ = pretraining._unlabelled(X, 8, seed=0)
    teacher = convnet(size=12)
    for student in (convnet(), convnet(size=None)):
        views = pretraining._default_views(student, teacher, dataset, seed=3)
        view = views.training(X)
        assert view.student.shape == (20, 8, 8, 3)
        assert view.teacher.shape == (20, 12, 12, 3)
        assert views.get_config()["seed"] == 3


def weights(model):
    return {w.path: w.numpy() for w in model.weights}


def quietly(*args, **kwargs):
    return kd.pretrain(*args, **{"batch_size": 8, "verbose": 0} | kwargs)


@pytest.mark.slow
def test_what_is_trained():
    student, teacher = convnet(), convnet(8, size=12, classes=5)
    before, of_teacher = weights(student), weights(teacher)
    rates = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: rates.append(
            float(note.model.optimizer.learning_rate)
        )
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = quietly(student, teacher, X, epochs=2, callbacks=[note])
    assert len(history.history["queue_loss"]) == 2
    assert np.isfinite(history.history["patches_loss"]).all()
    assert len(rates) == 6 and rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-8
    after = weights(student)
    for name in before:
        changed = (before[name] != after[name]).any()
        assert changed != name.startswith("head"), name
    for name, value in weights(teacher).items():
        np.testing.assert_array_equal(value, of_teacher[name])


@pytest.mark.slow
def test_a_backbone_teaches_a_backbone():
    student = backbone()
    before = weights(student)
    teacher = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten()])
    history = quietly(
        student, teacher, (X, Y), epochs=1, views=kd.views.Views()
    )
    assert "patches_loss" not in history.history  # The teacher has no maps.
    for name, value in weights(student).items():
        assert (value != before[name]).any()


@pytest.mark.slow
def test_losses_of_your_own():
    student = Subclassed()
    student(X[:1])
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    history = quietly(
        student,
        convnet(),
        UNKNOWN,
        steps=2,
        distillation_losses={
            "queue": kd.losses.QueueSimilarity(queue_size=16, **taps),
            "patches": kd.losses.PatchSimilarity(**taps),
        },
        distillation_loss_weights={"queue": 0.5, "patches": 2.0},
        views=kd.views.Views(),
    )
    logs = {key: value[0] for key, value in history.history.items()}
    expected = 0.5 * logs["queue_loss"] + 2 * logs["patches_loss"]
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_student():
    def kernel(seed):
        keras.utils.set_random_seed(0)
        student, teacher = convnet(), convnet(8)
        quietly(student, teacher, X, steps=4, seed=seed)
        return student.get_layer("conv1").kernel.numpy()

    first = kernel(0)
    np.testing.assert_array_equal(first, kernel(0))
    assert (first != kernel(1)).any()


@pytest.mark.slow
def test_a_teacher_that_runs_once(tmp_path):
    """Its outputs, rounded to float16, teach the same."""
    logs = []
    for directory in (None, tmp_path / "cache"):
        keras.utils.set_random_seed(0)
        history = quietly(
            convnet(),
            convnet(8),
            (X, Y),
            steps=4,
            views=kd.views.Views(),
            cache_directory=directory,
        )
        logs.append(history.history)
    assert logs[0].keys() == logs[1].keys()
    for key, values in logs[0].items():
        np.testing.assert_allclose(logs[1][key], values, rtol=5e-3)
    assert (tmp_path / "cache").is_dir()


BAD = {
    "both lengths": ({"epochs": 1, "steps": 1}, "epochs or steps, not both"),
    "no images": ({"images": []}, "images.*must be an array"),
    "a dict": ({"images": {"x": X}}, "images.*must be an array"),
    "unknown length": ({"images": UNKNOWN, "epochs": 1}, "Pass steps= instead"),
    "an endless epoch": (
        {"images": IMAGES["endless"][0], "epochs": 1},
        "Pass steps= instead",
    ),
    "no size": (
        {"student": convnet(size=None), "images": UNSIZED, "steps": 1},
        "Pass views=",
    ),
    "a cache of a pipeline": (
        {"images": IMAGES["dataset"][0], "cache_directory": "cache"},
        "cache_directory needs images as arrays",
    ),
    "a pipeline of dicts": (
        {"images": tf.data.Dataset.from_tensors({"image": X}), "steps": 1},
        "images must be batches",
    ),
    "not built": ({"student": Subclassed()}, "not built"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    given, message = BAD[name]
    arguments = {"student": convnet(), "teacher": convnet(), "images": X}
    with pytest.raises((TypeError, ValueError), match=message):
        kd.pretrain(**{**arguments, **given})


@pytest.mark.parametrize("make", [Subclassed, first_of_a_sequence])
def test_a_student_that_hides_its_embedding_needs_a_name(make):
    student = make()
    student(X[:1])
    with pytest.raises(ValueError, match="student_layer_name="):
        kd.pretrain(student, convnet(), X)
