"""A teacher in another precision: what computes in it, what stays."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from marks import nightly
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill._keras.precision import computing_in
from keras_distill._keras.precision import layers_that_change

layers = keras.layers


class Recorder(layers.Layer):
    """Notes the dtype of what passes through."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen = []

    def call(self, x):
        if tf.is_tensor(x):
            self.seen.append(x.dtype.name)
        return x


class Residual(layers.Layer):
    """Adds tensors and a weight of its own without Keras's promotion."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(6)

    def build(self, shape):
        self.dense.build(shape)
        self.scale = self.add_weight(shape=(6,), initializer="ones")

    def call(self, x):
        return x + tf.nn.relu(self.dense(x)) * self.scale


class SubclassedResidual(keras.Model):
    def __init__(self):
        super().__init__()
        self.block, self.norm = Residual(), layers.LayerNormalization()
        self.attention = layers.MultiHeadAttention(2, 4)
        self.head = layers.Dense(3)

    def call(self, x):
        x = x + self.attention(x, x)
        return self.head(tf.reduce_mean(self.norm(self.block(x)), axis=1))


def graph(shape, *some):
    x = inputs = keras.Input(shape)
    for layer in some:
        x = layer(x)
    return keras.Model(inputs, x)


def images():
    return tf.constant(255 * np.abs(data(6)[0]))


def vectors(*shape):
    return tf.random.normal((5, *shape))


def convolutional():
    body = graph(
        (8, 8, 3),
        layers.Conv2D(4, 3),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.SeparableConv2D(4, 3),
        layers.GroupNormalization(2),
    )
    rescaling = layers.Rescaling(1 / 255)
    pool = layers.GlobalAveragePooling2D()
    return graph((8, 8, 3), rescaling, body, pool, layers.Dense(3)), images()


def recurrent(*some):
    ids = tf.constant(np.random.default_rng(0).integers(1, 20, (5, 7)))
    embedding = layers.Embedding(20, 6, mask_zero=True)
    return graph((7,), embedding, *some, layers.Dense(3)), ids


def cells():
    return layers.RNN([layers.LSTMCell(4), layers.GRUCell(4)])


def subclassed():
    x, model = vectors(5, 6), SubclassedResidual()
    model(x)
    return model, x


def ensemble():
    members = [graph((6,), layers.Dense(4, "relu"), layers.Dense(3))] * 2
    return kd.Ensemble(members), vectors(6)


NETWORKS = {
    "convolutional": convolutional,
    "lstm": lambda: recurrent(layers.LSTM(5)),
    "gru": lambda: recurrent(layers.Bidirectional(layers.GRU(5))),
    "cells": lambda: recurrent(cells()),
    "attention": subclassed,
    "ensemble": ensemble,
    "sequential": lambda: (
        keras.Sequential(
            [keras.Input((6,)), layers.Lambda(lambda x: x * 2), layers.Dense(3)]
        ),
        vectors(6),
    ),
}


def as_found(model):
    return [
        (x, x.dtype_policy, dict(x.dtype_policy.get_config()), x.trainable)
        for x in model._flatten_layers()
    ]


def rows():
    """In a graph, and with XLA, the recurrent ones run in CI."""
    for name in sorted(NETWORKS):
        yield name, None
        mark = pytest.mark.slow if name == "cells" else pytest.mark.nightly
        for jit_compile in (False, True):
            yield pytest.param(name, jit_compile, marks=mark)


@pytest.mark.parametrize("name, jit_compile", list(rows()))
def test_it_computes_in_another_precision_and_is_as_before(name, jit_compile):
    model, x = NETWORKS[name]()
    run = model
    if jit_compile is not None:
        run = tf.function(lambda x: model(x), jit_compile=jit_compile)
    own, before = np.asarray(model(x)), as_found(model)
    weights = model.get_weights()
    errors = []
    for dtype in ("float16", "bfloat16"):
        # The last layer of an ensemble is a mean in float32.
        inside = "float32" if name == "ensemble" else dtype
        with computing_in(model, dtype):
            if jit_compile is not None:
                run = tf.function(lambda x: model(x), jit_compile=jit_compile)
            output = run(x)
        assert output.dtype == inside
        assert as_found(model) == before
        difference = np.abs(np.asarray(output, "float32") - own).max()
        errors.append(difference / np.abs(own).max())
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    # 11 and 8 bits, a few layers; how they are rounded depends on the CPU.
    assert 0 < errors[0] < 3e-3
    assert 0 < errors[1] < 3e-2
    np.testing.assert_allclose(model(x), own, rtol=1e-6)


def test_inputs_are_scaled_before_they_are_rounded():
    # 1e6 + noise of 100: no half precision can tell these apart.
    raw = 1e6 + 100 * np.random.default_rng(0).normal(size=(64, 6))
    raw = raw.astype("float32")
    norm = layers.Normalization()
    norm.adapt(raw)
    inner = graph((6,), norm, layers.Dense(3))
    for model in (inner, graph((6,), inner), kd.Ensemble([inner])):
        own = np.asarray(model(raw))
        with computing_in(model, "bfloat16"):
            output = np.asarray(ops.cast(model(raw), "float32"))
        assert 0 < np.abs(output - own).max() < 0.05 * np.abs(own).max()


def dtypes_of(model, dtype):
    with computing_in(model, dtype):
        return {x.name: x.compute_dtype for x in model.layers}


def test_a_float32_head_of_a_mixed_teacher_stays():
    model = graph(
        (6,),
        layers.Dense(4, dtype="mixed_float16", name="body"),
        layers.Dense(3, dtype="float32", name="head"),
    )
    assert dtypes_of(model, "bfloat16")["body"] == "bfloat16"
    assert dtypes_of(model, "bfloat16")["head"] == "float32"
    assert set(dtypes_of(model, "float32").values()) == {"float32"}
    # Another member of an ensemble computes in float32 as a whole.
    plain = graph((6,), layers.Dense(3, name="plain"))
    found = layers_that_change(kd.Ensemble([model, plain]), "bfloat16")
    assert {x.name for x in found} == {"body", "plain"}


def test_the_policy_of_the_ensemble_itself_says_nothing():
    plain = graph((6,), layers.Dense(3, name="plain"))
    exact = kd.Ensemble([plain])
    keras.config.set_dtype_policy("mixed_bfloat16")
    ensemble, x = kd.Ensemble([plain]), vectors(6)
    found = layers_that_change(ensemble, "bfloat16")
    assert [x.name for x in found] == ["plain"]
    # Nor is it what its members' inputs are rounded to.
    np.testing.assert_allclose(ensemble(x), exact(x), rtol=1e-6)


def test_weights_of_half_precision_compute_in_float32():
    model = graph((6,), layers.Dense(3, dtype="float16"))
    x = vectors(6)
    kernel, bias = (np.asarray(w, "float32") for w in model.weights)
    with computing_in(model, "float32"):
        output = model(x)
    np.testing.assert_allclose(output, x @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_quantized_layers_and_integers_stay():
    model = graph((6,), layers.Dense(8), layers.Dense(3))
    model.quantize("int8")
    assert layers_that_change(model, "float16") == []
    table = layers.Discretization(bin_boundaries=[0.0, 1.0])
    model = graph((6,), table, layers.Flatten(name="flat"))
    assert [x.name for x in layers_that_change(model, "float16")] == ["flat"]


def test_policies_from_a_map_are_restored_in_it():
    policies = keras.dtype_policies.DTypePolicyMap()
    policies["special"] = keras.DTypePolicy("float32")
    model = graph((6,), layers.Dense(3, dtype=policies, name="special"))
    layer, before = model.get_layer("special"), dict(policies)
    with computing_in(model, "bfloat16"):
        assert layer.compute_dtype == "bfloat16"
    assert layer.dtype_policy is policies and dict(policies) == before


def test_it_is_restored_after_an_error_and_by_the_last_to_leave():
    model = graph((6,), layers.Dense(3))
    before = as_found(model)
    with pytest.raises(RuntimeError), computing_in(model, "bfloat16"):
        raise RuntimeError
    assert as_found(model) == before
    one, two = (computing_in(model, "bfloat16") for _ in range(2))
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)  # As threads that take turns may.
    assert model.layers[-1].compute_dtype == "bfloat16"
    two.__exit__(None, None, None)
    assert as_found(model) == before


# In the Distiller.


def distill(teacher, dtype, student=None, losses=None, metrics=(), **compiled):
    distiller = kd.Distiller(
        student=student or convnet(),
        teacher=teacher,
        distillation_losses=losses or kd.losses.SoftTargets(),
        teacher_dtype=dtype,
    )
    distiller.compile(
        keras.optimizers.SGD(0.1), crossentropy(), metrics=metrics, **compiled
    )
    return distiller


def recorded(width=8):
    """A convnet that records, and the layer that does."""
    body, recorder = convnet(width), Recorder(name="recorder")
    outputs = recorder(body.get_layer("act1").output)
    outputs = layers.GlobalAveragePooling2D()(outputs)
    outputs = layers.Dense(4, name="logits")(outputs)
    return keras.Model(body.input, outputs), recorder


class Difference(kd.losses.DistillationLoss):
    """A user's loss that takes for granted what it gets."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        assert teacher_outputs.dtype == "float32"
        return ops.mean(ops.abs(teacher_outputs - student_outputs))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ("mixed_float16", *nightly("float32")))
