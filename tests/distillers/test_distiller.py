"""The step: what is computed, how often, and what is left alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

layers = keras.layers


def copy_of(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def distill(student=None, teacher=None, losses=None, compile=None, **kwargs):
    distiller = kd.Distiller(
        student=student or convnet(),
        teacher=teacher or convnet(8),
        distillation_losses=losses or kd.losses.SoftTargets(temperature=4.0),
        **kwargs,
    )
    settings = {
        "optimizer": keras.optimizers.SGD(0.1),
        "loss": crossentropy(),
        **(compile or {}),
    }
    distiller.compile(**settings)
    return distiller


def hand_written_step(student, teacher, x, y, alpha, temperature, weights=None):
    """The objective from its definition, with a tape; -> logs, gradients."""
    w = np.ones(len(x), "float32") if weights is None else weights
    t = tf.nn.softmax(teacher(x, training=False) / temperature)
    with tf.GradientTape() as tape:
        z = student(x, training=True)
        ce = tf.nn.sparse_softmax_cross_entropy_with_logits(y, z)
        log_q = tf.nn.log_softmax(z / temperature)
        kl = tf.reduce_sum(t * (tf.math.log(t) - log_q), -1) * temperature**2
        l_s = tf.reduce_sum(w * ce) / len(x)
        l_d = tf.reduce_sum(w * kl) / len(x)
        loss = alpha * l_d + (1 - alpha) * l_s
    gradients = tape.gradient(loss, student.trainable_variables)
    logs = {"loss": loss, "student_loss": l_s, "distillation_loss": l_d}
    return {k: float(v) for k, v in logs.items()}, gradients


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("eagerly", [False, True])
def test_one_step_is_the_objective(weighted, eagerly):
    x, y = data()
    weights = np.linspace(0, 2, len(x)).astype("float32") if weighted else None
    student, teacher = convnet(), convnet(8)
    expected_logs, gradients = hand_written_step(
        copy_of(student), teacher, x, y, 0.3, 2.0, weights
    )
    expected = [
        v - 0.1 * g.numpy() for v, g in zip(student.get_weights(), gradients)
    ]
    distiller = distill(
        student,
        teacher,
        kd.losses.SoftTargets(temperature=2.0),
        {"run_eagerly": eagerly},
        alpha=0.3,
    )
    logs = distiller.train_on_batch(
        x, y, sample_weight=weights, return_dict=True
    )
    for name, value in expected_logs.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-5)
    assert logs["soft_targets_loss"] == logs["distillation_loss"]
    for got, wanted in zip(student.get_weights(), expected):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_weights_of_the_losses_and_their_logs():
    x, y = data()
    distiller = distill(
        losses={"soft": kd.losses.SoftTargets(), "mse": kd.losses.LogitsMSE()},
        distillation_loss_weights={"soft": 0.5, "mse": 3.0},
        alpha=0.25,
    )
    logs = distiller.train_on_batch(x, y, return_dict=True)
    weighted = 0.5 * logs["soft_loss"] + 3.0 * logs["mse_loss"]
    np.testing.assert_allclose(logs["distillation_loss"], weighted, rtol=1e-5)
    np.testing.assert_allclose(
        logs["loss"], 0.25 * weighted + 0.75 * logs["student_loss"], rtol=1e-5
    )


@pytest.mark.slow
def test_agreement_is_the_share_of_equal_argmax():
    x, y = data()
    student, teacher = convnet(), convnet(8)
    expected = np.mean(np.argmax(student(x), -1) == np.argmax(teacher(x), -1))
    distiller = distill(
        student, teacher, compile={"metrics": [kd.metrics.Agreement()]}
    )
    evaluated = distiller.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(evaluated["agreement"], expected, rtol=1e-6)
    plain = distill(copy_of(student), teacher)
    assert "agreement" not in plain.evaluate(x, y, verbose=0, return_dict=True)
    logs = plain.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["agreement"], expected, rtol=1e-6)


def test_agreement_of_one_unit_heads():
    teacher = convnet(8, classes=1, head="sigmoid")
    student = convnet(classes=1)
    x, _ = data()
    expected = np.mean((student(x) > 0) == (teacher(x) > 0.5))
    distiller = distill(
        student,
        teacher,
        kd.losses.SoftTargets(activation="sigmoid", teacher_probabilities=True),
        {"loss": keras.losses.BinaryCrossentropy(from_logits=True)},
    )
    y = np.zeros((len(x), 1))
    logs = distiller.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["agreement"], expected, rtol=1e-6)


@pytest.mark.slow
def test_epoch_logs_are_means_over_samples_also_with_a_partial_batch():
    x, y = data(20)
    student = convnet()
    distiller = distill(
        student, compile={"optimizer": keras.optimizers.SGD(0.0)}
    )
    whole = distiller.fit(x, y, batch_size=20, verbose=0).history
    parts = distiller.fit(x, y, batch_size=8, verbose=0).history
    for name in ("loss", "student_loss", "soft_targets_loss", "agreement"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-5)


class Counting(layers.Layer):
    """Passes its input on and counts, at run time, how often it ran."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.runs = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False
        )

    def call(self, x):
        self.runs.assign_add(1)
        return x


