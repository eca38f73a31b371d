"""`kd.MovingAverageTeacher`: the average itself, and in a Distiller."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

X, Y = data(64)
layers = keras.layers


def distill(student=None, losses=None, compiled=None, optimizer=None, **kwargs):
    """A Distiller whose teacher is made of `student`."""
    student = student or convnet(batch_norm=True)
    distiller = kd.Distiller(
        student=student,
        teacher=kd.MovingAverageTeacher(student, **kwargs),
        distillation_losses=losses or kd.losses.SoftTargets(),
    )
    distiller.compile(
        optimizer or keras.optimizers.SGD(0.5),
        crossentropy(),
        metrics=["accuracy"],
        **(compiled or {}),
    )
    return distiller


def fit(distiller, epochs=1, **kwargs):
    return distiller.fit(
        X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, **kwargs
    ).history


def steps(distiller, count, batch=8):
    """Weights of student and average after each of `count` steps."""
    student, teacher = [], []
    for i in range(count):
        rows = slice(batch * i, batch * (i + 1))
        distiller.train_on_batch(X[rows], Y[rows])
        student.append(distiller.student.get_weights())
        teacher.append(distiller.moving_teacher.network.get_weights())
    return student, teacher


MOMENTA = {
    "average": lambda m, t: min(m, 1 - 1 / (t + 1)),
    "tensorflow": lambda m, t: min(m, (1 + t) / (10 + t)),
    None: lambda m, t: m,
}


def by_hand(student, first, students, momentum=0.7, warm_up="average"):
    """What is trained is averaged, what is not is the student's."""
    trained = [v.trainable for v in student.weights]
    own, result = first, []
    for t, weights in enumerate(students, start=1):
        m = MOMENTA[warm_up](momentum, t)
        own = [
            m * a + (1 - m) * b if averaged else b
            for averaged, a, b in zip(trained, own, weights, strict=True)
        ]
        result.append(own)
    return result


def assert_equal(got, expected, **kwargs):
    for weights, others in zip(got, expected, strict=True):
        for a, b in zip(weights, others, strict=True):
            np.testing.assert_allclose(a, b, **(kwargs or {"atol": 1e-6}))


@pytest.mark.slow
@pytest.mark.parametrize("warm_up", MOMENTA)
def test_it_is_the_average_written_by_hand(warm_up):
    distiller = distill(momentum=0.7, warm_up=warm_up)
    first = distiller.student.get_weights()
    assert_equal([distiller.moving_teacher.network.get_weights()], [first])
    students, teachers = steps(distiller, 5)
    assert_equal(
        teachers, by_hand(distiller.student, first, students, 0.7, warm_up)
    )
    # The averages are not the student; the moving statistics are.
    kernel, mean = (
        [v.path.endswith(name) for v in distiller.student.weights].index(True)
        for name in ("kernel", "moving_mean")
    )
    assert np.abs(teachers[-1][kernel] - students[-1][kernel]).max() > 1e-3
    np.testing.assert_array_equal(teachers[-1][mean], students[-1][mean])
    assert np.abs(students[-1][mean] - first[mean]).max() > 1e-3


@pytest.mark.slow
def test_momentum_zero_is_the_student():
    distiller = distill(momentum=0.0)
    students, teachers = steps(distiller, 2)
    for a, b in zip(students[-1], teachers[-1]):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_it_varies_less_than_its_student():
    distiller = distill(momentum=0.9)
    students, teachers = steps(distiller, 8)

    def variation(weights):
        flat = [np.concatenate([w.ravel() for w in ws]) for ws in weights]
        return np.array([np.linalg.norm(b - a) for a, b in zip(flat, flat[1:])])

    own, of_student = variation(teachers), variation(students)
    assert (own < of_student).all()
    assert own.mean() < 0.3 * of_student.mean()


@pytest.mark.slow
def test_what_it_says_is_what_the_student_is_taught():
    distiller = distill(momentum=0.9)
    steps(distiller, 4)
    teacher = distiller.moving_teacher
    seen = distiller._networks().teacher_pass(tf.constant(X[:4])).output
    np.testing.assert_allclose(seen, teacher.network(X[:4]), atol=1e-6)
    np.testing.assert_allclose(seen, teacher(X[:4]), atol=1e-6)
    assert np.abs(seen - distiller.student(X[:4])).max() > 1e-3
    # And it is no longer the network that it began as.
    assert int(teacher.steps.numpy()) == 4


def test_neither_trained_nor_counted_as_the_students():
    distiller = distill()
    ids = {id(v) for v in distiller.trainable_variables}
    assert ids == {id(v) for v in distiller.student.trainable_variables}
    assert all(v.trainable for v in distiller.student.trainable_variables)
    assert distiller.deployable_student() is distiller.student