@pytest.mark.parametrize("dtype", ("bfloat16", *nightly("float32", "float16")))
def test_the_teacher_beside_a_student_of_any_policy(policy, dtype):
    x, y = data(16)
    teacher, recorder = recorded()
    before, weights = as_found(teacher), teacher.get_weights()
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    distiller = distill(
        teacher,
        dtype,
        student=convnet(dtype=policy),
        losses={
            "soft": kd.losses.SoftTargets(),
            "hint": kd.losses.Hint(**taps),
            "own": Difference(),
        }
        if policy == "float32"
        else {"soft": kd.losses.SoftTargets(), "hint": kd.losses.Hint(**taps)},
        metrics=[kd.metrics.Agreement()],
    )
    recorder.seen.clear()
    history = distiller.fit(x, y, verbose=0, validation_data=(x, y)).history
    # The first batch, the step, and the evaluation.
    assert len(recorder.seen) >= 3 and set(recorder.seen) == {dtype}
    assert np.isfinite([v for values in history.values() for v in values]).all()
    assert as_found(teacher) == before
    for a, b in zip(weights, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_it_learns_what_it_learns_from_the_teacher_itself():
    x, y = data(32)
    teacher, student = convnet(8), convnet()
    start = student.get_weights()
    logs = {}
    for dtype in (None, "float32", "bfloat16", "float16"):
        student.set_weights(start)
        distiller = distill(teacher, dtype, student)
        logs[dtype] = distiller.fit(x, y, verbose=0, shuffle=False).history
    exact = logs[None]["soft_targets_loss"][0]
    assert logs["float32"]["soft_targets_loss"][0] == exact
    for dtype in ("bfloat16", "float16"):
        got = logs[dtype]["soft_targets_loss"][0]
        assert 0 < abs(got - exact) < 0.02 * exact


@pytest.mark.slow
def test_a_moving_teacher_and_a_subclassed_one():
    x, y = data(16)
    student = convnet(batch_norm=True)
    moving = kd.MovingAverageTeacher(student, momentum=0.5)
    distiller = distill(moving, "bfloat16", student)
    distiller.fit(x, y, batch_size=8, verbose=0)
    assert int(moving.steps) == 2
    assert {v.dtype for v in moving.network.weights} == {"float32"}
    teacher = Subclassed(8)
    teacher(x)
    assert distill(teacher, "float16").fit(x, y, verbose=0)


def test_softmax_heads_are_recognized_when_rounded():
    x, y = data(16)
    teacher, y = Subclassed(8, classes=3), y % 3
    teacher.head.activation = keras.activations.softmax
    teacher(x)
    # Three thirds in bfloat16 are 1.00195.
    teacher.set_weights([0 * w for w in teacher.get_weights()])
    student = convnet(classes=3)
    wanted = kd.losses.SoftTargets(teacher_probabilities=True)
    distill(teacher, "bfloat16", student, wanted).fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="values on the first batch are prob"):
        distill(teacher, "bfloat16", student).fit(x, y, verbose=0)