def counted_convnet(width=4, **kwargs):
    inputs = keras.Input((8, 8, 3))
    x = Counting(name="counting")(inputs)
    return keras.Model(inputs, convnet(width, **kwargs)(x))


@pytest.mark.slow
def test_each_network_runs_once_per_step_and_the_teacher_not_in_evaluate():
    x, y = data()
    student, teacher = counted_convnet(batch_norm=True), counted_convnet(8)
    distiller = distill(
        student,
        teacher,
        [
            kd.losses.SoftTargets(),
            kd.losses.Hint(
                teacher_layer_name="act1", student_layer_name="act1"
            ),
        ],
    )
    runs = [m.get_layer("counting").runs for m in (student, teacher)]
    distiller.fit(x, y, batch_size=16, verbose=0)
    # The look at the first batch leaves no trace.
    assert [int(r.numpy()) for r in runs] == [2, 2]
    distiller.evaluate(x, y, batch_size=16, verbose=0)
    assert [int(r.numpy()) for r in runs] == [4, 2]


@pytest.mark.slow
def test_batch_norm_moves_once_and_only_in_training():
    x, y = data()
    student = convnet(batch_norm=True)
    reference = copy_of(student)
    reference(x, training=True)
    teacher = convnet(8, batch_norm=True)
    before = [np.copy(w) for w in teacher.get_weights()]
    distiller = distill(
        student,
        teacher,
        [
            kd.losses.SoftTargets(),
            kd.losses.Hint(
                teacher_layer_name="act1", student_layer_name="act1"
            ),
        ],
        {"optimizer": keras.optimizers.SGD(0.0)},
    )
    distiller.train_on_batch(x, y)
    for got, wanted in zip(student.get_weights(), reference.get_weights()):
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    frozen = [np.copy(w) for w in student.get_weights()]
    distiller.evaluate(x, y, verbose=0)
    distiller.predict(x, verbose=0)
    for got, wanted in zip(student.get_weights(), frozen):
        np.testing.assert_array_equal(got, wanted)
    for got, wanted in zip(teacher.get_weights(), before):
        np.testing.assert_array_equal(got, wanted)


def test_teacher_is_left_as_it_was_found():
    teacher = convnet(8)
    teacher.get_layer("conv1").trainable = False
    flags = [layer.trainable for layer in teacher.layers]
    distiller = distill(teacher=teacher, compile={"run_eagerly": True})
    x, y = data()
    distiller.fit(x, y, verbose=0)
    assert [layer.trainable for layer in teacher.layers] == flags
    assert len(distiller.trainable_variables) == 6
    assert not any(w is v for w in teacher.weights for v in distiller.weights)


def test_connectors_are_trained_and_stay_out_of_the_student():
    x, y = data()
    hint = kd.losses.Hint(teacher_layer_name="act1", student_layer_name="act1")
    student = convnet()
    distiller = distill(student, losses=hint, compile={"run_eagerly": True})
    assert len(hint.trainable_variables) == 2
    before = [v.numpy() for v in hint.trainable_variables]
    distiller.fit(x, y, verbose=0)
    moved = [
        np.abs(v.numpy() - b).max()
        for v, b in zip(hint.trainable_variables, before)
    ]
    assert min(moved) > 0
    assert student.count_params() == convnet().count_params()
    assert distiller.student is student
    assert distiller.deployable_student() is student


