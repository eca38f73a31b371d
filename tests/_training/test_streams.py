"""Networks whose recurrent state goes on from batch to batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd

layers = keras.layers
STREAMS, STEPS, WORDS = 4, 3, 6
TEXT = np.random.default_rng(0).integers(0, WORDS, (2, STREAMS, 13))


def network(units=5, streams=STREAMS, stateful=True, cell=None, **kwargs):
    """Words `(streams, steps)` to logits `(streams, steps, WORDS)`."""
    inner = keras.Sequential(name="inner")
    options = {"return_sequences": True, "stateful": stateful}
    if cell is None:
        inner.add(layers.LSTM(units, **options))
        inner.add(layers.GRU(units, **options))
    else:  # Their states are nested, and Keras fails to reset them.
        cells = [layers.LSTMCell(units), layers.GRUCell(units)]
        inner.add(layers.RNN(layers.StackedRNNCells(cells), **options))
    inputs = keras.Input(batch_shape=(streams, None), dtype="int32")
    x = inner(layers.Embedding(WORDS, 4)(inputs))
    model = keras.Model(inputs, layers.Dense(WORDS)(x), **kwargs)
    # So that the words before matter.
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


def streams(text=0, streams=STREAMS):
    """All of a text, `(streams, words)`, as batches of `STEPS` words."""
    whole = TEXT[text][:streams].astype("int32")
    starts = range(0, whole.shape[1] - 1, STEPS)
    x = np.stack([whole[:, i : i + STEPS] for i in starts])
    y = np.stack([whole[:, i + 1 : i + 1 + STEPS] for i in starts])
    return tf.data.Dataset.from_tensor_slices((x, y))


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def distilled(teacher=None, student=None, compile=True, **kwargs):
    distiller = kd.Distiller(
        student=student or network(3),
        teacher=teacher or network(),
        distillation_losses=kd.losses.SoftTargets(),
        **kwargs,
    )
    if compile:
        # No step changes a weight.
        distiller.compile(keras.optimizers.SGD(0.0), crossentropy())
    return distiller


def test_batches_of_arrays_by_their_number():
    x, y = TEXT[0][:, :-1].astype("int32"), TEXT[0][:, 1:]
    options = {"shuffle": False, "verbose": 0}
    x, y = (np.concatenate([part] * 3) for part in (x, y))
    distilled().fit(x, y, steps_per_epoch=3, **options)
    with pytest.raises(ValueError, match="12 samples, in batches of 32"):
        distilled().fit(x, y, **options)


def whole(model, text=0):
    """The logits of a whole text, by a network without states."""
    copy = network(model.get_layer("inner").layers[0].units, stateful=False)
    copy.set_weights(model.get_weights())
    return copy(TEXT[text][:, :-1]).numpy()


def nll(logits, text=0):
    return float(crossentropy()(TEXT[text][:, 1:], logits))


class EvaluatesWithin(keras.callbacks.Callback):
    """Evaluates between two batches, which makes Keras forget its means."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append((logs["student_loss"], logs["soft_targets_loss"]))
        self.model.evaluate(streams(1), verbose=0)
        self.model.predict(streams(1), verbose=0)
        self.model.test_on_batch(*next(iter(streams(1))))


@pytest.mark.slow
def test_both_networks_see_one_text_in_every_epoch():
    teacher, student = network(), network(3)
    distiller = distilled(teacher, student)
    within = EvaluatesWithin()
    history = distiller.fit(
        streams(),
        validation_data=streams(1),
        callbacks=within,
        epochs=2,
        verbose=0,
    ).history
    logits = whole(teacher), whole(student)
    soft_targets = float(kd.losses.SoftTargets().compute_loss(*logits))
    means = np.reshape(within.losses, (2, 4, 2)).mean(1)
    expected = [[nll(logits[1]), soft_targets]] * 2
    np.testing.assert_allclose(means, expected, rtol=1e-5)
    expected = [nll(whole(student, 1), 1)] * 2
    np.testing.assert_allclose(history["val_loss"], expected, rtol=1e-5)
    predicted = distiller.predict(streams(1), verbose=0)  # (4 x 4, 3, words)
    expected = np.concatenate(np.split(whole(student, 1), 4, axis=1))
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_ensemble_of_stateful_teachers():
    teachers, student = [network(), network(4)], network(3)
    distiller = distilled(teachers, student)
    history = distiller.fit(streams(), epochs=2, verbose=0).history
    p = sum(keras.ops.softmax(whole(teacher)) for teacher in teachers) / 2
    expected = kd.losses.SoftTargets().compute_loss(
        keras.ops.log(p), whole(student)
    )
    np.testing.assert_allclose(
        history["soft_targets_loss"], [float(expected)] * 2, rtol=1e-5
    )


