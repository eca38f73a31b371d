"""Layers of Keras and keras-cv as views, alone and inside a Distiller."""

import json

import keras
import keras_cv
import numpy as np
import pytest
import tensorflow as tf
from marks import nightly

import keras_distill as kd
from keras_distill.views.augmented import checked_views

CLASSES, SIZE, COUNT = 3, 8, 32
BLENDING = {
    "keras-cv MixUp": lambda: keras_cv.layers.MixUp(alpha=1.0),
    "keras-cv CutMix": lambda: keras_cv.layers.CutMix(),
    "keras MixUp": lambda: keras.layers.MixUp(alpha=1.0),
    "keras CutMix": lambda: keras.layers.CutMix(),
}
LAYERS = {
    "keras-cv RandAugment": lambda: keras_cv.layers.RandAugment(
        (0, 1), augmentations_per_image=1
    ),
    "keras RandomErasing": lambda: keras.layers.RandomErasing(1.0),
    **BLENDING,
}


@pytest.fixture
def y():
    return np.random.default_rng(0).integers(0, CLASSES, COUNT).astype("int32")


@pytest.fixture
def x(y):
    """Every pixel is the image's one-hot label."""
    pixels = np.eye(CLASSES, dtype="float32")[y][:, None, None]
    return np.tile(pixels, (1, SIZE, SIZE, 1))


def check_labels_follow_images(name, images, labels):
    np.testing.assert_allclose(np.sum(labels, axis=-1), 1.0, rtol=1e-5)
    if "MixUp" in name:
        np.testing.assert_allclose(labels, images[:, 0, 0], atol=1e-5)
        np.testing.assert_allclose(labels, images[:, -1, -1], atol=1e-5)
        return
    share = np.mean(images, axis=(1, 2))
    # A box that the border cuts counts in full for the label.
    assert ((share > 1e-6) <= (labels > 1e-6)).all()
    correlation = np.corrcoef(share.ravel(), np.ravel(labels))[0, 1]
    assert correlation > 0.8


# A view alone.


@pytest.mark.parametrize("name", BLENDING)
def test_labels_and_weights_are_blended_as_images_are(name, x, y):
    views = kd.views.Augmented(BLENDING[name](), num_classes=CLASSES)
    # A weight for each class: it follows the labels.
    weights = np.array([1.0, 5.0, 25.0], "float32")
    view = views.training(x, y, weights[y])
    assert view.student is view.teacher
    assert not np.allclose(view.student, x)
    check_labels_follow_images(name, view.student.numpy(), view.y.numpy())
    expected = view.y.numpy() @ weights
    np.testing.assert_allclose(view.sample_weight, expected, rtol=1e-5)
    assert views.blends_labels
    np.testing.assert_array_equal(views.evaluation_labels(y), np.eye(3)[y])


def test_blending_without_labels_and_of_labels_of_any_shape(x):
    views = kd.views.Augmented(BLENDING["keras-cv MixUp"]())
    assert views.training(x).y is None
    tokens = x[:, :2, :2]  # (batch, 2, 2, classes)
    view = views.training(x, tokens)
    np.testing.assert_allclose(view.y, view.student[:, :2, :2], atol=1e-5)


class RowSwap(keras.layers.Layer):
    """Blends by exchanging samples: a layer that nobody knows."""

    blends_labels = True

    def call(self, inputs):
        return {name: value[::-1] for name, value in inputs.items()}


def test_which_layers_blend(x, y):
    choice = keras_cv.layers.RandomChoice(
        [keras_cv.layers.MixUp(), keras_cv.layers.CutMix()], batchwise=True
    )
    for layer, blends in (
        (choice, True),
        (RowSwap(), True),
        (keras.layers.RandomFlip(), False),
    ):
        views = kd.views.Augmented(layer, num_classes=CLASSES)
        assert views.blends_labels == blends
        view = views.training(x, y)
        assert view.y.shape == ((COUNT, CLASSES) if blends else (COUNT,))
    swapped = kd.views.Augmented(RowSwap(), num_classes=CLASSES).training(x, y)
    np.testing.assert_array_equal(swapped.y, np.eye(CLASSES)[y[::-1]])
    np.testing.assert_array_equal(swapped.student, x[::-1])