def test_regularizers_and_add_loss_are_part_of_the_objective():
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(inputs)
    x = layers.Dense(
        4, kernel_regularizer="l2", activity_regularizer="l2", name="head"
    )(x)
    student = keras.Model(inputs, x)
    images, y = data()
    plain = copy_of(student)
    plain(images)
    additional = float(sum(plain.losses))
    logs = distill(student, alpha=0.4).train_on_batch(
        images, y, return_dict=True
    )
    expected = (
        0.4 * logs["distillation_loss"]
        + 0.6 * logs["student_loss"]
        + additional
    )
    assert additional > 0.01
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


def test_alpha_may_follow_a_schedule():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [1], [1.0, 0.0]
    )
    x, y = data()
    distiller = distill(alpha=schedule)
    first = distiller.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(first["loss"], first["distillation_loss"])
    distiller.train_on_batch(x, y)
    third = distiller.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(third["loss"], third["student_loss"])


@pytest.mark.slow
def test_pure_distillation_on_unlabelled_data():
    x, y = data(64)
    student = convnet()
    distiller = distill(
        student,
        compile={"loss": None, "metrics": ["accuracy"], "optimizer": "adam"},
        alpha=1,
    )
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(16)
    history = distiller.fit(
        dataset, validation_data=(x, y), epochs=2, verbose=0
    ).history
    assert history["loss"][1] < history["loss"][0]
    assert "student_loss" not in history and "accuracy" not in history
    # Without a task loss there is no validation loss to report.
    assert "val_accuracy" in history and "val_loss" not in history


@pytest.mark.slow
def test_sequences_masks_and_weights_per_position():
    def model(units):
        inputs = keras.Input((6,), dtype="int32")
        x = layers.Embedding(10, units, mask_zero=True)(inputs)
        x = layers.LSTM(units, return_sequences=True)(x)
        x = layers.Rescaling(50.0)(x)
        return keras.Model(inputs, layers.Dense(5, name="head")(x))

    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 10, (8, 6))
    tokens[:, 4:] = 0
    y = rng.integers(0, 5, (8, 6))
    student, teacher = model(4), model(8)
    p = tf.nn.softmax(teacher(tokens) / 4.0).numpy()
    q = tf.nn.softmax(student(tokens) / 4.0).numpy()
    kl = 16 * np.sum(p * np.log(p / q), -1)
    distiller = distill(student, teacher)
    logs = distiller.test_on_batch(tokens, y, return_dict=True)
    logs = distiller.train_on_batch(tokens, y, return_dict=True)
    np.testing.assert_allclose(
        logs["soft_targets_loss"], kl[:, :4].mean(), rtol=1e-4
    )


@pytest.mark.slow
def test_subclassed_and_unbuilt_students_are_built_on_the_first_batch():
    x, y = data()
    teacher = Subclassed(8)
    teacher(x)
    for student in (
        Subclassed(),
        keras.Sequential(
            [
                layers.Conv2D(4, 3, name="act1"),
                layers.Flatten(),
                layers.Dense(4),
            ]
        ),
    ):
        hint = kd.losses.Hint(
            teacher_layer_name="act1", student_layer_name="act1"
        )
        distiller = distill(student, teacher, [kd.losses.SoftTargets(), hint])
        history = distiller.fit(x, y, epochs=3, verbose=0).history
        assert history["loss"][-1] < history["loss"][0]
        assert len(hint.trainable_variables) == 2
    assert teacher.built


def test_ensemble_teacher_is_the_mean_of_probabilities():
    x, y = data()
    members = [convnet(8), convnet(4, head="softmax")]
    mean = (tf.nn.softmax(members[0](x)) + members[1](x)) / 2
    ensemble = kd.Ensemble(members)
    np.testing.assert_allclose(tf.nn.softmax(ensemble(x)), mean, atol=1e-6)
    distiller = distill(
        teacher=members, losses=kd.losses.SoftTargets(temperature=1.0)
    )
    q = tf.nn.log_softmax(distiller.student(x))
    expected = tf.reduce_mean(tf.reduce_sum(mean * (tf.math.log(mean) - q), -1))
    logs = distiller.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["soft_targets_loss"], expected, rtol=1e-4)


