import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_distill.losses import EarlyExits
from keras_distill.losses.own_layers.early_exits import make_bottleneck
from keras_distill.losses.own_layers.early_exits import make_classifier

NAMES = ["first", "second", "deepest", "logits"]
SHAPES = {
    "first": (4, 8, 8, 3),
    "second": (4, 4, 4, 5),
    "deepest": (4, 4, 4, 8),
    "logits": (4, 5),
}
Y = np.array([0, 4, 2, 2])


def taps(dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=s).astype(dtype) for n, s in SHAPES.items()}


def made(dtype="float32", **kwargs):
    loss = EarlyExits(student_layer_name=NAMES, dtype=dtype, **kwargs)
    loss.build(None, SHAPES)
    return loss


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def by_hand(loss, x, alpha, temperature, weight, form="mean", squared=False):
    """One value per sample and exit, `(exits, batch)`."""
    maps, logits = loss.exits(x, training=True)
    result = []
    for map_i, z in zip(maps, logits):
        z, map_i = (np.asarray(a, "float64") for a in (z, map_i))
        hard = -log_softmax(z)[np.arange(4), Y]
        p = log_softmax(x["logits"].astype("float64") / temperature)
        q = log_softmax(z / temperature)
        soft = (np.exp(p) * (p - q)).sum(axis=-1)
        if squared:
            soft = soft * temperature**2
        d = (map_i - x["deepest"]) ** 2
        d = d.reshape(4, -1)
        d = d.mean(axis=1) if form == "mean" else d.sum(axis=1)
        result.append((1 - alpha) * hard + alpha * soft + weight * d)
    return np.array(result)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": 1.0, "feature_weight": 0.0},
        {"alpha": 0.0, "feature_weight": 0.0},
        {"alpha": 0.6, "temperature": 2.0, "feature_form": "paper"},
        {"scale_by_temperature_squared": True},
    ],
)
def test_value(options):
    loss, x = made(**options), taps()
    expected = by_hand(
        loss,
        x,
        options.get("alpha", 0.3),
        options.get("temperature", 3.0),
        options.get("feature_weight", 0.03),
        options.get("feature_form", "mean"),
        options.get("scale_by_temperature_squared", False),
    )
    value, logs = loss.compute_loss_and_logs(None, x, y=Y)
    np.testing.assert_allclose(value, expected.mean(axis=1).sum(), rtol=1e-5)
    for k, values in enumerate(expected, start=1):
        np.testing.assert_allclose(logs[f"{k}_loss"], values.mean(), rtol=1e-5)
    assert sorted(logs) == sorted(loss.extra_log_names)
    weight = np.array([0.0, 0.5, 2.0, 1.0])
    np.testing.assert_allclose(
        loss.compute_loss(None, x, y=Y, sample_weight=weight),
        (expected * weight).mean(axis=1).sum(),
        rtol=1e-5,
    )


def test_labels_of_each_kind_and_accuracy():
    loss, x = made(), taps()
    one_hot = np.eye(5, dtype="float32")[Y]
    expected, logs = loss.compute_loss_and_logs(None, x, y=Y)
    for labels in (one_hot, Y[:, None], tf.constant(Y)):
        value = loss.compute_loss(None, x, y=labels)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
    _, logits = loss.exits(x, training=True)
    for k, z in enumerate(logits, start=1):
        right = np.mean(np.asarray(z).argmax(axis=-1) == Y)
        np.testing.assert_allclose(logs[f"{k}_accuracy"], right)
    with pytest.raises(ValueError, match="needs labels"):
        loss.compute_loss(None, x)


def test_the_deepest_is_the_teacher_and_learns_nothing():
    loss, x = made(), {k: tf.constant(v) for k, v in taps().items()}
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss.compute_loss(None, x, y=Y)
    gradients = tape.gradient(value, {**x, "w": loss.trainable_variables})
    assert gradients["deepest"] is None and gradients["logits"] is None
    for name in ("first", "second"):
        assert np.abs(gradients[name]).max() > 1e-4
    assert all(np.isfinite(g).all() for g in gradients["w"])


def test_the_gradient_is_the_slope():
    loss, x = made("float64"), taps("float64")
    direction = np.random.default_rng(1).normal(size=SHAPES["first"])

    def value(step):
        moved = {**x, "first": tf.constant(x["first"] + step * direction)}
        with tf.GradientTape() as tape:
            tape.watch(moved["first"])
            result = loss.compute_loss(None, moved, y=Y)
        return float(result), tape.gradient(result, moved["first"])

    slope = (value(1e-6)[0] - value(-1e-6)[0]) / 2e-6
    np.testing.assert_allclose(np.sum(value(0.0)[1] * direction), slope, 1e-5)


@pytest.mark.parametrize(
    "shape, deepest, expected",
    [
        ((None, 8, 8, 3), (None, 4, 4, 8), (4, 4)),
        ((None, 4, 4, 3), (None, 4, 4, 8), (4, 4)),
        ((None, 9, 8, 3), (None, 4, 2, 8), (5, 2)),  # 9: averaged afterwards.
        ((None, 2, 2, 3), (None, 4, 4, 8), (2, 2)),
    ],
)
def test_a_bottleneck_brings_the_size_of_the_deepest(shape, deepest, expected):
    network = make_bottleneck(shape, deepest)
    assert network.output_shape == (None, *expected, 8)
    kinds = [type(layer) for layer in network.layers]
    assert kinds == 3 * [
        keras.layers.Conv2D,
        keras.layers.BatchNormalization,
        keras.layers.ReLU,
    ]
    assert network.layers[0].filters == 8 // 4


def test_exits_are_plain_keras():
    classifier = make_classifier(8, 5)
    for layer in [
        *classifier.layers,
        *make_bottleneck((1, 4, 4, 2), (1, 2, 2, 8)).layers,
    ]:
        assert type(layer).__module__.startswith("keras.")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"alpha": 1.5}, r"alpha must be a number in \[0, 1\].*1.5"),
        ({"alpha": -0.1}, r"alpha must be a number in \[0, 1\]"),
        ({"temperature": 0.0}, "temperature must be a positive"),
        ({"feature_weight": -1.0}, "feature_weight must be a finite number"),
        ({"feature_form": "sum"}, "feature_form must be one of 'mean'"),
        ({"reduction": 0}, "reduction must be an integer of at least 1"),
        ({"teacher_layer_name": "a"}, "have no teacher"),
        ({"student_layer_name": ["a", "b"]}, "one exit or more"),
        ({"student_layer_name": ["a", "a", "b"]}, "lists a layer twice"),
    ],
)
def test_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        EarlyExits(**{"student_layer_name": NAMES, **options})


@pytest.mark.parametrize(
    "shapes, message",
    [
        ({"first": (None, 8)}, "'first' has shape.*no positions"),
        ({"deepest": (None, 8)}, "'deepest' has shape.*no positions"),
        ({"second": (None, None, 4, 5)}, "of known size"),
        ({"logits": (None, 1)}, "two classes or more"),
        ({"logits": (None, 4, 4, 5)}, "logits .batch, classes."),
    ],
)
def test_shapes(shapes, message):
    loss = EarlyExits(student_layer_name=NAMES)
    with pytest.raises(ValueError, match=message):
        loss.build(None, {**SHAPES, **shapes})