def test_layers_in_order_and_views_last(x):
    flip, erase = keras.layers.RandomFlip(), keras.layers.RandomErasing()
    cutout = keras_cv.layers.RandomCutout(0.5, 0.5)
    last = kd.views.FunctionMatching(6)
    for given in (
        [flip, erase, cutout, last],
        [keras.Sequential([flip, erase]), cutout, last],
        [keras.layers.Pipeline([flip, erase]), cutout, last],
    ):
        views = checked_views(given)
        assert views.layers == [flip, erase, cutout]
        assert views.views is last and not views.replayable
        assert views.group_size == last.group_size == 16
        assert views.blends_labels
    view = views.training(x)
    assert view.student.shape == (COUNT, 6, 6, CLASSES)
    np.testing.assert_array_equal(views.evaluation(x), last.evaluation(x))
    assert checked_views(last) is last and checked_views(None) is None
    assert checked_views(flip).layers == [flip]


@pytest.mark.slow
def test_integer_images():
    x = np.full((4, SIZE, SIZE, 3), 200, "uint8")
    x[:, 0] = 100
    for layer in (
        keras.layers.RandomContrast(0.5, value_range=(0, 255)),
        keras.layers.RandomSaturation(0.5, value_range=(0, 255)),
        keras_cv.layers.RandAugment((0, 255)),
    ):
        seen = kd.views.Augmented(layer).training(x).student
        assert seen.dtype == tf.float32
        assert 50 < tf.reduce_mean(seen) < 256
    assert kd.views.Augmented(layer).evaluation(x) is x


@pytest.mark.parametrize(
    "given, error, message",
    [
        (lambda: abs, TypeError, "views must be"),
        (lambda: [], TypeError, "views must be"),
        (lambda: [abs], TypeError, "views must be"),
        (
            lambda: [kd.views.Views(), keras.layers.RandomFlip()],
            TypeError,
            "kd.views.Views comes last",
        ),
        (lambda: [kd.views.Views()], ValueError, "at least one"),
        (
            lambda: keras.Sequential([keras.layers.Rescaling(2.0)]),
            ValueError,
            "evaluation needs Rescaling too.*kd.views.Preprocessing",
        ),
        (
            lambda: keras_cv.layers.Resizing(4, 4),
            ValueError,
            "evaluation needs Resizing too",
        ),
        (
            lambda: keras_cv.layers.RepeatedAugmentation(
                [keras_cv.layers.RandomFlip()]
            ),
            ValueError,
            "more samples",
        ),
    ],
)
def test_what_is_not_an_augmentation(given, error, message):
    with pytest.raises(error, match=message):
        checked_views(given())


def test_data_that_does_not_fit(x, y):
    views = kd.views.Augmented(BLENDING["keras MixUp"]())
    with pytest.raises(ValueError, match=r"Augmented\(\.\.\., num_classes="):
        views.training(x, y)
    with pytest.raises(ValueError, match=r"take one input.*\['a', 'b'\]"):
        views.training({"a": x, "b": x})
    with pytest.raises(ValueError, match="num_classes"):
        kd.views.Augmented(views.layers, num_classes=1)


@pytest.mark.parametrize(
    "moving",
    [
        lambda: keras.layers.RandomFlip("horizontal"),
        lambda: keras_cv.layers.RandomChoice([keras_cv.layers.RandomShear()]),
        lambda: kd.views.FunctionMatching(SIZE, mixup=False, flip=False),
        lambda: kd.views.FunctionMatching(SIZE, mixup=False, crop_area=None),
    ],
)
def test_labels_of_pixels_that_would_stay_behind(moving, x, y):
    views = checked_views(moving())
    labels = np.tile(y[:, None, None], (1, SIZE, SIZE))
    with pytest.raises(ValueError, match=r"labels or weights.*\(32, 8, 8\)"):
        views.training(x, labels)
    with pytest.raises(ValueError, match="Augment both in dataset.map"):
        views.training(x, y, sample_weight=np.ones(labels.shape))
    with pytest.raises(ValueError, match="train without labels, with alpha=1"):
        views.training(x, {"class": y, "seg": labels[..., None]})
    views.training(x, y)


def test_colours_of_images_with_labels_of_pixels(x, y):
    labels = np.tile(y[:, None, None], (1, SIZE, SIZE))
    views = kd.views.Augmented(keras.layers.RandomBrightness(0.1))
    np.testing.assert_array_equal(views.training(x, labels).y, labels)


