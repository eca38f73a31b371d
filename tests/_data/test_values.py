"""Numbers in the data that are refused before the first step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill._data.values import check_class_weight
from keras_distill._data.values import check_images
from keras_distill._data.values import check_sample_weight

WRONG = (-1.0, float("nan"), float("inf"))


@pytest.mark.parametrize("wrong", WRONG)
def test_sample_weights(wrong):
    for right in (None, [1.0, 0.0], np.ones(2), tf.cast([1, 2], tf.bfloat16)):
        check_sample_weight(right)
    for weights in (
        np.array([1.0, wrong]),
        tf.constant([wrong, 1.0]),
        {"a": np.ones(2), "b": np.array([[wrong], [1.0]])},
    ):
        with pytest.raises(ValueError, match="sample_weight .* 1 other"):
            check_sample_weight(weights)


@pytest.mark.parametrize("wrong", WRONG)
def test_class_weights(wrong):
    check_class_weight({0: 1, 1: np.float32(0.5)})
    with pytest.raises(ValueError, match=r"class_weight\[1\] must be"):
        check_class_weight({0: 1.0, 1: wrong})
    with pytest.raises(TypeError, match="class_weight must be a dict"):
        check_class_weight([1.0, wrong])


def test_images():
    images = np.zeros((3, 2, 2, 1), "float32")
    check_images({"a": images, "b": np.full((3, 2), np.nan)}, "x")
    check_images(images.astype("uint8"), "x")
    images[2, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="x must .* such as image 7"):
        check_images(images, "x", first=5)


def distiller():
    made = kd.Distiller(
        student=convnet(),
        teacher=convnet(),
        distillation_losses=kd.losses.SoftTargets(),
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile("sgd", loss)
    return made


@pytest.mark.parametrize("method", ["fit", "train_on_batch", "evaluate"])
def test_weights_that_a_distiller_refuses(method):
    x, y = data(8)
    weights = np.ones(8, "float32")
    weights[7] = -1.0
    call = getattr(distiller(), method)
    with pytest.raises(ValueError, match="sample_weight must"):
        call(x, y, sample_weight=weights)
    if method == "fit":
        batches = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(8)
        with pytest.raises(ValueError, match="sample_weight must"):
            call(batches)
    if method != "evaluate":
        with pytest.raises(ValueError, match=r"class_weight\[0\] must"):
            call(x, y, class_weight={0: float("nan")})


def test_images_that_a_distiller_refuses():
    x, y = data(8)
    x[3] = np.nan
    with pytest.raises(ValueError, match="x must .* such as image 3"):
        distiller().fit(x, y)
