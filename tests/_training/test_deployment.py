"""Losses that ship the teacher's classifier: SimKD, IJCKD, and SRRL beside."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from marks import nightly
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

layers = keras.layers
X, Y = data(48)
TAPS = {"teacher_layer_name": "conv2", "student_layer_name": "conv2"}
DEPLOYING = {
    "reused": kd.losses.ReusedClassifier,
    "ideal": kd.losses.IdealJointClassifier,
}


@pytest.fixture(params=["reused", *nightly("ideal")])
def make_loss(request):
    return DEPLOYING[request.param]


def distill(loss, student=None, teacher=None, compile=None, **kwargs):
    distiller = kd.Distiller(
        student=student or convnet(batch_norm=True),
        teacher=teacher or convnet(8),
        distillation_losses=loss,
        **kwargs,
    )
    settings = {
        "optimizer": keras.optimizers.Adam(0.01),
        "loss": crossentropy(),
        "metrics": ["accuracy"],
        **(compile or {}),
    }
    distiller.compile(**settings)
    return distiller


def fit(distiller, epochs=1, **kwargs):
    return distiller.fit(
        X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, **kwargs
    )


def test_the_teachers_logits_are_those_of_its_own_map():
    """Of 7x7 positions: pooled to 4x4, the windows overlap."""
    loss = kd.losses.IdealJointClassifier(
        cross_entropy_weight=0.0, feature_weight=0.0, **TAPS
    )
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(5, 3)), rng.normal(size=3)
    loss.set_classifier(kernel, bias)
    teacher, student = (rng.normal(size=(2, n, n, 5)) for n in (7, 4))
    logits = loss.classify(
        loss.features(teacher, student)[1].numpy().mean(axis=(1, 2))
    )
    expected = np.mean(
        (logits - teacher.mean(axis=(1, 2)) @ kernel - bias) ** 2
    )
    np.testing.assert_allclose(
        loss.compute_loss(teacher, student), expected, rtol=1e-5
    )


# By hand: NumPy and tf.nn on the stored weights.


def connector_weights(loss):
    convolutions = [w for w in loss.weights if w.name == "kernel"]
    normalizations = zip(
        *(
            [w for w in loss.weights if w.name == name]
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
    )
    return list(zip(convolutions, normalizations))


def connected(loss, features, training=False):
    """conv - BN - ReLU, three times."""
    x = np.asarray(features)
    for kernel, (gamma, beta, mean, variance) in connector_weights(loss):
        x = tf.nn.conv2d(x, kernel, 1, "SAME").numpy()
        if training:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        scale = np.asarray(gamma) / np.sqrt(np.asarray(variance) + 1e-5)
        x = np.maximum((x - np.asarray(mean)) * scale + np.asarray(beta), 0)
    return x


def tap(model, x, training=False, name="conv2"):
    inner = keras.Model(model.input, model.get_layer(name).output)
    return inner(x, training=training).numpy()


def deployed(loss, student, teacher, x, training=False):
    z = connected(loss, tap(student, x, training), training)
    return head(teacher, z.mean((1, 2)))


def head(teacher, features):
    kernel, bias = teacher.get_layer("head").get_weights()
    return features @ kernel + bias


def mean_crossentropy(logits, y):
    log_q = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -log_q[np.arange(len(y)), y].mean()


@pytest.mark.slow
def test_evaluate_predict_and_metrics_use_the_deployed_logits(make_loss):
    student, teacher = convnet(batch_norm=True), convnet(8)
    loss = make_loss(**TAPS)
    distiller = distill(
        loss,
        student,
        teacher,
        {"metrics": ["accuracy", kd.metrics.Agreement()]},
    )
    fit(distiller, 2)
    logits = deployed(loss, student, teacher, X)
    assert np.abs(logits - student(X)).max() > 0.01
    np.testing.assert_allclose(
        distiller.predict(X, verbose=0), logits, atol=1e-4
    )
    np.testing.assert_allclose(distiller(X), logits, atol=1e-4)
    got = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    decided = logits.argmax(-1)
    expected = {
        "loss": mean_crossentropy(logits, Y),
        "accuracy": np.mean(decided == Y),
        "agreement": np.mean(decided == teacher(X).numpy().argmax(-1)),
    }
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("make_loss", DEPLOYING.values(), ids=DEPLOYING)
def test_one_step_is_the_objective(make_loss):
    """With SoftTargets beside it, which reads the student's own head."""
    student, teacher = convnet(batch_norm=True), convnet(8)
    loss = make_loss(**TAPS)
    distiller = distill(
        {"reuse": loss, "mse": kd.losses.LogitsMSE()},
        student,
        teacher,
        alpha=0.25,
    )
    own, wanted = student(X, training=True).numpy(), teacher(X).numpy()
    z = connected(loss, tap(student, X, True), training=True)
    target = tap(teacher, X)
    logits = head(teacher, z.mean((1, 2)))
    ce = mean_crossentropy(logits, Y)
    reuse = np.mean((z - target) ** 2)
    if make_loss is kd.losses.IdealJointClassifier:
        reuse += ce + np.mean((logits - wanted) ** 2)
    expected = {
        "student_loss": ce,
        "reuse_loss": reuse,
        "mse_loss": np.sum((own - wanted) ** 2, -1).mean(),
        "accuracy": np.mean(logits.argmax(-1) == Y),
        "agreement": np.mean(logits.argmax(-1) == wanted.argmax(-1)),
    }
    expected["distillation_loss"] = expected["mse_loss"] + reuse
    expected["loss"] = 0.25 * expected["distillation_loss"] + 0.75 * ce
    got = distiller.train_on_batch(X, Y, return_dict=True)
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(
            got[name], expected[name], rtol=1e-4, err_msg=name
        )


