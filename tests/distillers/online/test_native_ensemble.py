"""ONE: its loss by hand, the branches, and what ships."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import CLASSES
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

layers = keras.layers
X, Y = data(48)


def one(student=None, compile=None, **kwargs):
    made = kd.NativeEnsembleDistiller(
        student=student or convnet(), **{"branch_from": "act1", **kwargs}
    )
    settings = {
        "optimizer": keras.optimizers.SGD(0.1),
        "loss": crossentropy(),
        "metrics": ["accuracy"],
    }
    made.compile(**{**settings, **(compile or {})})
    return made


def fit(made, epochs=1, **kwargs):
    return made.fit(
        X, Y, batch_size=16, epochs=epochs, verbose=0, shuffle=False, **kwargs
    )


def hand_written_branches(network, x):
    """The forward pass from its definition, layer by layer -> z_1.., z_e."""
    layer = network.get_layer
    trunk = layer("act1")(layer("conv1")(x))
    student = layer("head")(layer("pool")(layer("conv2")(trunk)))
    others = [layer("branch_2")(trunk), layer("branch_3")(trunk)]
    g = layer("gate_dense")(tf.reduce_mean(trunk, [1, 2]))
    mean, variance = tf.nn.moments(g, [0])
    norm = layer("gate_batch_norm")
    g = norm.gamma * (g - mean) / tf.sqrt(variance + norm.epsilon) + norm.beta
    g = tf.nn.softmax(tf.nn.relu(g))
    branches = [student, *others]
    ensemble = sum(g[:, i, None] * z for i, z in enumerate(branches))
    return branches, ensemble


def hand_written_step(network, temperature, weight, sample_weight):
    """ONE's objective from the paper -> logs, gradients."""
    with tf.GradientTape() as tape:
        branches, ensemble = hand_written_branches(network, X)
        ce = sum(
            tf.nn.sparse_softmax_cross_entropy_with_logits(Y, z)
            for z in [*branches, ensemble]
        )
        p = tf.stop_gradient(tf.nn.softmax(ensemble / temperature))
        kl = sum(
            tf.reduce_sum(
                p * (tf.math.log(p) - tf.nn.log_softmax(z / temperature)), -1
            )
            for z in branches
        )
        kl = temperature**2 * kl
        ce, kl = (tf.reduce_mean(sample_weight * part) for part in (ce, kl))
        loss = ce + weight * kl
    gradients = tape.gradient(loss, network.trainable_variables)
    logs = {"loss": loss, "student_loss": ce, "distillation_loss": kl}
    return {k: float(v) for k, v in logs.items()}, gradients


@pytest.mark.slow
@pytest.mark.parametrize("eagerly", [False, True])
def test_one_step_is_the_papers_objective(eagerly):
    made = one(
        compile={"run_eagerly": eagerly},
        temperature=2.0,
        distillation_loss_weight=0.7,
    )
    # The ReLU of the gate shall let something through, and unequally.
    made._branched.get_layer("gate_batch_norm").beta.assign([0.3, 1.0, 0.6])
    sample_weight = np.linspace(0, 2, len(X)).astype("float32")
    logs, gradients = hand_written_step(made._branched, 2.0, 0.7, sample_weight)
    variables = made._branched.trainable_variables
    expected = [v.numpy() - 0.1 * g for v, g in zip(variables, gradients)]
    got = made.train_on_batch(X, Y, sample_weight, return_dict=True)
    for name, value in logs.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5)
    for variable, value in zip(variables, expected):
        np.testing.assert_allclose(
            variable, value, atol=2e-6, err_msg=variable.path
        )


def test_the_kl_moves_no_gate():
    made = one(
        distillation_loss_weight=1e4,
        compile={"loss": zero, "run_eagerly": True},
    )
    gate = made._branched.get_layer("gate_dense")
    made._branched.get_layer("gate_batch_norm").beta.assign([0.3, 1.0, 0.6])
    before, head = (
        gate.get_weights(),
        made.student.get_layer("head").get_weights(),
    )
    made.train_on_batch(X, Y)
    for old, new in zip(before, gate.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert np.abs(
        made.student.get_layer("head").get_weights()[0] - head[0]
    ).max()


@keras.saving.register_keras_serializable(package="tests")
def zero(y_true, y_pred):
    return 0.0 * keras.ops.sum(y_pred, axis=-1)


def test_the_branches_are_the_layers_after_the_cut_again():
    student = convnet(batch_norm=True)
    before = student.get_weights()
    made = one(student, branches=4)
    assert made.student is student
    assert made.deployable_student() is student
    for old, new in zip(before, student.get_weights()):
        np.testing.assert_array_equal(old, new)
    kernels = [student.get_layer("conv2").kernel] + [
        made._branched.get_layer(f"branch_{k}").get_layer("conv2").kernel
        for k in (2, 3, 4)
    ]
    assert len({k.numpy().tobytes() for k in kernels}) == 4
    assert {tuple(k.shape) for k in kernels} == {(3, 3, 4, 8)}
    # Trunk once; conv2 and head four times; gate: dense, batch norm.
    tail = 3 * 3 * 4 * 8 + 8 + 8 * CLASSES + CLASSES
    gate = 4 * 4 + 4 + 4 * 4
    assert made.count_params() == student.count_params() + 3 * tail + gate


@pytest.mark.slow
def test_seeded_initializers_do_not_make_equal_branches():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="act1")(inputs)
    x = layers.Flatten()(x)
    initializer = keras.initializers.GlorotUniform(seed=3)
    outputs = layers.Dense(4, kernel_initializer=initializer)(x)
    made = one(keras.Model(inputs, outputs))
    logits = made.predict(X, verbose=0)
    assert np.abs(logits["branch_2"] - logits["branch_3"]).max() > 1e-3
    assert np.abs(logits["branch_1"] - logits["branch_2"]).max() > 1e-3


