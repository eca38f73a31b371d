"""What the look at the first batch finds, and that it leaves no trace."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import crossentropy

import keras_distill as kd

layers = keras.layers
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(32, 5)).astype("float32"), RNG.integers(0, 3, 32)


def network(width=4, **kwargs):
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(width, name="neck"),
            layers.BatchNormalization(),
            layers.Dense(3),
        ],
        **kwargs,
    )


def distilled(loss=None, alpha=1.0, losses=None, teacher=True, **kwargs):
    distiller = kd.Distiller(
        student=network(),
        teacher=network(8) if teacher else None,
        distillation_losses=losses or kd.losses.SoftTargets(),
        alpha=alpha,
    )
    distiller.compile(keras.optimizers.SGD(0.0), loss, **kwargs)
    return distiller


# States.


class Stateful(keras.Model):
    """A recurrent network that counts its calls."""

    def __init__(self, width):
        super().__init__()
        self.noise = layers.Dropout(0.5, seed=1)
        self.rnn = layers.GRU(width, stateful=True)
        self.head = layers.Dense(3)
        self.calls = self.add_weight(
            shape=(), trainable=False, initializer="zeros", name="calls"
        )
        self.mean = keras.metrics.Mean()

    def call(self, x):
        self.calls.assign_add(1.0)
        self.mean.update_state(x)
        return self.head(self.rnn(self.noise(x, training=True)))

    def state(self):
        seed = self.noise.seed_generator.state
        variables = [self.calls, *self.mean.variables, *self.rnn.states, seed]
        return [np.asarray(v.numpy()) for v in variables]


def recurrent(width):
    inputs = keras.Input(batch_shape=(8, 4, 2))
    rnn = layers.LSTM(width, stateful=True)
    model = keras.Model(inputs, layers.Dense(3)(rnn(inputs)))
    model.state = lambda: [np.asarray(v.numpy()) for v in rnn.states]
    return model


@pytest.mark.parametrize("make", [recurrent, Stateful])
def test_it_leaves_no_trace_in_states_seeds_and_counts(make):
    x = RNG.normal(size=(8, 4, 2)).astype("float32")
    networks = make(5), make(3)
    if make is Stateful:
        networks[0](x)
    before = networks[0].state()
    distiller = kd.Distiller(
        student=networks[1],
        teacher=networks[0],
        distillation_losses=kd.losses.SoftTargets(),
    )
    distiller.compile("sgd", crossentropy())
    distiller._first_batch.value.prepare(
        x, np.zeros(8, "int32"), {"batch_size": 8, "shuffle": False}
    )
    for a, b in zip(networks[0].state(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    student = networks[1].state()
    if make is Stateful:  # The seed's state is (seed, calls).
        assert student.pop().tolist() == [1, 0]
    assert all(not value.any() for value in student)
    distiller.fit(
        x, np.zeros(8, "int32"), batch_size=8, shuffle=False, verbose=0
    )


# Teachers that would change.


def sharing(layer):
    inputs = keras.Input((5,))
    shared = layer(inputs)
    inner = keras.Sequential([layers.Dense(2)])
    return (
        keras.Model(inputs, layers.Dense(3)(shared), name="teacher"),
        keras.Model(inputs, layers.Dense(3)(inner(shared)), name="student"),
    )


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(4, name="common"),
        layers.BatchNormalization(scale=False, center=False, name="common"),
        keras.Sequential([layers.Dense(4, name="common")]),
    ],
)
def test_shared_layers_must_be_frozen(layer):
    teacher, student = sharing(layer)
    arguments = {
        "student": student,
        "teacher": teacher,
        "distillation_losses": kd.losses.SoftTargets(),
    }
    with pytest.raises(ValueError, match="share the layers .*common'.*freeze"):
        kd.Distiller(**arguments)
    layer.trainable = False
    distiller = kd.Distiller(**arguments)
    distiller.compile("sgd", crossentropy())
    before = teacher.get_weights()
    distiller.train_on_batch(X, Y)
    for a, b in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    layer.trainable = True
    with pytest.raises(ValueError, match="share the layers"):
        distiller.fit(X, Y)


def test_a_shared_normalization_of_the_input_is_no_fault():
    normalization = layers.Normalization(mean=0.0, variance=1.0)
    teacher, student = sharing(normalization)
    kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
    )


# Weights of classes.


@pytest.mark.parametrize("kind", ["arrays", "dataset", "batch"])
def test_class_weight_needs_labels(kind):
    distiller = distilled()
    weights = {0: 1.0, 1: 2.0, 2: 1.0}
    dataset = tf.data.Dataset.from_tensor_slices(X).batch(8)
    with pytest.raises(ValueError, match="class_weight.*no labels"):
        if kind == "batch":
            distiller.train_on_batch(X, class_weight=weights)
        else:
            x = X if kind == "arrays" else dataset
            distiller.fit(x, class_weight=weights, verbose=0)


def test_what_alpha_mixes_with_class_weight_is_said_once():
    weights = {0: 1.0, 1: 5.0, 2: 1.0}
    distiller = distilled(crossentropy(), alpha=0.5)
    with pytest.warns(UserWarning, match="alpha=0.5 mixes both"):
        distiller.fit(X, Y, class_weight=weights, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        distiller.fit(X, Y, class_weight=weights, verbose=0)


# Pure distillation, evaluated.


def test_pure_distillation_is_evaluated_with_its_teacher():
    losses = {
        "soft": kd.losses.SoftTargets(),
        "hint": kd.losses.Hint(
            teacher_layer_name="neck",
            student_layer_name="neck",
            regressor="dense",
        ),
    }
    distiller = distilled(losses=losses)
    logs = distiller.fit(X, Y, validation_data=(X, Y), verbose=0).history
    pair = distiller.student, distiller._networks().teacher
    values = [model.predict(X, verbose=0) for model in pair]
    soft = float(kd.losses.SoftTargets().compute_loss(values[1], values[0]))
    assert logs["val_soft_loss"] == pytest.approx([soft], rel=1e-5)
    total = logs["val_soft_loss"][0] + logs["val_hint_loss"][0]
    assert logs["val_distillation_loss"] == pytest.approx([total])
    assert "val_loss" not in logs and "val_agreement" not in logs
    unlabelled = distiller.evaluate(X, verbose=0, return_dict=True)
    assert unlabelled["distillation_loss"] == pytest.approx(total)


def test_an_evaluation_moves_no_statistics():
    inputs = keras.Input((8, 8, 3))
    maps = [layers.Conv2D(n, 3, name="maps") for n in (4, 8)]
    student, teacher = (
        keras.Model(inputs, layers.Dense(3)(layers.Flatten()(m(inputs))))
        for m in maps
    )
    loss = kd.losses.Hint(
        teacher_layer_name="maps",
        student_layer_name="maps",
        regressor="conv_bn_relu",
    )
    distiller = kd.Distiller(
        student=student, teacher=teacher, distillation_losses=loss, alpha=1.0
    )
    distiller.compile("sgd")
    before = [v.numpy() for v in loss.variables]
    x = RNG.normal(size=(8, 8, 8, 3))
    assert distiller.evaluate(x, verbose=0, return_dict=True)["hint_loss"] > 0
    for variable, value in zip(loss.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize(
    "options, data, message",
    [
        ({"teacher": False}, (X, Y), "no task loss and no metric.*no teacher"),
        ({"loss": crossentropy(), "alpha": 0.5}, (X,), "no labels.*alpha=0.5"),
        (
            {
                "losses": kd.losses.ContrastiveRepresentation(
                    teacher_layer_name="neck",
                    student_layer_name="neck",
                    sample_count=32,
                    negatives=4,
                )
            },
            (X, Y),
            "knows the training samples only",
        ),
    ],
)
def test_nothing_to_measure_is_said_before_the_first_step(
    options, data, message
):
    from keras_distill._training.evaluation import check_validation

    distiller = distilled(**options)
    with pytest.raises(ValueError, match=message):
        check_validation(distiller, data)
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(8)
    with pytest.raises(ValueError, match=message):
        check_validation(distiller, dataset)
    check_validation(distilled(), data)
    if options.get("alpha") == 0.5:
        with pytest.raises(ValueError, match=message):
            distiller.fit(X, Y, validation_data=data, verbose=0)
        assert int(distiller.optimizer.iterations) == 0
        with pytest.raises(ValueError, match=message):
            distiller.evaluate(X, verbose=0)


def test_cohorts_are_evaluated_by_what_they_learn_from_each_other():
    cohort = kd.MutualDistiller(
        students={"a": network(), "b": network(8)}, alpha=1.0
    )
    cohort.compile(keras.optimizers.SGD(0.0))
    logs = cohort.fit(X, validation_data=(X, Y), verbose=0).history
    a, b = cohort.predict(X, verbose=0).values()
    wanted = float(kd.losses.SoftTargets().compute_loss(b, a))
    assert logs["val_a_soft_targets_loss"] == pytest.approx([wanted], rel=1e-5)
    assert logs["val_a_distillation_loss"] == logs["val_a_soft_targets_loss"]
    assert "val_b_distillation_loss" in logs and "val_loss" not in logs


# Logits that look like probabilities.


def one_logit(shown):
    inputs = keras.Input((5,))
    head = layers.Dense(
        1,
        bias_initializer=keras.initializers.Constant(0.5),
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
    )
    if shown:
        return keras.Model(inputs, head(inputs))
    hidden = layers.Lambda(head, output_shape=(1,))
    return keras.Model(inputs, hidden(inputs))


def test_a_logit_between_0_and_1():
    def fit(shown, **options):
        distiller = kd.Distiller(
            student=keras.Sequential([keras.Input((5,)), layers.Dense(1)]),
            teacher=one_logit(shown),
            distillation_losses=kd.losses.SoftTargets(
                activation="sigmoid", **options
            ),
            alpha=1.0,
        )
        distiller.compile("sgd")
        distiller.train_on_batch(X)

    fit(shown=True)
    with pytest.raises(ValueError, match="teacher_probabilities=False"):
        fit(shown=False)
    fit(shown=False, teacher_probabilities=False)


# Heads of attention.


def attention(heads, name):
    inputs = keras.Input((6, 8))
    layer = layers.MultiHeadAttention(heads, 4, name="attention")
    x, _ = layer(inputs, inputs, return_attention_scores=True)
    x = layers.Dense(3)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, x, name=name)


@pytest.mark.parametrize(
    "loss", [kd.losses.Hint, kd.losses.AttentionTransfer, kd.losses.ChannelWise]
)
def test_heads_of_attention_are_not_averaged(loss):
    def distil(heads):
        networks = attention(2, "student"), attention(heads, "teacher")
        student, teacher = (
            next(p for p in kd.taps.layer_paths(n) if "/softmax" in p)
            for n in networks
        )
        kd.Distiller(
            student=networks[0],
            teacher=networks[1],
            distillation_losses=loss(
                teacher_layer_name=teacher, student_layer_name=student
            ),
        )

    distil(2)
    with pytest.raises(ValueError, match="4, 6, 6.*2, 6, 6.*as many heads"):
        distil(4)


def test_hdf5_is_refused(tmp_path):
    for name in ("d.h5", "d.hdf5", "d.weights.h5"):
        with pytest.raises(ValueError, match=r"\.keras.*save_weights"):
            distilled().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


# Data of unknown length.


def test_an_epoch_of_unknown_length_takes_no_step_too_many():
    student = keras.Sequential(
        [keras.Input((5,)), layers.Dropout(0.5), layers.Dense(3)]
    )
    distiller = kd.Distiller(
        student=student,
        teacher=network(8),
        distillation_losses=kd.losses.SoftTargets(),
    )
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.1)
    distiller.compile(optimizer, crossentropy())
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    unknown = dataset.filter(lambda *_: True)
    assert int(unknown.cardinality()) == tf.data.UNKNOWN_CARDINALITY
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distiller.fit(unknown, epochs=3, verbose=0)
    assert int(distiller.optimizer.iterations) == 12
    seed = student.layers[0].seed_generator.state.numpy()
    assert seed[1] == 12