@pytest.mark.slow
def test_the_connector_runs_once_per_step_and_its_statistics_move_once():
    loss = kd.losses.ReusedClassifier(**TAPS)
    student = convnet()
    distiller = distill(
        loss, student, compile={"optimizer": keras.optimizers.SGD(0.0)}
    )
    (kernel, (_, _, mean, variance)), *_ = connector_weights(loss)
    x = tf.nn.conv2d(tap(student, X), kernel, 1, "SAME").numpy()
    distiller.train_on_batch(X, Y)
    np.testing.assert_allclose(mean, 0.1 * x.mean((0, 1, 2)), atol=1e-5)
    moved = 0.9 + 0.1 * x.var((0, 1, 2))
    np.testing.assert_allclose(variance, moved, rtol=1e-4)
    before = distiller.get_weights()
    distiller.evaluate(X, Y, verbose=0)
    distiller.predict(X, verbose=0)
    for a, b in zip(distiller.get_weights(), before):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_the_teachers_classifier_is_copied_and_not_trained(make_loss):
    teacher = convnet(8)
    loss = make_loss(**TAPS)
    distiller = distill(loss, teacher=teacher)
    kernel, bias = teacher.get_layer("head").get_weights()
    fit(distiller)
    distiller.trainable = True
    fit(distiller)
    np.testing.assert_array_equal(loss.classifier_kernel, kernel)
    np.testing.assert_array_equal(loss.classifier_bias, bias)
    assert not any(w is v for w in teacher.weights for v in distiller.weights)
    assert len(loss.trainable_variables) == 9