@pytest.mark.slow
def test_metrics_of_every_branch_and_the_ensemble():
    made = one()
    history = fit(made, epochs=6, validation_data=(X, Y)).history
    assert history["loss"][-1] < history["loss"][0]
    outputs = ["branch_1", "branch_2", "branch_3", "ensemble"]
    assert made.output_names == outputs
    logits = made.predict(X, verbose=0)
    assert list(logits) == outputs
    results = made.evaluate(X, Y, verbose=0, return_dict=True)
    loss = 0.0
    for name in outputs:
        right = (logits[name].argmax(-1) == Y).mean()
        np.testing.assert_allclose(results[f"{name}_accuracy"], right)
        np.testing.assert_allclose(history[f"val_{name}_accuracy"][-1], right)
        loss += float(crossentropy()(Y, logits[name]))
        assert f"{name}_accuracy" in history
    np.testing.assert_allclose(results["loss"], loss, rtol=1e-5)


@pytest.mark.slow
def test_weighted_metrics_and_metric_objects():
    top = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")
    made = one(compile={"metrics": [top], "weighted_metrics": ["accuracy"]})
    weight = np.linspace(0, 2, len(X)).astype("float32")
    results = made.evaluate(
        X, Y, sample_weight=weight, verbose=0, return_dict=1
    )
    logits = made.predict(X, verbose=0)
    for name, values in logits.items():
        right = values.argmax(-1) == Y
        np.testing.assert_allclose(
            results[f"{name}_accuracy"],
            (right * weight).sum() / weight.sum(),
            rtol=1e-5,
        )
        second = np.argsort(values, -1)[:, -2:]
        np.testing.assert_allclose(
            results[f"{name}_top2"], (second == Y[:, None]).any(-1).mean()
        )


@pytest.mark.slow
def test_what_ships(tmp_path):
    made = one(convnet(batch_norm=True))
    fit(made)
    logits = made.predict(X, verbose=0)
    models = {
        "branch_1": made.deployable_student(),
        "branch_2": made.deployable_student(branch=2),
        "ensemble": made.deployable_ensemble(),
    }
    for name, model in models.items():
        path = tmp_path / f"{name}.keras"
        model.save(path)
        with zipfile.ZipFile(path) as file:
            assert "keras_distill" not in json.dumps(
                json.loads(file.read("config.json"))
            )
        np.testing.assert_allclose(
            keras.saving.load_model(path).predict(X, verbose=0),
            logits[name],
            atol=1e-5,
        )
    path = made.export(tmp_path / "student.tflite")
    assert path.stat().st_size
    path = kd.export.export_model(models["ensemble"], tmp_path / "all.tflite")
    assert path.stat().st_size
    with pytest.raises(ValueError, match="branch must be .* from 1 to 3.*4"):
        made.deployable_student(branch=4)


@pytest.mark.slow
def test_saved_and_loaded_it_goes_on_as_if_nothing_had_happened(tmp_path):
    ramp = keras.optimizers.schedules.PolynomialDecay(0.0, 4, 1.0)
    made = one(
        convnet(batch_norm=True),
        {"optimizer": keras.optimizers.Adam(0.01)},
        branches=2,
        temperature=2.0,
        distillation_loss_weight=ramp,
    )
    fit(made)
    made.save(tmp_path / "one.keras")
    made.save_weights(tmp_path / "one.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "one.keras")
    assert (loaded.branches, loaded.temperature) == (2, 2.0)
    expected = fit(made, epochs=2).history
    got = fit(loaded, epochs=2).history
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4)
    for a, b in zip(loaded.weights, made.weights):
        np.testing.assert_allclose(a, b, atol=1e-5)
    made.load_weights(tmp_path / "one.weights.h5")


@pytest.mark.slow
def test_the_weight_may_be_a_schedule():
    ramp = keras.optimizers.schedules.PolynomialDecay(0.0, 2, 1.0)
    made = one(distillation_loss_weight=ramp)
    for weight in (0.0, 0.5, 1.0):
        made.reset_metrics()
        logs = made.train_on_batch(X, Y, return_dict=True)
        np.testing.assert_allclose(
            logs["loss"],
            logs["student_loss"] + weight * logs["distillation_loss"],
            rtol=1e-5,
        )


