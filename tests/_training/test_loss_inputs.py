"""Labels, weights and masks reach the losses that look at their output."""

import keras
import numpy as np
import pytest
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

layers = keras.layers
X, Y = data(16)


def heads(width=4, as_dict=False):
    trunk = convnet(width)
    outputs = [layers.Dense(4, name=n)(trunk.output) for n in ("b", "a")]
    if as_dict:
        outputs = dict(zip("ba", outputs))
    return keras.Model(trunk.input, outputs)


@pytest.mark.slow
@pytest.mark.parametrize("as_dict", (True, False))
def test_a_loss_on_one_of_several_outputs_takes_its_weights(as_dict):
    losses = {
        "soft": kd.losses.SoftTargets(
            teacher_layer_name="a", student_layer_name="a"
        ),
        "decoupled": kd.losses.DecoupledKD(
            teacher_layer_name="b", student_layer_name="b"
        ),
    }
    distiller = kd.Distiller(
        student=heads(as_dict=as_dict),
        teacher=heads(8, as_dict),
        distillation_losses=losses,
    )
    distiller.compile(
        keras.optimizers.SGD(0.0), {"a": crossentropy(), "b": crossentropy()}
    )
    y = {"a": Y, "b": Y} if as_dict else (Y, Y)
    some, none = np.ones(16), np.zeros(16)

    def terms(of_a, of_b):
        weights = {"a": of_a, "b": of_b} if as_dict else (of_b, of_a)
        logs = distiller.fit(X, y, sample_weight=weights, verbose=0).history
        return logs["soft_loss"][0], logs["decoupled_loss"][0]

    soft, decoupled = terms(some, some)
    assert soft > 0 and decoupled > 0
    assert terms(some, none) == pytest.approx((soft, 0.0))
    assert terms(none, some) == pytest.approx((0.0, decoupled))


@pytest.mark.parametrize("as_dict", (True, False))
def test_weights_of_outputs_and_a_loss_on_none_of_them(as_dict):
    hint = kd.losses.Hint(teacher_layer_name="act1", student_layer_name="act1")
    distiller = kd.Distiller(
        student=heads(as_dict=as_dict),
        teacher=heads(8, as_dict),
        distillation_losses=hint,
    )
    losses = {"a": crossentropy(), "b": crossentropy()}
    distiller.compile(keras.optimizers.SGD(0.0), losses)
    y = {"a": Y, "b": Y} if as_dict else (Y, Y)

    def logs(weights):
        if as_dict:
            weights = dict(zip("ab", weights))
        return distiller.fit(X, y, sample_weight=weights, verbose=0).history

    with pytest.warns(UserWarning, match="'hint'.*weighs all samples alike"):
        none = logs((np.zeros(16), np.zeros(16)))
    assert none["student_loss"] == [0.0]
    whole = distiller.fit(X, y, verbose=0).history
    assert none["hint_loss"] == pytest.approx(whole["hint_loss"])


def attending(width):
    """The features go into an attention, which takes off their mask."""
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, width, mask_zero=True, name="features")(tokens)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 2)(x, x)])
    return keras.Model(tokens, layers.Dense(4)(x[:, 0]))


@pytest.mark.parametrize("options", ({}, {"jit_compile": True}))
def test_the_mask_of_a_tap_before_an_attention(options):
    tokens = np.where(np.arange(6) < 3, 1 + np.arange(96).reshape(16, 6) % 9, 0)
    teacher, student = attending(4), attending(4)
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.Hint(
            teacher_layer_name="features", student_layer_name="features"
        ),
    )
    distiller.compile(keras.optimizers.SGD(0.0), crossentropy(), **options)
    a, b = (
        model.get_layer("features").embeddings.numpy()[tokens]
        for model in (teacher, student)
    )
    real = np.square(a - b)[:, :3].mean()
    assert abs(real - np.square(a - b).mean()) > 1e-5
    logs = distiller.train_on_batch(tokens, Y, return_dict=True)
    assert logs["hint_loss"] == pytest.approx(real)


def classifier_of_text(width):
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, width, mask_zero=True)(tokens)
    x = layers.Dense(4, name="features")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, layers.Dense(4)(x))


@pytest.mark.slow
def test_a_tap_has_its_own_mask():
    """Padding teaches nothing, though the output has no mask."""
    tokens = np.where(np.arange(6) < 3, 1 + np.arange(96).reshape(16, 6) % 9, 0)
    teacher, student = classifier_of_text(8), classifier_of_text(4)
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.Hint(
            teacher_layer_name="features",
            student_layer_name="features",
            regressor=None,
        ),
    )
    distiller.compile(keras.optimizers.SGD(0.0), crossentropy())

    def loss():
        return distiller.fit(tokens, Y, verbose=0).history["hint_loss"][0]

    before = loss()
    taps = [
        keras.Model(m.input, m.get_layer("features").output)(tokens)
        for m in (teacher, student)
    ]
    difference = np.square(np.subtract(*map(np.asarray, taps)))
    assert before == pytest.approx(difference[:, :3].mean(), rel=1e-5)
    table = teacher.layers[1].embeddings
    table.assign(np.concatenate([table[:1] + 5.0, table[1:]]))
    assert loss() == pytest.approx(before, rel=1e-6)