@pytest.mark.slow
def test_pure_distillation_needs_no_labels_and_learns():
    teacher = convnet(8)
    loss = kd.losses.ReusedClassifier(**TAPS)
    distiller = distill(loss, teacher=teacher, compile={"loss": None}, alpha=1)
    history = distiller.fit(X, batch_size=16, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    ideal = kd.losses.IdealJointClassifier(**TAPS)
    distiller = distill(ideal, teacher=teacher, compile={"loss": None}, alpha=1)
    with pytest.raises(ValueError, match="needs labels"):
        distiller.fit(X, verbose=0)


# What ships.


@pytest.mark.slow
def test_the_deployable_student_is_one_plain_model(make_loss, tmp_path):
    teacher, loss = convnet(8), make_loss(**TAPS)
    distiller = distill(loss, teacher=teacher)
    fit(distiller)
    expected = deployed(loss, distiller.student, teacher, X)
    model = distiller.deployable_student()
    assert model is not distiller.student
    assert model.input_shape == distiller.student.input_shape
    assert model.output_shape == (None, 4)
    np.testing.assert_allclose(model(X), expected, atol=1e-4)
    model.save(tmp_path / "student.keras")
    model.export(tmp_path / "saved", verbose=False)
    np.save(tmp_path / "x.npy", X)
    code = f"""
import sys, keras, numpy as np, tensorflow as tf
x = np.load({str(tmp_path / "x.npy")!r})
model = keras.saving.load_model({str(tmp_path / "student.keras")!r})
saved = tf.saved_model.load({str(tmp_path / "saved")!r})
np.save({str(tmp_path / "y.npy")!r}, [model(x), saved.serve(x)])
assert not [m for m in sys.modules if m.startswith("keras_distill")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    for got in np.load(tmp_path / "y.npy"):
        np.testing.assert_allclose(got, expected, atol=1e-4)
    # Its trunk is the student's: it goes on with it.
    fit(distiller)
    moved = deployed(loss, distiller.student, teacher, X)
    assert np.abs(moved - expected).max() > 1e-4
    np.testing.assert_allclose(model(X), moved, atol=1e-4)


@pytest.mark.slow
def test_export_to_tflite(make_loss, tmp_path):
    teacher, loss = convnet(8), make_loss(**TAPS)
    distiller = distill(loss, teacher=teacher)
    fit(distiller)
    distiller.export(tmp_path / "student.tflite")
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(tmp_path / "student.tflite"))
    (given,), (result,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )
    interpreter.resize_tensor_input(given["index"], (8, 8, 8, 3))
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], X[:8])
    interpreter.invoke()
    expected = deployed(loss, distiller.student, teacher, X[:8])
    got = interpreter.get_tensor(result["index"])
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("student_size", [8, 12])
def test_a_larger_map_is_averaged_down(student_size, tmp_path):
    """8 -> 4 divides; 12 -> 8 does not: windows overlap."""
    teacher = convnet(8, size=8)
    if student_size == 12:
        teacher = convnet(8, size=16)
    views = kd.views.Preprocessing(
        student=layers.Resizing(student_size, student_size),
        teacher=layers.Resizing(*teacher.input_shape[1:3]),
    )
    loss = kd.losses.ReusedClassifier(
        teacher_layer_name="conv2", student_layer_name="act1"
    )
    distiller = distill(loss, convnet(size=student_size), teacher, views=views)
    fit(distiller)
    x = views.evaluation(X)
    model = distiller.deployable_student()
    expected = distiller.predict(X, verbose=0)
    np.testing.assert_allclose(model(x), expected, atol=1e-4)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded(x), expected, atol=1e-4)
    z = np.asarray(loss.pooled(tap(distiller.student, x, name="act1")))
    assert z.shape[1:3] == teacher.get_layer("conv2").output.shape[1:3]
    if student_size == 8:
        full = tap(distiller.student, x, name="act1")
        by_hand = full.reshape(len(X), 4, 2, 4, 2, -1).mean((2, 4))
        np.testing.assert_allclose(z, by_hand, atol=1e-6)


@pytest.mark.slow
def test_nested_and_sequential_students():
    backbone = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="first"),
            layers.Conv2D(6, 3, name="last"),
        ],
        name="backbone",
    )
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(backbone(layers.Rescaling(2.0)(inputs)))
    nested = keras.Model(inputs, layers.Dense(4)(x))
    sequential = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(5, 3, name="last"),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    for student, name in ((nested, "backbone/last"), (sequential, "last")):
        loss = kd.losses.ReusedClassifier(
            teacher_layer_name="conv2", student_layer_name=name
        )
        distiller = distill(loss, student)
        fit(distiller)
        expected = distiller.predict(X, verbose=0)
        got = distiller.deployable_student()(X)
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.slow
def test_a_layer_called_twice():
    inputs = keras.Input((8, 8, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="conv")
    x = layers.GlobalAveragePooling2D()(conv(conv(inputs)))
    student = keras.Model(inputs, layers.Dense(4)(x))
    for name in ("conv#0", "conv#1"):
        loss = kd.losses.ReusedClassifier(
            teacher_layer_name="conv2", student_layer_name=name
        )
        distiller = distill(loss, student)
        expected = distiller.predict(X, verbose=0)
        got = distiller.deployable_student()(X)
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.slow
def test_subclassed_students_train_and_say_why_they_do_not_ship():
    class Changed(keras.Model):
        def call(self, x, training=None):
            return super().call(x * 2.0)

    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="act1")(inputs)
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    for student, reason in (
        (Subclassed(), "it is a subclassed model"),
        (Changed(inputs, x), "Changed overrides `call`"),
    ):
        loss = kd.losses.ReusedClassifier(
            teacher_layer_name="conv2", student_layer_name="act1"
        )
        distiller = distill(loss, student)
        with pytest.raises(ValueError, match="Functional API"):
            distiller.deployable_student()
        history = fit(distiller, 4).history
        assert history["loss"][-1] < history["loss"][0]
        assert distiller.predict(X, verbose=0).shape == (48, 4)
        with pytest.raises(ValueError, match=reason):
            distiller.deployable_student()


def test_not_built_yet():
    loss = kd.losses.ReusedClassifier(
        teacher_layer_name="conv2", student_layer_name="act1"
    )
    with pytest.raises(ValueError, match="has not seen the networks yet"):
        distill(loss, Subclassed()).predict(X, verbose=0)


# Saving.


@pytest.mark.slow
def test_saved_and_loaded_it_goes_on_as_if_nothing_had_happened(
    make_loss, tmp_path
):
    teacher = convnet(8)
    distiller = distill(make_loss(**TAPS), teacher=teacher)
    fit(distiller)
    path = tmp_path / "d.keras"
    distiller.save(path)
    expected = distiller.predict(X, verbose=0)
    alone = keras.saving.load_model(path)
    np.testing.assert_allclose(alone.predict(X, verbose=0), expected, atol=1e-6)
    np.testing.assert_allclose(
        alone.deployable_student()(X), expected, atol=1e-5
    )
    alone.evaluate(X, Y, verbose=0)
    loaded = kd.load_distiller(path, teacher=teacher)
    wanted, got = fit(distiller, 2).history, fit(loaded, 2).history
    assert got.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-4)
    other = convnet(8)
    loaded.set_teacher(other, check=False)
    (loss,) = loaded.distillation_losses.values()
    np.testing.assert_array_equal(
        loss.classifier_kernel, other.get_layer("head").kernel
    )


@pytest.mark.slow
def test_callbacks_with_weights(tmp_path):
    teacher = convnet(8)
    distiller = distill(kd.losses.ReusedClassifier(**TAPS), teacher=teacher)
    fit(
        distiller,
        2,
        validation_data=(X, Y),
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                tmp_path / "w.weights.h5", save_weights_only=True
            )
        ],
    )
    other = distill(kd.losses.ReusedClassifier(**TAPS), teacher=teacher)
    other.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_allclose(
        other.predict(X, verbose=0), distiller.predict(X, verbose=0), atol=1e-6
    )


# Heads and policies.


@pytest.mark.slow
def test_teachers_with_other_heads():
    """A softmax is left out, a hidden Dense is not the classifier."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="conv2")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.5)(x)
    softmax = keras.Model(
        inputs, layers.Dense(4, activation="softmax", name="head")(x)
    )
    separate = keras.Model(
        inputs,
        layers.Softmax()(layers.Dense(4, use_bias=False, name="head")(x)),
    )
    y = layers.Conv2D(6, 3, name="conv2")(inputs)
    y = layers.GlobalAveragePooling2D(keepdims=True)(y)
    y = layers.Conv2D(4, 1, name="head")(y)
    convolution = keras.Model(inputs, layers.Flatten()(y))
    for teacher in (softmax, separate, convolution):
        loss = kd.losses.SoftmaxRegression(**TAPS)
        distill(loss, teacher=teacher)
        kernel = teacher.get_layer("head").kernel.numpy().reshape(6, 4)
        np.testing.assert_array_equal(loss.classifier_kernel, kernel)
        features = tap(teacher, X)
        logits = loss.classify(features.mean((1, 2)))
        found = teacher(X).numpy()
        if teacher is not convolution:
            logits = tf.nn.softmax(logits)
        np.testing.assert_allclose(logits, found, atol=1e-5)


@pytest.mark.slow
def test_classifiers_that_the_teacher_lacks():
    named = {"teacher_classifier_layer_name": "top", **TAPS}
    with pytest.raises(ValueError, match="no layer 'top'.*'head'"):
        distill(kd.losses.ReusedClassifier(**named))
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv2")(inputs)
    headless = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    with pytest.raises(ValueError, match="does not end in a Dense layer"):
        distill(kd.losses.ReusedClassifier(**TAPS), teacher=headless)
    wrong = {"teacher_layer_name": "act1", "student_layer_name": "conv2"}
    with pytest.raises(ValueError, match="reads 16 features.*8 channels"):
        distill(kd.losses.ReusedClassifier(**wrong))
    vector = {"teacher_layer_name": "pool", "student_layer_name": "pool"}
    with pytest.raises(ValueError, match="both must be maps"):
        distill(kd.losses.ReusedClassifier(**vector))
    loss = kd.losses.ReusedClassifier(**TAPS)
    with pytest.raises(ValueError, match="does not know the teacher's"):
        loss.build((None, 4, 4, 8), (None, 4, 4, 4))
    subclassed = Subclassed(8)
    subclassed(X)
    taps = {"teacher_layer_name": "act1", "student_layer_name": "conv2"}
    with pytest.raises(ValueError, match="teacher_classifier_layer_name"):
        fit(distill(kd.losses.ReusedClassifier(**taps), teacher=subclassed))
    taps["teacher_classifier_layer_name"] = "head"
    fit(distill(kd.losses.ReusedClassifier(**taps), teacher=subclassed))


def test_only_one_loss_ships():
    losses = {
        "one": kd.losses.ReusedClassifier(**TAPS),
        "two": kd.losses.IdealJointClassifier(**TAPS),
    }
    with pytest.raises(ValueError, match="'one' .*'two' .IdealJointClassifier"):
        distill(losses)
    distill([losses["one"], kd.losses.SoftmaxRegression(**TAPS)])


def test_a_loss_of_probabilities_is_warned_of():
    student = convnet(head="softmax")
    with pytest.warns(UserWarning, match="the deployed output is logits"):
        distill(
            kd.losses.ReusedClassifier(**TAPS),
            student,
            compile={"loss": "sparse_categorical_crossentropy"},
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{"run_eagerly": True}, *nightly({"jit_compile": True})],
    ids=str,
)
def test_ways_to_run_give_the_same_weights(settings):
    teacher, results = convnet(8), []
    for way in ({}, settings):
        keras.utils.set_random_seed(3)
        distiller = distill(
            kd.losses.IdealJointClassifier(**TAPS),
            teacher=teacher,
            compile={"optimizer": keras.optimizers.SGD(0.05), **way},
        )
        fit(distiller)
        results.append(distiller.get_weights())
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.slow
def test_mixed_float16(tmp_path):
    student = convnet(batch_norm=True, dtype="mixed_float16")
    distiller = distill(kd.losses.IdealJointClassifier(**TAPS), student)
    history = fit(distiller, 6).history
    assert history["loss"][-1] < history["loss"][0]
    expected = distiller.predict(X, verbose=0)
    assert expected.dtype == "float32"
    model = distiller.deployable_student()
    np.testing.assert_allclose(model(X), expected, atol=1e-2)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded(X), model(X), atol=1e-5)


@keras.saving.register_keras_serializable(package="tests")
class Scaled(kd.losses.DistillationLoss):
    """A user's loss that deploys, with nothing but `deployed_logits`."""

    def deployed_logits(self, student_outputs, training):
        return 2.0 * student_outputs

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return kd.losses.weighted_mean((teacher_outputs - student_outputs) ** 2)


@pytest.mark.slow
def test_a_loss_of_the_user():
    student = convnet()
    distiller = distill(Scaled(student_layer_name="head"), student)
    fit(distiller)
    expected = 2.0 * student(X)
    np.testing.assert_allclose(distiller.predict(X, verbose=0), expected, 1e-4)
    shipped = distiller.deployable_student()(X)
    np.testing.assert_allclose(shipped, expected, 1e-4)
