"""Several networks as one: like any network, whatever its members are."""

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

X, Y = data(64)
layers = keras.layers


def dense(name=None):
    image = keras.Input((8, 8, 3), name="image")
    logits = layers.Dense(CLASSES)(layers.Flatten()(image))
    return keras.Model(image, logits, name=name)


@pytest.fixture
def members():
    """Different networks of the same name, one with a softmax."""
    return [
        convnet(8, batch_norm=True, name="net"),
        convnet(4, head="softmax", name="net"),
        dense("net"),
    ]


def mean(members, weights=(1 / 3, 1 / 3, 1 / 3)):
    outputs = [m.predict(X, verbose=0) for m in members]
    p = [tf.nn.softmax(outputs[0]), outputs[1], tf.nn.softmax(outputs[2])]
    return sum(w * np.asarray(q) for w, q in zip(weights, p))


def probabilities(model, x=X):
    return np.asarray(tf.nn.softmax(model.predict(x, verbose=0)))


@pytest.mark.slow
def test_it_is_evaluated(members):
    ensemble = kd.Ensemble(members, weights=[1, 2, 1])
    ensemble.compile(loss=crossentropy(), metrics=["accuracy"])
    found = ensemble.evaluate(X, Y, verbose=0, return_dict=True)
    p = mean(members, (0.25, 0.5, 0.25))
    right = (p.argmax(-1) == Y).mean()
    assert found["accuracy"] == pytest.approx(right, abs=1e-6)
    loss = -np.log(p[np.arange(len(Y)), Y]).mean()
    assert found["loss"] == pytest.approx(loss, rel=1e-4)
    assert ensemble.count_params() == sum(m.count_params() for m in members)


@pytest.mark.slow
def test_it_is_saved_and_loaded(members, tmp_path):
    kd.Ensemble(members, weights=[1, 2, 1]).save(tmp_path / "e.keras")
    loaded = keras.saving.load_model(tmp_path / "e.keras")
    expected = mean(members, (0.25, 0.5, 0.25))
    np.testing.assert_allclose(probabilities(loaded), expected, atol=1e-6)
    assert len(loaded.models) == 3 and loaded.input.shape == (None, 8, 8, 3)


@pytest.mark.slow
def test_it_is_exported_and_the_file_is_verified(members, tmp_path):
    ensemble = kd.Ensemble(members)
    batches = kd.datasets.batches(X, Y, 16)
    path = tmp_path / "e.tflite"
    kd.export.export_model(ensemble, path, verbose=False)
    result = kd.export.verify(path, ensemble, batches, verbose=False)
    row = result.rows[-1]
    assert row["agreement"] == 1.0
    assert row["max_absolute_difference"] < 1e-4
    assert kd.export.metadata(path)["inputs"]["image"]["shape"] == [1, 8, 8, 3]
    keras_own = tmp_path / "own.tflite"
    ensemble.export(keras_own, format="litert", verbose=False)
    assert keras_own.stat().st_size > 0


@pytest.mark.nightly
def test_it_is_exported_in_int8(members, tmp_path):
    ensemble = kd.Ensemble(members)
    path = tmp_path / "e.tflite"
    kd.export.export_model(
        ensemble,
        path,
        quantization="int8",
        representative_dataset=X,
        verbose=False,
    )
    batches = kd.datasets.batches(X, Y, 16)
    row = kd.export.verify(path, ensemble, batches, verbose=False).rows[-1]
    assert row["max_relative_difference"] < 0.05


@pytest.mark.slow
def test_it_teaches_its_own_member(members):
    student = members[2]
    start = student.get_weights()
    others = [member.get_weights() for member in members[:2]]
    teacher = kd.Ensemble([*members[:2], keras.models.clone_model(student)])
    teacher.models[2].set_weights(start)
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
        alpha=1.0,
    )
    # Before there is data: it has symbolic inputs.
    assert distiller._networks().bound
    distiller.compile(keras.optimizers.Adam(0.01))
    target = probabilities(teacher)

    def distance():
        q = probabilities(student)
        return np.mean(np.sum(target * np.log(target / q), axis=-1))

    before = distance()
    distiller.fit(X, epochs=5, batch_size=16, verbose=0)
    assert distance() < 0.5 * before
    for member, weights in zip(members, others):
        for a, b in zip(member.get_weights(), weights):
            np.testing.assert_array_equal(a, b)
    # And again, now among the teachers.
    again = kd.Ensemble([*members, teacher])
    assert np.isfinite(again(X[:2])).all()