@pytest.mark.slow
def test_mixed_precision_and_accumulation_and_callbacks(tmp_path):
    made = one(
        convnet(dtype="mixed_float16"),
        {"optimizer": keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)},
    )
    assert type(made.optimizer).__name__ == "LossScaleOptimizer"
    assert made.predict(X, verbose=0)["ensemble"].dtype == np.float32
    history = fit(
        made,
        epochs=8,
        validation_data=(X, Y),
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.keras",
                monitor="val_ensemble_accuracy",
                mode="max",
                save_best_only=True,
            ),
            keras.callbacks.EarlyStopping("val_loss", patience=8),
            keras.callbacks.TensorBoard(tmp_path / "logs"),
        ],
    ).history
    assert history["loss"][-1] < history["loss"][0]
    keras.saving.load_model(tmp_path / "best.keras")


@pytest.mark.slow
def test_a_sequential_student_and_a_nested_trunk():
    student = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="conv1"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(CLASSES),
        ]
    )
    for branch_from in ("conv1", "hidden"):
        made = one(student, branch_from=branch_from)
        made.train_on_batch(X, Y)
    inside = convnet()
    backbone = keras.Model(
        inside.inputs, inside.get_layer("act1").output, name="backbone"
    )
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(backbone(inputs))
    student = keras.Model(inputs, layers.Dense(CLASSES)(x))
    one(student, branch_from="backbone").train_on_batch(X, Y)
    with pytest.raises(ValueError, match="inside of another model.*backbone"):
        one(student, branch_from="backbone/conv1")


def residual():
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    y = layers.Conv2D(4, 3, padding="same", name="inside")(x)
    x = layers.Add(name="block")([x, y])
    side = layers.Conv2D(4, 1, name="side")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(CLASSES, name="head")(x)
    model = keras.Model(inputs, outputs)
    # A layer that is no part of the student's graph, though it hangs on it.
    keras.Model(inputs, side)
    return model


def test_where_it_cannot_be_cut():
    for branch_from, message in (
        ("inside", "paths from .*'image'.* go around it"),
        ("head", "is the student's output"),
        ("blok", "no layer 'blok'.*'block'"),
    ):
        with pytest.raises(ValueError, match=message):
            one(residual(), branch_from=branch_from)
    made = one(residual(), {"run_eagerly": True}, branch_from="block")
    made.train_on_batch(X, Y)
    with pytest.raises(ValueError, match="no layer after it has weights"):
        inputs = keras.Input((4,))
        x = layers.Dense(CLASSES, name="last")(inputs)
        one(keras.Model(inputs, layers.ReLU()(x)), branch_from="last")


@pytest.mark.slow
def test_bad_input():
    for branches in (1, 0, 2.0):
        with pytest.raises(ValueError, match="at least 2.*Received"):
            one(branches=branches)
    with pytest.raises(ValueError, match="subclassed or an unbuilt"):
        one(Subclassed())
    with pytest.raises(ValueError, match="ends in a softmax"):
        one(convnet(head="softmax"))
    with pytest.raises(ValueError, match="temperature must be"):
        one(temperature=0.0)
    for weight in (-1, "1", np.nan):
        with pytest.raises(ValueError, match="distillation_loss_weight"):
            one(distillation_loss_weight=weight)
    with pytest.raises(ValueError, match="needs loss=.*branch"):
        kd.NativeEnsembleDistiller(
            student=convnet(), branch_from="act1"
        ).compile()
    with pytest.raises(ValueError, match="'agreement' compares with"):
        one(compile={"metrics": [kd.metrics.Agreement()]})
    with pytest.raises(ValueError, match="takes no teacher"):
        one().set_teacher(convnet())
    with pytest.raises(ValueError, match="Labels must lie in"):
        one().fit(X, Y + 1, verbose=0)
    with pytest.raises(ValueError, match="no labels.*branches"):
        one().fit(X, verbose=0)
    x = keras.Input((4,))
    two = keras.Model(x, [layers.Dense(2)(x), layers.Dense(3)(x)])
    with pytest.raises(ValueError, match="must have one output"):
        one(two)


def test_weights_of_images_and_void_pixels():
    inputs = keras.Input((4, 4, 2))
    trunk = layers.Conv2D(4, 1, activation="relu", name="trunk")(inputs)
    student = keras.Model(inputs, layers.Conv2D(3, 1)(trunk))
    void = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=7
    )
    settings = {
        "optimizer": keras.optimizers.SGD(0.0),
        "loss": void,
        "metrics": None,
        "run_eagerly": True,  # weights of unlike ranks
    }
    made = one(student, settings, branch_from="trunk")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 4, 4, 2)).astype("float32")
    y = rng.integers(0, 3, (6, 4, 4))
    weights = np.linspace(0, 2, 6).astype("float32")

    def logs(y, weights=None):
        return made.train_on_batch(x, y, weights, return_dict=True)

    each = np.broadcast_to(weights[:, None, None], y.shape)
    of_images, of_pixels = logs(y, weights), logs(y, each)
    assert of_images == pytest.approx(of_pixels, rel=1e-5)
    assert logs(y)["distillation_loss"] > 0
    assert logs(np.full_like(y, 7))["distillation_loss"] == 0