@pytest.mark.slow
def test_its_regularizers_are_not_in_the_objective():
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(inputs)
    outputs = layers.Dense(4, activity_regularizer="l2", name="head")(x)
    student = keras.Model(inputs, outputs)
    expected = float(
        keras.regularizers.L2()(student(X)) / len(X)
    )  # Keras divides by the batch.
    distiller = distill(student, momentum=0.5)
    logs = distiller.train_on_batch(X, Y, return_dict=True)
    parts = 0.5 * logs["student_loss"] + 0.5 * logs["distillation_loss"]
    np.testing.assert_allclose(logs["loss"] - parts, expected, rtol=1e-3)


@pytest.mark.slow
def test_with_taps_by_the_students_names():
    taps = {"teacher_layer_name": "act1", "student_layer_name": "act1"}
    distiller = distill(
        losses={
            "soft": kd.losses.SoftTargets(),
            "hint": kd.losses.Hint(**taps),
            "relation": kd.losses.RelationalDistance(
                teacher_layer_name="pool", student_layer_name="pool"
            ),
        },
        momentum=0.9,
    )
    history = fit(distiller, 2)
    for name in ("soft", "hint", "relation"):
        # Teacher and student begin alike, and part.
        assert history[f"{name}_loss"][-1] > 0, name
    assert "agreement" in history


@pytest.mark.slow
def test_each_sees_a_view_of_its_own():
    student = convnet()
    distiller = kd.Distiller(
        student=student,
        teacher=kd.MovingAverageTeacher(student, momentum=0.0, warm_up=None),
        distillation_losses=kd.losses.SoftTargets(),
        views=kd.views.IndependentNoise(8),
    )
    distiller.compile(keras.optimizers.SGD(0.0), crossentropy())
    # The same weights all along: only the crops differ.
    assert fit(distiller).get("soft_targets_loss")[0] > 1e-6


def test_a_name_that_a_nested_network_has_too():
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(3, 3, name="conv")], name="inner"
    )
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(inner(inputs))
    outputs = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    student = keras.Model(inputs, outputs)
    taps = {"teacher_layer_name": "conv", "student_layer_name": "conv"}
    distiller = distill(student, kd.losses.Hint(**taps))
    assert distiller._networks().teacher_taps.shapes()[1]["conv"][-1] == 4


@pytest.mark.slow
def test_only_when_the_optimizer_steps():
    distiller = distill(
        optimizer=keras.optimizers.SGD(0.5, gradient_accumulation_steps=3),
        momentum=0.7,
    )
    first = distiller.student.get_weights()
    students, teachers = steps(distiller, 7)
    assert_equal(teachers[:2], [first, first], atol=0)
    assert_equal(teachers[3:5], [teachers[2]] * 2, atol=0)
    assert_equal(
        [teachers[2], teachers[5]],
        by_hand(distiller.student, first, [students[2], students[5]]),
    )


@pytest.mark.slow
def test_a_step_that_overflows_is_not_counted():
    optimizer = keras.mixed_precision.LossScaleOptimizer(
        keras.optimizers.SGD(0.5), initial_scale=2.0**120
    )
    student = convnet(dtype="mixed_float16")
    distiller = distill(student, optimizer=optimizer, momentum=0.7)
    teacher = distiller.moving_teacher
    before = teacher.network.get_weights()
    steps(distiller, 2)
    assert_equal([teacher.network.get_weights()], [before], atol=0)
    assert int(teacher.steps.numpy()) == 0
    optimizer.dynamic_scale.assign(1.0)
    steps(distiller, 2)
    assert int(teacher.steps.numpy()) == 2
    for weights in (teacher.network.get_weights(), student.get_weights()):
        assert all(np.isfinite(w).all() for w in weights)
    assert np.abs(teacher.network.get_weights()[0] - before[0]).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "compiled", [{"jit_compile": True}, {"run_eagerly": True}]
)
def test_compiled_in_other_ways(compiled):
    distiller = distill(compiled=compiled, momentum=0.7)
    first = distiller.student.get_weights()
    students, teachers = steps(distiller, 3)
    assert_equal(
        teachers, by_hand(distiller.student, first, students), atol=1e-5
    )


@pytest.mark.slow
def test_saved_and_loaded_it_goes_on_as_if_nothing_had_happened(tmp_path):
    distiller = distill(momentum=0.9, optimizer=keras.optimizers.Adam(0.01))
    fit(distiller)
    distiller.save(tmp_path / "run.keras")
    loaded = kd.load_distiller(tmp_path / "run.keras")
    assert loaded.moving_teacher.momentum == 0.9
    assert int(loaded.moving_teacher.steps.numpy()) == 4
    expected, got = fit(distiller, 2), fit(loaded, 2)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5)
    assert_equal(
        [loaded.moving_teacher.network.get_weights()],
        [distiller.moving_teacher.network.get_weights()],
    )
    with pytest.raises(ValueError, match="moves with its student.*its file"):
        kd.load_distiller(
            tmp_path / "run.keras", teacher=kd.MovingAverageTeacher(convnet())
        )