# Inside a Distiller.

SEEN: dict = {}


@keras.saving.register_keras_serializable(package="tests")
class Recorder(keras.layers.Layer):
    """A network's first layer: it remembers what it saw."""

    def call(self, x):
        tf.py_function(self._note, [x], [])
        return x

    def _note(self, x):
        SEEN.setdefault(self.name, []).append(x.numpy())


@keras.saving.register_keras_serializable(package="tests")
def recorded_loss(y_true, y_pred):
    note = lambda y: SEEN.setdefault("y", []).append(y.numpy())  # noqa: E731
    tf.py_function(note, [y_true], [])
    loss = keras.losses.categorical_crossentropy
    if y_true.shape[-1] != CLASSES:
        loss = keras.losses.sparse_categorical_crossentropy
    return loss(y_true, y_pred, from_logits=True)


def network(name):
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, CLASSES)),
            Recorder(name=name),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(CLASSES),
        ]
    )


def distill(views, **kwargs):
    distiller = kd.Distiller(
        student=network("student"),
        teacher=network("teacher"),
        distillation_losses=kd.losses.SoftTargets(),
        views=views,
    )
    kwargs.setdefault("loss", recorded_loss)
    distiller.compile("sgd", **kwargs)
    return distiller


# One that blends labels, and one that does not.
IN_CI = ("keras RandomErasing", "keras-cv MixUp")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*IN_CI, *nightly(*sorted(LAYERS.keys() - IN_CI))]
)
def test_networks_see_the_same_images_with_their_labels(name, x, y):
    distiller = distill(LAYERS[name]())
    SEEN.clear()
    distiller.fit(x, y, batch_size=16, verbose=0)
    student, teacher = SEEN["student"][-2:], SEEN["teacher"][-2:]
    np.testing.assert_array_equal(student, teacher)
    images, labels = np.concatenate(student), np.concatenate(SEEN["y"][-2:])
    if name in BLENDING:
        check_labels_follow_images(name, images, labels)
    else:
        np.testing.assert_array_equal(np.sort(labels.ravel()), np.sort(y))
    original = np.isin(images, [0.0, 1.0]).all() and (
        np.mean(images, axis=(1, 2)).max(axis=-1) == 1.0
    )
    assert not np.all(original)


@pytest.mark.slow
def test_layers_are_saved_with_their_distiller(x, y, tmp_path):
    """And evaluation sees neither of them."""
    layers = [keras.layers.RandomErasing(1.0), keras_cv.layers.CutMix()]
    distiller = distill(layers, metrics=["accuracy"])
    distiller.fit(x, y, verbose=0)
    SEEN.clear()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    results = distiller.evaluate(data, verbose=0, return_dict=True)
    np.testing.assert_array_equal(np.concatenate(SEEN["student"][-2:]), x)
    logits = distiller.student(x)
    expected = recorded_loss(np.eye(CLASSES, dtype="float32")[y], logits)
    np.testing.assert_allclose(results["loss"], np.mean(expected), rtol=1e-5)
    accuracy = np.mean(np.argmax(logits, -1) == y)
    np.testing.assert_allclose(results["accuracy"], accuracy, rtol=1e-5)

    distiller.save(tmp_path / "distiller.keras")
    again = kd.load_distiller(
        tmp_path / "distiller.keras", teacher=distiller._networks().teacher
    )
    assert [type(v) for v in again.views.layers] == [type(v) for v in layers]
    np.testing.assert_allclose(again.student(x), logits, rtol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_serialization(name, x, y):
    views = kd.views.Augmented(
        LAYERS[name](), kd.views.Consistent(6), num_classes=CLASSES
    )
    config = json.dumps(keras.saving.serialize_keras_object(views))
    again = keras.saving.deserialize_keras_object(json.loads(config))
    assert type(again.layers[0]) is type(views.layers[0])
    assert json.dumps(keras.saving.serialize_keras_object(again)) == config
    assert again.training(x, y).student.shape == (COUNT, 6, 6, CLASSES)


def test_blended_labels_and_a_sparse_loss(x, y):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller = distill(keras_cv.layers.CutMix(), loss=loss)
    with pytest.raises(ValueError, match="Augmented blends labels"):
        distiller.fit(x, y, verbose=0)
    distill([keras.layers.RandomFlip()], loss=loss).fit(x, y, verbose=0)