def large(factor=1e6):
    teacher = convnet(8)
    weights = teacher.get_weights()
    teacher.set_weights([*weights[:-1], weights[-1] + factor])
    return teacher


@pytest.mark.slow
def test_overflow_is_an_error_before_the_first_step():
    x, y = data(16)
    distiller = distill(large(), "float16")
    with pytest.raises(ValueError, match='65504.*"bfloat16" has the range'):
        distiller.fit(x, y, verbose=0)
    assert int(distiller.optimizer.iterations) == 0
    distill(large(), "bfloat16").fit(x, y, verbose=0)
    # An output that no loss reads may do what it likes.
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    hint = kd.losses.Hint(**taps)
    distill(large(), "float16", losses=hint).fit(x, y, verbose=0)
    # And one that is not finite anyway has another reason.
    with pytest.raises(ValueError, match="weights are loaded"):
        distill(large(np.nan), "float16").fit(x, y, verbose=0)


class Constant(keras.Model):
    def __init__(self):
        super().__init__()
        self.flat, self.head = layers.Flatten(), layers.Dense(4)

    def call(self, x):
        return self.head(self.flat(x)) + tf.constant([1.0, 2.0, 3.0, 4.0])


class Remembering(Constant):
    @tf.function
    def call(self, x):
        return self.head(self.flat(x))