@pytest.mark.slow
def test_nested_states_begin_at_zero():
    student = network(3, cell="stacked")
    distiller = distilled(student=student)
    history = distiller.fit(streams(), epochs=2, verbose=0).history
    np.testing.assert_allclose(*history["student_loss"], rtol=1e-6)
    rnn = student.get_layer("inner").layers[0]
    assert all(np.any(s.numpy()) for s in keras.tree.flatten(rnn.states))


@pytest.mark.slow
def test_students_of_a_cohort():
    students = {"a": network(), "b": network(3)}
    cohort = kd.MutualDistiller(students=students, update="alternating")
    cohort.compile(keras.optimizers.SGD(0.0), crossentropy())
    history = cohort.fit(
        streams(), validation_data=streams(1), epochs=2, verbose=0
    ).history
    for name, student in students.items():
        for key, text in ((f"{name}_student_loss", 0), (f"val_{name}_loss", 1)):
            expected = nll(whole(student, text), text)
            np.testing.assert_allclose(history[key], [expected] * 2, rtol=1e-5)


@pytest.mark.slow
def test_generations():
    networks = []

    def build():
        networks.append(network(3 + len(networks)))
        return networks[-1]

    result = kd.born_again(
        build,
        streams(),
        generations=1,
        validation_data=streams(1),
        compile_options={
            "optimizer": keras.optimizers.SGD(0.0),
            "loss": crossentropy(),
        },
        epochs=2,
        verbose=0,
    )
    for number, model in enumerate(networks):
        history = result.histories[number]
        for key, text in (("loss", 0), ("val_loss", 1)):
            name = "student_loss" if number and not text else key
            expected = nll(whole(model, text), text)
            np.testing.assert_allclose(history[name], [expected] * 2, rtol=1e-5)


# Bad input.


ARRAYS = [
    np.concatenate([*part]) for part in zip(*streams().as_numpy_iterator())
]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"x": streams().shuffle(9)}, "the dataset is shuffled"),
        (
            {
                "x": kd.datasets.batches(*ARRAYS, STREAMS, seed=0),
                "steps_per_epoch": 2,
            },
            "stateless_shuffle",
        ),
        ({"x": streams().unbatch().batch(4)}, "drop_remainder=True"),
        (
            {"x": streams().unbatch().batch(2, drop_remainder=True)},
            "made for 4 streams.*batches of 2.*batch_size=4",
        ),
        ({"x": ARRAYS[0], "y": ARRAYS[1], "batch_size": 4}, "shuffle=False"),
        (
            {
                "x": ARRAYS[0][:7],
                "y": ARRAYS[1][:7],
                "batch_size": 4,
                "shuffle": False,
            },
            "Leave the last 3 out",
        ),
        (
            {
                "x": ARRAYS[0],
                "y": ARRAYS[1],
                "batch_size": 4,
                "shuffle": False,
                "validation_split": 0.5,
            },
            "validation_data=",
        ),
        ({"x": (b for b in streams(0, 3))}, "batches of 3"),
        (
            {
                "x": streams(),
                "validation_data": streams(1)
                .unbatch()
                .batch(2, drop_remainder=True),
            },
            "batches of 2",
        ),
    ],
)
def test_data_that_are_no_streams(arguments, message):
    with pytest.raises(ValueError, match=f"(?s)stateful=True.*{message}"):
        distilled().fit(**arguments, verbose=0)


def test_teachers_that_do_not_read_every_batch():
    with pytest.raises(ValueError, match="Leave teacher_batch_size out"):
        distilled(teacher_batch_size=2)
    teachers = kd.Teachers(
        {"a": network(), "b": network(4)},
        combinations={
            "either": kd.teachers.Combination(["a", "b"], rule="sample")
        },
    )
    with pytest.raises(ValueError, match="must read every batch"):
        kd.Distiller(
            student=network(3),
            teacher=teachers,
            distillation_losses=kd.losses.SoftTargets(
                teacher_layer_name="either"
            ),
        )


def test_networks_of_different_batch_sizes():
    distiller = distilled(teacher=network(streams=2))
    with pytest.raises(ValueError, match="'student': 4, 'teacher': 2"):
        distiller.fit(streams(), verbose=0)


def test_evaluation_of_other_batches():
    with pytest.raises(ValueError, match="batches of 2"):
        distilled().evaluate(streams(0, 2))


@pytest.mark.slow
def test_arrays_in_order_are_streams():
    student = network(3)
    history = (
        distilled(student=student)
        .fit(*ARRAYS, batch_size=STREAMS, shuffle=False, epochs=2, verbose=0)
        .history
    )
    expected = nll(whole(student))
    np.testing.assert_allclose(history["student_loss"], expected, rtol=1e-5)
