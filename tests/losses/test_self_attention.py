"""Self attention: values by loops, stopped gradients, use without a teacher."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_distill as kd
from keras_distill.losses import SelfAttention
from keras_distill.losses.own_layers.self_attention import resize_bilinear


def self_attention(*names, **kwargs):
    return SelfAttention(student_layer_name=list(names), **kwargs)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def bilinear(x, height, width):
    """One map, between the centres of the pixels, held at the border."""
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            at = []
            for index, size, new in (
                (i, len(x), height),
                (j, len(x[0]), width),
            ):
                place = np.clip((index + 0.5) * size / new - 0.5, 0, size - 1)
                low = int(place)
                at.append((low, min(low + 1, size - 1), place - low))
            (a, b, u), (c, d, v) = at
            top = (1 - v) * x[a, c] + v * x[a, d]
            bottom = (1 - v) * x[b, c] + v * x[b, d]
            out[i, j] = (1 - u) * top + u * bottom
    return out


def per_sample(first, second, form="sum"):
    results = []
    for a, b in zip(first, second):
        maps = [(a**2).sum(axis=-1), (b**2).sum(axis=-1)]
        maps[1] = bilinear(maps[1], *maps[0].shape)
        p, q = (np.exp(m) / np.exp(m).sum() for m in maps)
        reduce = np.sum if form == "sum" else np.mean
        results.append(reduce((p - q) ** 2))
    return np.array(results)


@pytest.mark.parametrize("form", ["sum", "mean"])
@pytest.mark.parametrize("size", [(4, 6), (2, 3), (3, 2), (1, 1)])
def test_value(form, size):
    maps = {"b": normal(3, 4, 6, 2), "a": normal(3, *size, 5, seed=1)}
    loss = self_attention("b", "a", form=form)
    expected = per_sample(maps["b"], maps["a"], form)
    np.testing.assert_allclose(
        loss.compute_loss(None, maps), expected.mean(), rtol=1e-5
    )
    weight = np.array([0.0, 0.5, 2.0])
    np.testing.assert_allclose(
        loss.compute_loss(None, maps, sample_weight=weight),
        np.sum(weight * expected) / 3,
        rtol=1e-5,
    )


def test_each_layer_imitates_the_next():
    maps = {name: normal(3, 4, 4, 3, seed=i) for i, name in enumerate("cab")}
    loss = self_attention(*"cab", layer_weights=[2.0, 0.5])
    expected = 2 * per_sample(maps["c"], maps["a"]).mean()
    expected += 0.5 * per_sample(maps["a"], maps["b"]).mean()
    np.testing.assert_allclose(loss.compute_loss(None, maps), expected)


def test_no_gradient_reaches_the_imitated_map():
    maps = {
        n: tf.constant(normal(2, 3, 3, 4, seed=i)) for i, n in enumerate("ab")
    }
    with tf.GradientTape() as tape:
        tape.watch(maps)
        value = self_attention("a", "b").compute_loss(None, maps)
    gradients = tape.gradient(value, maps)
    assert np.abs(gradients["a"]).max() > 1e-4
    assert gradients["b"] is None


def test_resize_keeps_the_precision_and_the_layout():
    x = normal(2, 3, 5)
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        out = resize_bilinear(tf.constant(x), 6, 10)
    finally:
        keras.config.set_image_data_format(before)
    assert out.dtype == "float64"
    np.testing.assert_allclose(
        out[0], bilinear(x[0], 6, 10), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_degenerate_maps_are_finite(dtype):
    some = normal(1, 4, 4, 3)
    for first in (some, 0 * some, 1e4 * np.sign(some)):
        for second in (some, 0 * some, 1e4 * np.sign(some)):
            x = tf.constant(first, dtype)
            with tf.GradientTape() as tape:
                tape.watch(x)
                maps = {"a": x, "b": tf.constant(second, dtype)}
                value = self_attention("a", "b").compute_loss(None, maps)
            assert np.isfinite(value)
            assert np.isfinite(tape.gradient(value, x)).all()


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same", name="first"),
            layers.Conv2D(4, 3, strides=2, padding="same", name="second"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


@pytest.mark.slow
def test_it_starts_when_alpha_does():
    """With alpha 0 at first: plain training up to there, and not after."""
    x, y = normal(8, 8, 8, 3).astype("float32"), np.arange(8) % 2
    start = keras.optimizers.schedules.PiecewiseConstantDecay(
        [1], [0.0, 1 / 11]
    )
    weights = network().get_weights()
    seen = []
    for alone in (False, True):
        model = network()
        model.set_weights(weights)
        student = model
        if not alone:
            model = kd.Distiller(
                student=student,
                distillation_losses=self_attention("first", "second"),
                alpha=start,
            )
        model.compile(
            keras.optimizers.SGD(0.5),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        steps = []
        for _ in range(4):
            logs = model.train_on_batch(x, y, return_dict=True)
            steps.append(student.get_weights())
        seen.append(steps)
    for step in (0, 1):
        for a, b in zip(seen[0][step], seen[1][step]):
            np.testing.assert_allclose(a, b, atol=1e-6)
    assert np.abs(seen[0][2][0] - seen[1][2][0]).max() > 1e-5
    assert "self_attention_loss" not in logs  # Of the plain one.


@pytest.mark.slow
def test_without_teacher_it_is_saved_evaluated_and_exported(tmp_path):
    x, y = normal(8, 8, 8, 3).astype("float32"), np.arange(8) % 2
    distiller = kd.Distiller(
        student=network(),
        distillation_losses=self_attention("first", "second"),
        alpha=keras.optimizers.schedules.PiecewiseConstantDecay(
            [2], [0.0, 1 / 11]
        ),
    )
    distiller.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    distiller.fit(x, y, epochs=2, verbose=0)
    distiller.save(tmp_path / "run.keras")
    loaded = kd.load_distiller(tmp_path / "run.keras")
    results = [
        (model.fit(x, y, epochs=2, verbose=0).history, model.evaluate(x, y))
        for model in (distiller, loaded)
    ]
    assert results[0][0].keys() == results[1][0].keys()
    for name, values in results[0][0].items():
        np.testing.assert_allclose(results[1][0][name], values, rtol=1e-5)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-5)
    distiller.export(tmp_path / "student.keras")
    plain = keras.saving.load_model(tmp_path / "student.keras")
    np.testing.assert_allclose(plain(x), distiller.student(x), atol=1e-6)


@pytest.mark.slow
def test_a_distiller_without_teacher():
    keras.utils.set_random_seed(0)
    student = network()
    distiller = kd.Distiller(
        student=student, distillation_losses=self_attention("first", "second")
    )
    distiller.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    x, y = normal(8, 8, 8, 3).astype("float32"), np.zeros(8, "int32")
    history = distiller.fit(x, y, epochs=3, verbose=0).history
    values = history["self_attention_loss"]
    assert 0 < values[-1] < values[0]


@pytest.mark.parametrize("names", [["a"], "a"])
def test_two_layers_are_needed(names):
    with pytest.raises(ValueError, match="two layers or more"):
        SelfAttention(student_layer_name=names)


def test_errors():
    with pytest.raises(ValueError, match="has no teacher"):
        self_attention("a", "b", teacher_layer_name="t")
    with pytest.raises(ValueError, match="layer_weights needs one weight"):
        self_attention("a", "b", layer_weights=[1.0, 1.0])
    with pytest.raises(ValueError, match="compares maps") as error:
        self_attention("a", "b").build(
            None, {"a": (None, 4, 4, 2), "b": (None, 8)}
        )
    assert "(None, 4, 4, 2)" in str(error.value)
    assert "(None, 8)" in str(error.value)


def test_config_round_trip():
    loss = self_attention("a", "b", form="mean", layer_weights=[0.1])
    text = json.dumps(keras.saving.serialize_keras_object(loss))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert copy.get_config() == loss.get_config()
