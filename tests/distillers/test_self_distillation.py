"""`kd.BeYourOwnTeacher`: exits taught by the deepest classifier."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import CLASSES
from networks import Subclassed
from networks import crossentropy
from networks import data

import keras_distill as kd

X, Y = data(64)
layers = keras.layers


def network(dtype=None, head=None):
    """Layers `early`, `middle`, `deepest`, `pool`, `head`; widths differ."""
    options = {"padding": "same", "activation": "relu", "dtype": dtype}
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, name="early", **options)(inputs)
    x = layers.Conv2D(6, 3, strides=2, name="middle", **options)(x)
    x = layers.Conv2D(8, 3, strides=2, name="deepest", **options)(x)
    x = layers.GlobalAveragePooling2D(name="pool", dtype=dtype)(x)
    x = layers.Dense(CLASSES, activation=head, name="head", dtype=dtype)(x)
    return keras.Model(inputs, x, name="network")


def own_teacher(
    student=None, exits=("early", "middle"), run_eagerly=False, **kwargs
):
    distiller = kd.BeYourOwnTeacher(
        student=student or network(), exits=list(exits), **kwargs
    )
    distiller.compile(
        keras.optimizers.Adam(0.01),
        crossentropy(),
        metrics=["accuracy"],
        run_eagerly=run_eagerly,
    )
    return distiller


def fit(distiller, epochs=1, **kwargs):
    return distiller.fit(
        X, Y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, **kwargs
    ).history


@pytest.fixture(scope="module")
def trained():
    """For tests that look at it and train it no further."""
    distiller = own_teacher()
    fit(distiller, 2)
    return distiller


@pytest.mark.slow
def test_the_sum_is_the_papers():
    distiller = own_teacher()
    logs = distiller.train_on_batch(X, Y, return_dict=True)
    parts = [logs["student_loss"], logs["exit_1_loss"], logs["exit_2_loss"]]
    np.testing.assert_allclose(logs["loss"], sum(parts), rtol=1e-6)
    assert min(parts) > 0
    assert logs["exit_loss"] == logs["distillation_loss"]
    assert {"exit_1_accuracy", "exit_2_accuracy", "accuracy"} <= set(logs)


@pytest.mark.slow
def test_exits_and_student_are_trained_together():
    distiller = own_teacher(feature_weight=0.1)
    loss = distiller._exit_loss()
    before = [v.numpy() for v in distiller.trainable_variables]
    ids = {id(v) for v in distiller.trainable_variables}
    assert {id(v) for v in loss.trainable_variables} <= ids
    history = fit(distiller, 8)
    assert history["exit_1_loss"][-1] < history["exit_1_loss"][0]
    assert history["student_loss"][-1] < history["student_loss"][0]
    for old, variable in zip(before, distiller.trainable_variables):
        assert np.abs(variable.numpy() - old).max() > 0, variable.path


@pytest.mark.slow
def test_the_deepest_learns_from_labels_alone():
    """Frozen up to the deepest map, head and loss are those of plain
    training: what teaches the exits does not come back."""
    weights = network().get_weights()
    heads = []
    for alone in (False, True):
        student = network()
        student.set_weights(weights)
        for name in ("early", "middle", "deepest"):
            student.get_layer(name).trainable = False
        model = (
            student
            if alone
            else kd.BeYourOwnTeacher(student=student, exits=["early", "middle"])
        )
        model.compile(keras.optimizers.SGD(0.5), crossentropy())
        model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        heads.append(student.get_layer("head").get_weights())
    assert np.abs(heads[0][0] - weights[-2]).max() > 1e-2
    for a, b in zip(*heads):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_evaluate_exits(trained):
    distiller = trained
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(24)
    accuracies = distiller.evaluate_exits(dataset)
    assert list(accuracies) == ["exit_1", "exit_2", "output", "ensemble"]
    assert distiller.evaluate_exits(X, np.eye(CLASSES)[Y]) == accuracies
    assert distiller.evaluate_exits(X, Y[:, None]) == accuracies
    model = distiller.deployable_exits(ensemble=True)
    for name, logits in model.predict(X, verbose=0).items():
        assert accuracies[name] == np.mean(logits.argmax(axis=-1) == Y), name
    evaluated = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    np.testing.assert_allclose(accuracies["output"], evaluated["accuracy"])
    with pytest.raises(ValueError, match="yields nothing"):
        distiller.evaluate_exits(dataset.take(0))


@pytest.mark.slow
def test_what_ships(tmp_path, trained):
    distiller = trained
    assert distiller.deployable_student() is distiller.student
    assert distiller.student.count_params() == network().count_params()
    model = distiller.deployable_exits(ensemble=True)
    model.save(tmp_path / "exits.keras")
    plain = keras.saving.load_model(tmp_path / "exits.keras")
    outputs = {k: v.numpy() for k, v in plain(X[:4]).items()}
    assert list(outputs) == ["exit_1", "exit_2", "output", "ensemble"]
    np.testing.assert_allclose(
        outputs["output"], distiller.student(X[:4]), atol=1e-6
    )
    np.testing.assert_allclose(
        outputs["ensemble"],
        sum(outputs[k] for k in ("exit_1", "exit_2", "output")) / 3,
        atol=1e-6,
    )
    for layer in plain._flatten_layers():
        assert type(layer).__module__.startswith("keras."), layer
    first = keras.Model(model.input, model.output["exit_1"])
    np.testing.assert_allclose(first(X[:4]), outputs["exit_1"], atol=1e-6)
    assert first.count_params() < distiller.student.count_params()


@pytest.mark.slow
def test_exits_on_a_device(tmp_path, trained):
    distiller = trained
    model = distiller.deployable_exits()
    path = tmp_path / "exits.tflite"
    kd.export.export_model(model, path, verbose=False)
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(path)).get_signature_runner()
    got = run(image=X[:1])
    for name, expected in model(X[:1]).items():
        np.testing.assert_allclose(got[name], expected, atol=1e-5)
    distiller.export(tmp_path / "student.tflite", verbose=False)
    assert list(kd.export.metadata(tmp_path / "student.tflite")["outputs"]) == [
        "output_0"
    ]


@pytest.mark.slow
def test_saved_and_loaded_it_goes_on(tmp_path):
    distiller = own_teacher(alpha=0.6, temperature=2.0, feature_weight=0.1)
    fit(distiller)
    distiller.save(tmp_path / "run.keras")
    loaded = kd.load_distiller(tmp_path / "run.keras")
    assert type(loaded) is kd.BeYourOwnTeacher
    assert loaded.exits == ["early", "middle"]
    assert (
        loaded._exit_loss().get_config() == distiller._exit_loss().get_config()
    )
    assert loaded.evaluate_exits(X, Y) == distiller.evaluate_exits(X, Y)
    expected, got = fit(distiller, 2), fit(loaded, 2)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4)


@pytest.mark.slow
def test_mixed_precision():
    distiller = own_teacher(network(dtype="mixed_float16"))
    assert isinstance(
        distiller.optimizer, keras.mixed_precision.LossScaleOptimizer
    )
    history = fit(distiller, 3)
    assert np.isfinite(history["loss"]).all()
    assert {w.dtype for w in distiller._exit_loss().weights} == {"float32"}
    model = distiller.deployable_exits(ensemble=True)
    assert np.isfinite(model(X[:4])["ensemble"]).all()


@pytest.mark.nightly
def test_compiled_with_xla():
    distiller = own_teacher()
    weights = distiller.get_weights()
    expected = fit(distiller)
    other = kd.BeYourOwnTeacher(student=network(), exits=["early", "middle"])
    other.set_weights(weights)
    other.compile(
        keras.optimizers.Adam(0.01),
        crossentropy(),
        metrics=["accuracy"],
        jit_compile=True,
    )
    got = fit(other)
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-3)


@pytest.mark.slow
def test_students_of_other_kinds():
    backbone = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="one"),
            layers.Conv2D(6, 3, strides=2, name="two"),
        ],
        name="backbone",
    )
    student = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            backbone,
            layers.GlobalMaxPooling2D(),
            layers.Dense(CLASSES, name="head"),
            layers.Activation("linear", name="logits"),
        ]
    )
    distiller = own_teacher(student, ["backbone/one"], run_eagerly=True)
    names = distiller._exit_loss().student_layer_name
    assert names == ["backbone/one", "backbone", "logits"]
    fit(distiller)
    model = distiller.deployable_exits()
    np.testing.assert_allclose(
        model(X[:4])["output"], student(X[:4]), atol=1e-6
    )
    assert distiller.evaluate_exits(X, Y)["exit_1"] == np.mean(
        model(X)["exit_1"].numpy().argmax(axis=-1) == Y
    )


@pytest.mark.slow
def test_a_subclassed_student(tmp_path):
    with pytest.raises(ValueError, match="feature_layer_name="):
        own_teacher(Subclassed(), ["conv1"])
    distiller = own_teacher(
        Subclassed(),
        ["conv1"],
        feature_layer_name="act1",
        output_layer_name="head",
        run_eagerly=True,
    )
    fit(distiller)
    assert list(distiller.evaluate_exits(X, Y)) == [
        "exit_1",
        "output",
        "ensemble",
    ]
    with pytest.raises(ValueError, match="cannot become one plain Keras"):
        distiller.deployable_exits()


@pytest.mark.parametrize(
    "exits, message",
    [
        ([], "exits must name one layer"),
        (None, "exits must name one layer"),
        ([3], "exits must name one layer"),
        (["early", "early"], "exits lists a layer twice"),
        (["erly"], "no layer 'erly'.*'early'"),
        (["pool"], "'pool' has shape.*no positions"),
        (["head"], "'head' is the student's output.*before the deepest"),
        (["deepest"], "'deepest' is the student's deepest map"),
    ],
)
def test_exits_that_cannot_be(exits, message):
    with pytest.raises(ValueError, match=message):
        kd.BeYourOwnTeacher(student=network(), exits=exits)


def test_an_exit_behind_the_deepest_map():
    with pytest.raises(ValueError, match="'deepest' does not lead to"):
        own_teacher(exits=["early", "deepest"], feature_layer_name="middle")


def test_other_errors():
    with pytest.raises(ValueError, match="ends in a softmax"):
        own_teacher(network(head="softmax"))
    with pytest.raises(TypeError, match="student must be a keras.Model"):
        kd.BeYourOwnTeacher(student="network", exits=["early"])
    distiller = kd.BeYourOwnTeacher(student=network(), exits=["early"], alpha=1)
    with pytest.raises(ValueError, match="needs loss="):
        distiller.compile("adam")
    distiller.compile("adam", crossentropy())
    with pytest.raises(ValueError, match="needs labels"):
        distiller.fit(X, verbose=0)