@pytest.mark.nightly
def test_a_killed_run_is_resumed_with_its_average(tmp_path):
    whole = distill(momentum=0.9)
    weights = whole.get_weights()
    fit(whole, 4)

    class Killed(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    first = distill(momentum=0.9)
    first.set_weights(weights)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit(first, 4, callbacks=[backup, Killed()])
    second = distill(momentum=0.9)
    fit(
        second,
        4,
        callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup")],
    )
    assert int(second.moving_teacher.steps.numpy()) == 16
    assert_equal([second.get_weights()], [whole.get_weights()], atol=1e-5)


@pytest.mark.slow
def test_alone_it_saves_evaluates_and_exports(tmp_path):
    distiller = distill(momentum=0.9)
    fit(distiller)
    teacher = distiller.moving_teacher
    teacher.save(tmp_path / "teacher.keras")
    loaded = keras.saving.load_model(tmp_path / "teacher.keras")
    np.testing.assert_allclose(loaded(X[:4]), teacher(X[:4]), atol=1e-6)
    assert loaded.momentum == 0.9 and int(loaded.steps.numpy()) == 4
    network = teacher.network
    network.compile(loss=crossentropy(), metrics=["accuracy"])
    accuracy = network.evaluate(X, Y, verbose=0)[1]
    assert accuracy == np.mean(network(X).numpy().argmax(-1) == Y)
    network.save(tmp_path / "network.keras")
    plain = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(plain(X[:4]), teacher(X[:4]), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sequential", "subclassed", "own"])
def test_students_of_every_kind(kind):
    class Own(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],), name="scale")

        def call(self, x):
            return x * self.scale

    if kind == "subclassed":
        student = Subclassed()
        student(X[:1])
    else:
        middle = Own() if kind == "own" else layers.Dropout(0.5)
        student = keras.Sequential(
            [layers.Flatten(), middle, layers.Dense(4, name="head")]
        )
        student.build((None, 8, 8, 3))
    distiller = distill(student, momentum=0.7)
    first = student.get_weights()
    np.testing.assert_allclose(
        distiller.moving_teacher(X[:4]), student(X[:4]), atol=1e-6
    )
    students, teachers = steps(distiller, 3)
    assert_equal(teachers, by_hand(distiller.student, first, students))


@pytest.mark.parametrize("momentum", [1.0, -0.1, 1.5, "0.9", True, np.nan])
def test_momentum_lies_in_its_range(momentum):
    with pytest.raises(ValueError, match=r"momentum.*\[0, 1\).*Received"):
        kd.MovingAverageTeacher(convnet(), momentum=momentum)


def test_errors():
    with pytest.raises(ValueError, match="warm_up must be one of 'average'"):
        kd.MovingAverageTeacher(convnet(), warm_up="linear")
    with pytest.raises(TypeError, match="student must be a keras.Model"):
        kd.MovingAverageTeacher("student")
    with pytest.raises(ValueError, match="is not built"):
        kd.MovingAverageTeacher(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ValueError, match="half precision.*mixed_float16"):
        kd.MovingAverageTeacher(convnet(dtype="float16"))
    with pytest.raises(ValueError, match="follows another network"):
        kd.Distiller(
            student=convnet(4),
            teacher=kd.MovingAverageTeacher(convnet(8)),
            distillation_losses=kd.losses.SoftTargets(),
        )

    class NoConfig(keras.Model):
        def __init__(self, width):
            super().__init__()
            self.head = layers.Dense(width)

        def call(self, x):
            return self.head(x)

    student = NoConfig(3)
    student(X[:1])
    with pytest.raises(ValueError, match="could not be copied.*get_config"):
        kd.MovingAverageTeacher(student)


def test_it_is_not_replaced():
    distiller = distill()
    with pytest.raises(ValueError, match="make a new kd.Distiller"):
        distiller.set_teacher(convnet(), check=False)


@pytest.mark.slow
def test_given_later():
    student = convnet()
    distiller = kd.Distiller(
        student=student, distillation_losses=kd.losses.SoftTargets()
    )
    distiller.compile("sgd", crossentropy())
    distiller.evaluate(X, Y, verbose=0)
    distiller.set_teacher(kd.MovingAverageTeacher(student, momentum=0.7))
    first = student.get_weights()
    students, teachers = steps(distiller, 3)
    assert_equal(teachers, by_hand(distiller.student, first, students))