@pytest.mark.slow
def test_teachers_that_cannot_run_in_another_precision():
    x, y = data(16)
    teacher = Constant()
    teacher(x)
    with pytest.raises(ValueError, match="does not run with teacher_dtype='b"):
        distill(teacher, "bfloat16").fit(x, y, verbose=0)
    distill(teacher, None).fit(x, y, verbose=0)
    teacher = Remembering()
    teacher(x)
    with pytest.raises(ValueError, match="a tf.function of its own"):
        distill(teacher, "bfloat16")
    distill(teacher, None).fit(x, y, verbose=0)


def test_another_name_is_refused():
    for dtype in ("mixed_bfloat16", "half", 16):
        with pytest.raises(ValueError, match="teacher_dtype must be one of"):
            distill(convnet(8), dtype)


@pytest.mark.slow
def test_it_is_saved_with_the_distiller(tmp_path):
    x, y = data(16)
    teacher, recorder = recorded()
    distiller = kd.Distiller(
        student=convnet(),
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
        teacher_dtype="bfloat16",
        teacher_batch_size=3,
    )
    distiller.compile("sgd", crossentropy())
    distiller.save(tmp_path / "run.keras")
    loaded = kd.load_distiller(tmp_path / "run.keras", teacher=teacher)
    assert loaded.get_config()["teacher_batch_size"] == 3
    recorder.seen.clear()
    loaded.fit(x, y, verbose=0)
    assert set(recorder.seen) == {"bfloat16"}


@pytest.mark.slow
def test_every_replica_runs_it_so(on_replicas):
    seen = on_replicas(2, dtypes_on_replicas)
    # The first batch and two replicas at least.
    assert len(seen) >= 3 and set(seen) == {"bfloat16"}


def dtypes_on_replicas(strategy):
    with strategy.scope():
        teacher, recorder = recorded()
        before = as_found(teacher)
        distiller = distill(teacher, "bfloat16")
    recorder.seen.clear()
    distiller.fit(*data(8), batch_size=8, verbose=0)
    assert as_found(teacher) == before
    return list(recorder.seen)