def test_losses_find_layers_of_members_by_path():
    teacher = kd.Ensemble([convnet(8, name="first"), dense()])
    hint = kd.losses.Hint(
        teacher_layer_name="first/act1", student_layer_name="act1"
    )
    kd.Distiller(student=convnet(), teacher=teacher, distillation_losses=hint)
    assert hint.built


def test_its_cost_is_that_of_its_members(members):
    assert kd.cost.multiply_accumulates(kd.Ensemble(members)) == sum(
        kd.cost.multiply_accumulates(member) for member in members
    )


class WithoutTraining(Subclassed):
    def call(self, x):
        return super().call(x)


@pytest.mark.slow
def test_subclassed_members():
    for kind in (Subclassed, WithoutTraining):
        model = kind()
        with pytest.raises(ValueError, match="built keras.Models"):
            kd.Ensemble([model])
        model(X[:2])
        alone = kd.Ensemble([model])
        assert alone.inputs is None and alone.input is None
        np.testing.assert_allclose(
            probabilities(alone), probabilities(model), atol=1e-6
        )
        both = kd.Ensemble([model, convnet()])
        assert both.input.shape == (None, 8, 8, 3)


class Ends(keras.Model):
    """What it ends in cannot be seen."""

    def __init__(self, activation, units=CLASSES):
        super().__init__()
        self.flat = layers.Flatten()
        self.head = layers.Dense(units, activation=activation)

    def call(self, x):
        return self.head(self.flat(x))


def average():
    image = keras.Input((8, 8, 3))
    flat = layers.Flatten()(image)
    heads = [layers.Dense(CLASSES, activation="softmax")(flat) for _ in "ab"]
    return keras.Model(image, layers.Average()(heads))


def test_softmaxes_that_are_not_seen(tmp_path):
    hidden, logits, averaged = Ends("softmax"), Ends(None), average()
    expected = [hidden(X), tf.nn.softmax(logits(X)), averaged(X)]
    ensemble = kd.Ensemble([hidden, logits, averaged])
    assert ensemble.probabilities == [True, False, True]
    np.testing.assert_allclose(
        probabilities(ensemble), np.mean(expected, axis=0), atol=1e-6
    )
    told = kd.Ensemble([hidden], probabilities=[False])
    assert probabilities(told).max() < 0.5
    with pytest.raises(ValueError, match="list of booleans, 2 of them"):
        kd.Ensemble([hidden, logits], probabilities=[True])
    one = Ends("sigmoid", 1)
    one(X)
    with pytest.raises(ValueError, match="two classes or more"):
        kd.Ensemble([one])(X)


def test_dropout_of_members_is_that_of_the_call():
    image = keras.Input((8, 8, 3))
    x = layers.Dropout(0.5)(layers.Flatten()(image))
    member = keras.Model(image, layers.Dense(CLASSES)(x))
    ensemble = kd.Ensemble([member])
    quiet = ensemble(X, training=False)
    np.testing.assert_array_equal(quiet, ensemble(X, training=False))
    assert np.abs(quiet - ensemble(X, training=True)).max() > 1e-3


def test_members_with_named_inputs():
    def two_inputs(scale):
        a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
        x = layers.Dense(CLASSES)(layers.Concatenate()([a, b]))
        return keras.Model({"a": a, "b": b}, layers.Rescaling(scale)(x))

    ensemble = kd.Ensemble([two_inputs(1.0), two_inputs(2.0)])
    assert set(ensemble.input) == {"a", "b"}
    x = {"a": np.ones((5, 3)), "b": np.ones((5, 2))}
    assert probabilities(ensemble, x).shape == (5, CLASSES)


def test_unlike_members_are_refused():
    with pytest.raises(ValueError, match="same classes.*same.*3.*same.*4"):
        kd.Ensemble([convnet(classes=3, name="same"), convnet(name="same")])
    with pytest.raises(ValueError, match="same inputs.*8, 8, 3.*16, 16, 3"):
        kd.Ensemble([convnet(), convnet(size=16)])
    with pytest.raises(ValueError, match="'net' ends in a sigmoid"):
        kd.Ensemble([convnet(), convnet(head="sigmoid", name="net")])
    with pytest.raises(ValueError, match="'net' ends in one unit"):
        kd.Ensemble([convnet(classes=1, name="net")])