def translator(width):
    source = keras.Input((6,), dtype="int32", name="source")
    target = keras.Input((4,), dtype="int32", name="target")
    encoded = layers.Embedding(10, width, mask_zero=True)(source)
    encoded = layers.Dense(4, name="encoder")(encoded)
    summary = layers.GlobalAveragePooling1D()(encoded)
    decoded = layers.Embedding(10, 4, mask_zero=True)(target)
    decoded = decoded + layers.RepeatVector(4)(summary)
    return keras.Model([source, target], layers.Dense(4, name="head")(decoded))


@pytest.mark.slow
def test_taps_with_another_length_than_the_output():
    rng = np.random.default_rng(0)
    x = [rng.integers(0, 10, (16, length)) for length in (6, 4)]
    distiller = kd.Distiller(
        student=translator(4),
        teacher=translator(8),
        distillation_losses=kd.losses.Hint(
            teacher_layer_name="encoder", student_layer_name="encoder"
        ),
    )
    distiller.compile("sgd", crossentropy())
    y = rng.integers(0, 4, (16, 4))
    assert np.isfinite(distiller.fit(x, y, verbose=0).history["loss"][0])


# What is ignored counts as a weight of 0 does.


@pytest.mark.parametrize(
    "loss",
    (
        kd.losses.DecoupledKD(),
        kd.losses.ConfidenceWeightedByTeacherMax(),
        kd.losses.ConfidenceWeightedByTeacherMax(confidence="true_class"),
    ),
)
def test_ignored_labels(loss):
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 4, 3)).astype("float32")
    y, weight = np.array([255, 1, 2, 0]), np.array([0.0, 1.0, 1.0, 1.0])
    value = loss.compute_loss(teacher, student, y=y)
    expected = loss.compute_loss(
        teacher, student, y=np.maximum(y % 255, 0), sample_weight=weight
    )
    assert float(value) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    "loss",
    (kd.losses.DIST(), kd.losses.ConfidenceWeightedByTeacherMax()),
)
def test_weights_in_a_column(loss):
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 4, 3)).astype("float32")
    weight, y = np.arange(4.0), np.array([0, 1, 2, 0])
    column, row = (
        float(loss.compute_loss(teacher, student, y=y, sample_weight=w))
        for w in (weight[:, None], weight)
    )
    assert column == pytest.approx(row, rel=1e-6)


@pytest.mark.slow
def test_the_share_of_samples_that_agree_with_sigmoid_heads():
    def network(width, **kwargs):
        inputs = keras.Input((3,))
        x = layers.Dense(width, activation="tanh")(inputs)
        return keras.Model(inputs, layers.Dense(1, **kwargs)(x))

    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    teacher, student = network(8, activation="sigmoid"), network(4)
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.Hint(
            teacher_layer_name=teacher.layers[1].name,
            student_layer_name=student.layers[1].name,
        ),
    )
    distiller.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[kd.metrics.Agreement()],
    )
    y = (x.sum(-1) > 0).astype("float32")[:, None]
    expected = np.mean(
        (teacher.predict(x, verbose=0) > 0.5)
        == (student.predict(x, verbose=0) > 0.0)
    )
    assert 0 < expected < 1
    logs = distiller.fit(x, y, validation_data=(x, y), verbose=0).history
    assert logs["agreement"] == pytest.approx([expected])
    assert logs["val_agreement"] == pytest.approx([expected])


def test_a_subclassed_sigmoid_decides_at_a_half():
    class Binary(keras.Model):
        def __init__(self, activation=None):
            super().__init__()
            self.features = layers.Dense(4, name="features")
            self.head = layers.Dense(1, activation=activation, name="head")

        def call(self, x):
            return self.head(self.features(x))

    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    teacher, student = Binary("sigmoid"), Binary("sigmoid")
    decided = [model(x).numpy() > 0.5 for model in (teacher, student)]
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.Hint(
            teacher_layer_name="features", student_layer_name="features"
        ),
    )
    distiller.compile(
        keras.optimizers.SGD(0.0), keras.losses.BinaryCrossentropy()
    )
    y = decided[0].astype("float32")
    logs = distiller.fit(x, y, batch_size=64, verbose=0).history
    assert logs["agreement"] == pytest.approx([np.equal(*decided).mean()])


def test_agreement_between_other_classes():
    distiller = kd.Distiller(
        student=convnet(),
        teacher=convnet(8, classes=6),
        distillation_losses=kd.losses.SoftTargets(class_map=[0, 1, 2, 3]),
    )
    distiller.compile("sgd", crossentropy(), metrics=[kd.metrics.Agreement()])
    with pytest.raises(ValueError, match="decisions between the same classes"):
        distiller.evaluate(X, Y, verbose=0)