def test_default_names_are_made_unique():
    distiller = distill(
        losses=[kd.losses.SoftTargets(), kd.losses.SoftTargets()]
    )
    assert list(distiller.distillation_losses) == [
        "soft_targets",
        "soft_targets_1",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"steps_per_execution": 3},
        {"jit_compile": True},
        {"run_eagerly": True},
    ],
    ids=str,
)
def test_ways_to_run_give_the_same_weights(settings):
    x, y = data(48)
    student, teacher = convnet(batch_norm=True), convnet(8)
    other = copy_of(student)
    losses = lambda: [  # noqa: E731
        kd.losses.SoftTargets(),
        kd.losses.AttentionTransfer(
            teacher_layer_name="act1", student_layer_name="act1"
        ),
    ]
    distill(student, teacher, losses()).fit(
        x, y, batch_size=8, epochs=2, shuffle=False, verbose=0
    )
    distill(other, teacher, losses(), settings).fit(
        x, y, batch_size=8, epochs=2, shuffle=False, verbose=0
    )
    for a, b in zip(student.get_weights(), other.get_weights()):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.slow
def test_gradient_accumulation_equals_the_larger_batch():
    x, y = data(32)
    student, teacher = convnet(), convnet(8)
    other = copy_of(student)
    one = distill(student, teacher)
    one.fit(x, y, batch_size=32, epochs=1, shuffle=False, verbose=0)
    accumulated = distill(
        other,
        teacher,
        compile={
            "optimizer": keras.optimizers.SGD(
                0.1, gradient_accumulation_steps=4
            )
        },
    )
    accumulated.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(student.get_weights(), other.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("globally", [False, True])
def test_mixed_float16_student_trains_under_loss_scaling(globally):
    x, y = data(64)
    teacher = convnet(8)
    if globally:
        keras.config.set_dtype_policy("mixed_float16")
        student = convnet()
    else:
        student = convnet(dtype="mixed_float16")
    hint = kd.losses.Hint(teacher_layer_name="act1", student_layer_name="act1")
    distiller = distill(
        student,
        teacher,
        [kd.losses.SoftTargets(), hint],
        {"optimizer": keras.optimizers.Adam(0.01)},
    )
    assert isinstance(
        distiller.optimizer, keras.mixed_precision.LossScaleOptimizer
    )
    assert hint.trainable_variables[0].dtype == "float32"
    history = distiller.fit(x, y, epochs=5, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    assert history["loss"][-1] < history["loss"][0]


def test_float32_student_under_a_half_precision_global_policy():
    teacher, student = convnet(8), convnet()
    keras.config.set_dtype_policy("mixed_float16")
    distiller = distill(student, teacher)
    assert not isinstance(
        distiller.optimizer, keras.mixed_precision.LossScaleOptimizer
    )
    x, y = data()
    assert np.isfinite(distiller.train_on_batch(x, y))[0]


@pytest.mark.slow
def test_extreme_logits_in_float16_stay_finite():
    def scaled(factor, dtype):
        inputs = keras.Input((3,))
        x = layers.Dense(
            4,
            dtype=dtype,
            use_bias=False,
            name="head",
            kernel_initializer=keras.initializers.RandomUniform(-1, 1, seed=1),
        )(inputs)
        return keras.Model(inputs, layers.Rescaling(factor, dtype=dtype)(x))

    x = np.eye(3, dtype="float32")
    for dtype in ("float16", "mixed_float16", "mixed_bfloat16", "float32"):
        student, teacher = scaled(1e4, dtype), scaled(-1e4, dtype)
        distiller = distill(
            student,
            teacher,
            compile={
                "optimizer": keras.optimizers.SGD(1e-6),
                # Loss scaling is another computation in a graph.
                "run_eagerly": "float16" not in dtype.split("_"),
            },
        )
        logs = distiller.train_on_batch(x, np.arange(3), return_dict=True)
        assert np.isfinite(list(logs.values())).all(), (dtype, logs)
        assert all(np.isfinite(w).all() for w in student.get_weights())


@pytest.mark.slow
def test_learning_happens():
    x, y = data(256)
    teacher = convnet(16)
    teacher.compile("adam", crossentropy(), metrics=["accuracy"])
    teacher.fit(x, y, epochs=15, verbose=0)
    distiller = distill(
        teacher=teacher,
        compile={"optimizer": keras.optimizers.Adam(0.02)},
    )
    history = distiller.fit(x, y, epochs=10, verbose=0).history
    assert history["agreement"][-1] > history["agreement"][0] + 0.2
    assert ops.isnan(history["loss"][-1]) == False  # noqa: E712
