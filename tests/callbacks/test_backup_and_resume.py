"""Stopped anywhere, training ends with the bits of a run that was not."""

import keras
import numpy as np
import plain_graphs  # noqa: F401
import pytest
import tensorflow as tf
from marks import nightly

import keras_distill as kd
from keras_distill.callbacks.backup_files import BackupFiles
from keras_distill.callbacks.callback_state import CallbackState

layers = keras.layers
SAMPLES, SIZE = 36, 8
STEPS, EPOCHS = 5, 3
X = np.random.default_rng(0).normal(size=(SAMPLES, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, SAMPLES)


class Stopped(Exception):
    pass


class Stop(keras.callbacks.Callback):
    """Stops training in the middle of an epoch."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise Stopped


def network(units=8, drop=0.0):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.BatchNormalization(),
            layers.Dropout(drop),
            layers.Dense(3),
        ]
    )


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def distiller(
    optimizer=None,
    losses=None,
    teacher=None,
    student=None,
    views=None,
    **options,
):
    student = student() if student else network(drop=0.3)
    made = kd.Distiller(
        student=student,
        teacher=teacher(student) if teacher else network(16),
        distillation_losses=losses() if losses else kd.losses.SoftTargets(),
        views=views() if views else None,
    )
    made.compile(
        optimizer() if optimizer else keras.optimizers.Adam(0.01),
        crossentropy(),
        metrics=["accuracy"],
        **options,
    )
    return made


def mutual():
    made = kd.MutualDistiller(
        students={"a": network(drop=0.3), "b": network(12, drop=0.2)},
        distillation_losses=kd.losses.SoftTargets(),
    )
    made.compile("adam", crossentropy())
    return made


def tasks(loss_weights):
    def make():
        def heads(units):
            x = keras.Input((6,))
            h = layers.Dense(units, activation="relu")(x)
            h = layers.Dropout(0.3)(h)
            return keras.Model(
                x,
                {
                    "three": layers.Dense(3, name="of_three")(h),
                    "two": layers.Dense(2, name="of_two")(h),
                },
            )

        made = kd.Distiller(
            student=heads(8),
            teacher=heads(16),
            distillation_losses={
                "three": kd.losses.SoftTargets(),
                "two": kd.losses.LogitsMSE(),
            },
        )
        losses = {"three": crossentropy(), "two": crossentropy()}
        made.compile("adam", losses, loss_weights=loss_weights)
        return made

    return make


def labels_of_tasks():
    data = kd.datasets.batches(X, Y, SIZE, seed=0)
    data = data.map(lambda x, y: (x, {"three": y, "two": y // 2}))
    validation = X, {"three": Y, "two": Y // 2}
    return (data,), {"steps_per_epoch": STEPS, "validation_data": validation}


def arrays():
    return (X, Y), {"batch_size": SIZE}


def stream():
    data = kd.datasets.batches(X, Y, SIZE, seed=0)
    return (data,), {"steps_per_epoch": STEPS}


def samples():
    return tf.data.Dataset.from_tensor_slices((X, Y))


DATA = {
    "arrays": arrays,
    "stream": stream,
    "indexed": lambda: (
        (kd.datasets.batches(X, Y, SIZE, seed=0, indexed=True),),
        {"steps_per_epoch": STEPS},
    ),
    "shuffled": lambda: ((samples().shuffle(20, seed=1).batch(SIZE),), {}),
    "repeated": lambda: (
        (samples().shuffle(20, seed=1).repeat().batch(SIZE),),
        {"steps_per_epoch": STEPS},
    ),
    "unknown": lambda: (
        (samples().shuffle(20, seed=1).filter(lambda x, y: y < 2).batch(4),),
        {},
    ),
    "interleaved": lambda: (
        (
            tf.data.Dataset.range(4)
            .shuffle(4, seed=2)
            .interleave(
                lambda part: samples().skip(9 * part).take(9),
                cycle_length=2,
                num_parallel_calls=2,
            )
            .shuffle(10, seed=3)
            .batch(SIZE)
            .prefetch(2),
        ),
        {},
    ),
    "grouped": lambda: (
        (
            kd.views.grouped_batches(
                samples(), SIZE, group_size=4, shuffle_buffer_size=40, seed=3
            ),
        ),
        {},
    ),
}


def run(directory=None, save_freq="epoch", stop=None, **options):
    """Trains; returns all numbers at the end, or `None` if it was stopped."""
    make = options.pop("make", distiller)
    data = options.pop("data", stream)
    epochs = options.pop("epochs", EPOCHS)
    others = options.pop("callbacks", list)
    keras.utils.set_random_seed(0)
    made = make(**options)
    callbacks = others()
    if directory is not None:
        callbacks.insert(0, kd.callbacks.BackupAndResume(directory, save_freq))
    if stop is not None:
        callbacks.append(Stop(*stop))
    arguments, named = data()
    try:
        history = made.fit(
            *arguments,
            epochs=epochs,
            verbose=0,
            callbacks=callbacks,
            **{"validation_data": (X, Y), **named},
        )
    except Stopped:
        return None
    variables = [*made.variables, *made.optimizer.variables]
    values = [keras.ops.convert_to_numpy(v) for v in variables]
    return values, history.history, history.epoch


def assert_same(one, other):
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1:] == other[1:]


@pytest.fixture(scope="module")
def whole():
    """What the default training gives that nobody stops."""
    return run()


def check(directory, stops=((1, 3),), save_freq=2, expected=None, **options):
    expected = expected or run(**options)
    for stop in stops:
        assert run(directory, save_freq, stop, **options) is None
    assert_same(run(directory, save_freq, **options), expected)
    assert not directory.exists()


@pytest.mark.slow
def test_stopped_twice_within_epochs(tmp_path, whole):
    check(tmp_path / "backup", ((0, 3), (2, 1)), expected=whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        "arrays",
        "unknown",
        "grouped",
        *nightly("stream", "indexed", "shuffled", "repeated", "interleaved"),
    ],
)
@pytest.mark.parametrize(
    "stop, save_freq",
    [
        ((1, 3), 2),
        pytest.param((2, 0), "epoch", marks=pytest.mark.nightly),
    ],
)
def test_any_data_whose_order_has_a_seed(tmp_path, data, stop, save_freq):
    check(tmp_path / "a", (stop,), save_freq, data=DATA[data])


def gru():
    return keras.Sequential(
        [
            keras.Input(batch_shape=(SIZE, 6)),
            layers.Reshape((3, 2)),
            layers.GRU(4, stateful=True, dropout=0.2),
            layers.Dense(3),
        ]
    )


def whole_batches():
    data = kd.datasets.batches(X, Y, SIZE, drop_remainder=True)
    return (data,), {"validation_data": data.take(2)}


class UnseededNoise(layers.Layer):
    def call(self, x, training=False):
        noise = keras.random.normal(keras.ops.shape(x))
        return x + noise if training else x


def noisy():
    return keras.Sequential(
        [keras.Input((6,)), UnseededNoise(), layers.Dense(3)]
    )


def shared_heads():
    inputs = keras.Input((6,))
    heads = kd.multitask.Heads(
        {"one": 1, "two": 2}, kd.multitask.TaskClustering(2, 0.02, 0.1)
    )
    logits = heads(layers.Dense(5, name="hidden")(inputs))
    joined = layers.Concatenate()([logits["one"], logits["two"]])
    return keras.Model(inputs, joined)


def hint():
    return kd.losses.Hint(
        teacher_layer_name="hidden", student_layer_name="hidden"
    )


def contrastive():
    return kd.losses.ContrastiveRepresentation(
        sample_count=SAMPLES,
        negatives=4,
        teacher_layer_name="hidden",
        student_layer_name="hidden",
    )


NETWORKS = {
    # The next five in one.
    "optimizer, losses, teacher": {
        "optimizer": lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.01, 20),
            use_ema=True,
            ema_overwrite_frequency=4,
            gradient_accumulation_steps=3,
        ),
        "losses": lambda: [hint(), contrastive()],
        "data": DATA["indexed"],
        "teacher": lambda s: kd.MovingAverageTeacher(s, momentum=0.9),
    },
    "ema": {
        "optimizer": lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.01, 20),
            use_ema=True,
            ema_overwrite_frequency=4,
        )
    },
    "accumulation": {
        "optimizer": lambda: keras.optimizers.SGD(
            0.1, momentum=0.9, gradient_accumulation_steps=3
        )
    },
    "shampoo": {
        "optimizer": lambda: kd.optimizers.Shampoo(
            0.05,
            start_step=2,
            preconditioner_interval=3,
            use_ema=True,
            ema_overwrite_frequency=4,
        )
    },
    "connectors": {"losses": hint},
    "memory": {"losses": contrastive, "data": DATA["indexed"]},
    "moving teacher": {
        "teacher": lambda s: kd.MovingAverageTeacher(s, momentum=0.9)
    },
    "loss scale": {
        "optimizer": lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Adam(0.01), dynamic_growth_steps=3
        )
    },
    "queue": {
        "losses": lambda: kd.losses.QueueSimilarity(
            queue_size=10,
            teacher_layer_name="hidden",
            student_layer_name="hidden",
        )
    },
    "stateful": {
        "student": gru,
        "teacher": lambda _: gru(),
        "data": whole_batches,
    },
    "noise without a seed": {"student": noisy},
    "shared heads": {"student": shared_heads},
    "steps per execution": {"steps_per_execution": 2},
    # The last execution of an epoch has less to read, and is or is not known.
    "a known length": {"steps_per_execution": 4, "data": DATA["shuffled"]},
    "an unknown length": {
        "steps_per_execution": 4,
        "data": DATA["unknown"],
        "stops": ((1, 7),),
    },
    "eagerly": {"run_eagerly": True},
    "mutual": {"make": mutual},
    "uncertainty": {"make": tasks("uncertainty"), "data": labels_of_tasks},
    "dynamic": {
        "make": tasks("dynamic"),
        "data": labels_of_tasks,
        "stops": ((2, 1),),
        "epochs": 4,
    },
}


IN_ONE = ("ema", "accumulation", "connectors", "memory", "moving teacher")
NIGHTLY = (*IN_ONE, "eagerly", "shampoo", "an unknown length")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [*(name for name in NETWORKS if name not in NIGHTLY), *nightly(*NIGHTLY)],
)
def test_everything_that_training_changes(tmp_path, name):
    check(tmp_path / "backup", **NETWORKS[name])


class Counting(keras.callbacks.Callback):
    """A user's callback: its numbers decide about the learning rate."""

    def __init__(self):
        super().__init__()
        self.seen, self.worst = 0, {"loss": np.float32(0)}
        self.largest = np.zeros(2)

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        self.largest = np.maximum(self.largest, [self.seen, batch])
        self.model.optimizer.learning_rate = 0.01 / (
            self.seen + float(self.largest.sum())
        )


def patient():
    return [
        keras.callbacks.EarlyStopping(
            "loss", patience=1, min_delta=10.0, restore_best_weights=True
        ),
        keras.callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=10.0),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("callbacks", [patient, lambda: [Counting()]])
def test_what_training_changes_in_other_callbacks(tmp_path, callbacks):
    options = {"callbacks": callbacks, "epochs": 4}
    check(tmp_path / "backup", **options)


@pytest.mark.slow
def test_schedules_by_epoch_begin_the_epoch_as_they_would(tmp_path):
    def schedule():
        return [keras.callbacks.LearningRateScheduler(lambda e: 0.01 / (e + 1))]

    stops = (1, 0), (2, 3)
    check(tmp_path / "a", stops, "epoch", callbacks=schedule)


@pytest.mark.slow
def test_killed_after_the_last_epoch(tmp_path):
    """The best weights are restored again; nothing is trained again."""

    class StopAtEnd(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            raise Stopped

    options = {"callbacks": patient, "epochs": 4}
    expected = run(**options)
    interrupted = {**options, "callbacks": lambda: [*patient(), StopAtEnd()]}
    assert run(tmp_path / "b", **interrupted) is None
    assert_same(run(tmp_path / "b", **options), expected)


@pytest.mark.slow
def test_data_that_begin_with_the_initial_epoch(tmp_path, whole):
    assert run(tmp_path / "b", stop=(1, 3)) is None
    keras.utils.set_random_seed(0)
    made = distiller()
    backup = kd.callbacks.BackupAndResume(tmp_path / "b")
    assert backup.initial_epoch == 1
    history = made.fit(
        kd.datasets.batches(X, Y, SIZE, seed=0, first_epoch=1),
        steps_per_epoch=STEPS,
        epochs=EPOCHS,
        initial_epoch=backup.initial_epoch,
        validation_data=(X, Y),
        verbose=0,
        callbacks=[backup],
    )
    assert history.history == whole[1]


@pytest.mark.slow
def test_another_run_is_refused_and_other_data_are_told(tmp_path):
    def begun(name):
        assert run(tmp_path / name, stop=(1, 1)) is None
        return tmp_path / name

    with pytest.raises(ValueError, match="networks, losses or optimizer"):
        run(begun("a"), optimizer=lambda: keras.optimizers.SGD(0.1))

    def other_teacher(student):
        teacher = network(16)
        teacher.set_weights([2 * w for w in teacher.get_weights()])
        return teacher

    with pytest.raises(ValueError, match="differ in: teacher"):
        run(tmp_path / "a", teacher=other_teacher)

    def other_data():
        data = kd.datasets.batches(X, Y, SIZE, seed=1)
        return (data,), {"steps_per_epoch": STEPS}

    with pytest.warns(UserWarning, match="first batch"):
        run(tmp_path / "a", data=other_data)


@pytest.mark.parametrize(
    "dataset, words",
    [
        (lambda d: d.shuffle(9).batch(4), "'shuffle'"),
        (lambda d: d.shuffle(9, seed=1).batch(4), None),
        (
            lambda d: d.map(lambda x: x + tf.random.uniform([])).batch(4),
            "'RandomUniform'",
        ),
        (
            lambda d: d.map(
                lambda x: x + tf.random.stateless_uniform([], [1, 2])
            ).batch(4),
            None,
        ),
    ],
)
def test_orders_that_nobody_knows_are_told(dataset, words):
    from keras_distill._data import replay

    tf.random.set_seed(None)
    data = dataset(tf.data.Dataset.from_tensor_slices(X))
    reason = replay.why_not_the_same_again(data, True)
    assert (words in reason) if words else reason is None
    assert "seed" in replay.why_not_the_same_again(X, True)
    assert replay.why_not_the_same_again(X, False) is None
    tf.random.set_seed(0)
    assert replay.why_not_the_same_again(X, True) is None
    seeded = dataset(tf.data.Dataset.from_tensor_slices(X))
    assert replay.why_not_the_same_again(seeded, True) is None


def test_keras_own_callback_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match="kd.callbacks.BackupAndResume"):
        run(
            epochs=1,
            callbacks=lambda: [keras.callbacks.BackupAndRestore(tmp_path)],
        )


def test_bad_arguments(tmp_path):
    for wrong in (0, 2.5, "batch", True):
        with pytest.raises((TypeError, ValueError), match="save_freq"):
            kd.callbacks.BackupAndResume(tmp_path, wrong)
    model = network()
    model.compile("sgd", crossentropy())
    with pytest.raises(TypeError, match="distiller"):
        model.fit(
            X,
            Y,
            verbose=0,
            callbacks=[kd.callbacks.BackupAndResume(tmp_path)],
        )


# The files.


def test_the_last_two_are_kept_and_a_damaged_one_is_passed_over(tmp_path):
    files = BackupFiles(tmp_path / "backup")
    assert files.latest() is None
    for number in range(1, 5):
        files.write(number, {"shared": number, "local": "here"})
    first, second = sorted((tmp_path / "backup").iterdir())
    assert files.latest() == (4, 4, "here")
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1
    second.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged.*the one before"):
        assert files.latest() == (3, 3, "here")
    first.write_bytes(first.read_bytes()[:-1])
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match="Delete the directory"),
    ):
        files.latest()
    files.remove()
    assert not (tmp_path / "backup").exists()


def test_several_processes_go_on_from_what_all_have(tmp_path):
    chief, worker = (BackupFiles(tmp_path, p, 2) for p in range(2))
    for number in 1, 2:
        chief.write(number, {"shared": number, "local": "chief"})
    assert chief.latest() is None
    worker.write(1, {"local": "worker"})
    assert chief.latest() == (1, 1, "chief")
    assert worker.latest() == (1, 1, "worker")


def test_callbacks_keep_their_arguments():
    class Patient(keras.callbacks.Callback):
        def __init__(self, patience):
            super().__init__()
            self.patience, self.left = patience, patience
            self.function, self.best = print, [np.arange(3.0), None]

    before, other = Patient(3), Patient(3)
    state = CallbackState([before, other])
    before.left, before.best = 1, [np.ones(3), ("a", np.float32(2))]
    changes = state.changes()
    after, same = Patient(5), Patient(5)
    CallbackState([after, same]).restore(changes)
    assert (after.patience, after.left) == (5, 1)
    np.testing.assert_array_equal(after.best[0], np.ones(3))
    assert same.left == 5
