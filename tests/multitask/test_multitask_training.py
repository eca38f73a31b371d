"""The proximal step: after each step that moved the weights, at its rate."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd
from keras_distill import multitask

TASKS = {"shape": 2, "texture": 3}
X = np.random.default_rng(0).normal(size=(24, 6)).astype("float32")
Y = np.random.default_rng(1).normal(size=(24, 5)).astype("float32")
STRUCTURES = {
    "feature": lambda: multitask.FeatureTransformation(0.5),
    "clustering": lambda: multitask.TaskClustering(2, 0.5, 0.1),
    "decomposition": lambda: multitask.ParameterDecomposition(
        [("linf", 0.5), ("l1", 0.3)]
    ),
}


def network(structure="feature", dtype=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    heads = multitask.Heads(
        TASKS, STRUCTURES[structure](), name="heads", dtype=dtype
    )
    logits = list(heads(inputs).values())
    return keras.Model(inputs, keras.layers.Concatenate()(logits))


def rates():
    return keras.optimizers.schedules.ExponentialDecay(0.2, 1, 0.8)


OPTIMIZERS = {
    "schedule": lambda: keras.optimizers.SGD(rates()),
    "accumulation": lambda: keras.optimizers.SGD(
        0.2, gradient_accumulation_steps=2
    ),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.2), initial_scale=8.0
    ),
    "several": lambda: keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            keras.optimizers.SGD(0.001), {"heads.*": keras.optimizers.SGD(0.2)}
        )
    ),
}


def distiller(student, optimizer, **kwargs):
    """One that trains by labels alone."""
    made = kd.Distiller(
        student=student,
        teacher=kwargs.pop("teacher", None) or network(),
        distillation_losses=kd.losses.LogitsMSE(),
        alpha=0.0,
    )
    made.compile(optimizer, "mse", run_eagerly=True, **kwargs)
    return made


def by_hand(student, name):
    """Six batches of 4, with plain SGD and the structure's own functions."""
    heads, parts = student.get_layer("heads"), None
    sums, rate = 0.0, 0.2
    for step in range(6):
        x, y = X[4 * step : 4 * step + 4], Y[4 * step : 4 * step + 4]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((y - student(x)) ** 2)
            loss += sum(student.losses)
        variables = student.trainable_variables
        sums = [
            a + b
            for a, b in zip(
                sums or [0.0] * len(variables), tape.gradient(loss, variables)
            )
        ]
        if name == "accumulation" and step % 2 == 0:
            continue
        count = 2 if name == "accumulation" else 1
        for variable, gradient in zip(variables, sums):
            variable.assign(variable - rate / count * gradient)
        parts = heads.parts()
        values = {n: tf.convert_to_tensor(p) for n, p in parts.items()}
        for part, value in heads.structure.shrink(values, rate).items():
            parts[part].assign(value)
        sums = 0.0
        if name == "schedule":
            rate *= 0.8
    return student.get_weights()


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer, structure",
    [
        ("accumulation", "feature"),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in (
                ("loss scale", "feature"),
                ("several", "feature"),
                ("schedule", "clustering"),
                ("schedule", "decomposition"),
            )
        ),
    ],
)
def test_every_way_to_train_takes_the_same_steps(optimizer, structure):
    expected = by_hand(network(structure), optimizer)

    student = network(structure)
    made = distiller(student, OPTIMIZERS[optimizer]())
    for step in range(6):
        batch = slice(4 * step, 4 * step + 4)
        made.train_on_batch(X[batch], Y[batch])
    assert_same(student.get_weights(), expected)

    model = network(structure)
    model.compile(OPTIMIZERS[optimizer](), "mse", run_eagerly=True)
    model.fit(
        X,
        Y,
        batch_size=4,
        shuffle=False,
        verbose=0,
        callbacks=[kd.callbacks.ProximalSteps()],
    )
    assert_same(model.get_weights(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_compiled_step(jit_compile):
    """And the callback leaves the steps to the Distiller."""
    student = network()
    made = kd.Distiller(
        student=student,
        teacher=network(),
        distillation_losses=kd.losses.LogitsMSE(),
        alpha=0.0,
    )
    made.compile(
        OPTIMIZERS["schedule"](),
        "mse",
        jit_compile=jit_compile,
        steps_per_execution=3,
    )
    made.fit(
        X,
        Y,
        batch_size=4,
        shuffle=False,
        verbose=0,
        callbacks=[kd.callbacks.ProximalSteps()],
    )
    expected = by_hand(network(), "schedule")
    for a, b in zip(student.get_weights(), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_skipped_gradient_has_no_step():
    student = network(dtype="mixed_float16")
    made = distiller(student, keras.optimizers.SGD(0.2))
    before = student.get_weights()
    made.train_on_batch(1e4 * X[:4], 1e6 * Y[:4])
    for a, b in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    made.train_on_batch(X[:4], Y[:4])
    assert not np.array_equal(student.get_weights()[0], before[0])


def test_heads_that_are_not_trained_have_none():
    inputs = keras.Input((6,))
    heads = multitask.Heads(TASKS, STRUCTURES["feature"](), trainable=False)
    x = keras.layers.Dense(6)(inputs)
    logits = keras.layers.Concatenate()(list(heads(x).values()))
    student = keras.Model(inputs, logits)
    before = heads.get_weights()
    made = distiller(student, keras.optimizers.SGD(0.2))
    made.train_on_batch(X, Y)
    np.testing.assert_array_equal(heads.get_weights()[0], before[0])


def test_a_moving_teacher_follows_what_is_left():
    student = network()
    teacher = kd.MovingAverageTeacher(student, momentum=0.0, warm_up=None)
    made = distiller(student, keras.optimizers.SGD(0.2), teacher=teacher)
    made.train_on_batch(X, Y)
    assert_same(teacher.network.get_weights(), student.get_weights())


def test_what_ships_has_no_structure():
    student = network()
    plain = distiller(student, "sgd").deployable_student()
    kinds = {type(layer).__name__ for layer in plain.layers}
    assert kinds == {"InputLayer", "Dense", "Concatenate"}
    np.testing.assert_allclose(plain(X), student(X), atol=1e-6)


@pytest.mark.slow
def test_losses_by_task_saved_and_exported(tmp_path):
    def of_tasks():
        inputs = keras.Input((6,))
        heads = multitask.Heads(TASKS, STRUCTURES["clustering"]())
        return keras.Model(inputs, heads(inputs))

    student, teacher = of_tasks(), of_tasks()
    made = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses={task: kd.losses.LogitsMSE() for task in TASKS},
    )
    made.compile(keras.optimizers.SGD(0.0), {task: "mse" for task in TASKS})
    y = {"shape": Y[:, :2], "texture": Y[:, 2:]}
    logs = made.fit(X, y, batch_size=24, verbose=0).history
    answers, targets = student(X), teacher(X)
    for task in TASKS:
        squares = (answers[task] - targets[task]) ** 2
        expected = np.sum(squares, -1).mean()
        found = logs[f"{task}_logits_mse_loss"][0]
        assert found == pytest.approx(expected, rel=1e-4)
    made.save(tmp_path / "made.keras")
    loaded = kd.load_distiller(tmp_path / "made.keras", teacher)
    assert loaded.fit(X, y, batch_size=24, verbose=0).history == logs
    path = made.export(tmp_path / "student.tflite", verbose=False)
    exported = kd.export.load(path)(X)
    for task in TASKS:
        np.testing.assert_allclose(exported[task], answers[task], atol=1e-5)


def test_errors_of_the_callback():
    def fit(model, **options):
        model.compile("sgd", "mse", **options)
        steps = kd.callbacks.ProximalSteps()
        model.fit(X, Y, verbose=0, callbacks=[steps])

    with pytest.raises(ValueError, match="steps_per_execution=2 hides"):
        fit(network(), steps_per_execution=2)
    with pytest.raises(ValueError, match="is not built.*Call the model on"):
        fit(keras.Sequential([keras.layers.Dense(5)]))
    plain = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)])
    with pytest.raises(ValueError, match="No trained layer of .* has a prox"):
        fit(plain)


def test_the_first_generation_takes_the_steps_of_a_distiller():
    dataset = tf.data.Dataset.from_tensors((X, Y))
    length = {"epochs": 3, "steps_per_epoch": 1, "verbose": 0}
    first, _ = kd.born_again(
        network,
        dataset,
        generations=1,
        distiller_options={"distillation_losses": kd.losses.LogitsMSE()},
        compile_options={"optimizer": keras.optimizers.SGD(0.2), "loss": "mse"},
        **length,
    ).models
    made = distiller(network(), keras.optimizers.SGD(0.2))
    made.fit(dataset.repeat(), **length)
    assert_same(first.get_weights(), made.student.get_weights())
