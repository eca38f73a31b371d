"""Generations: who teaches whom, from which weights, with what left over."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from generations_worker import grouped
from networks import CLASSES
from networks import Subclassed
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill._keras.fingerprint import fingerprint

X, Y = data(64)
BATCHES = kd.datasets.batches(X, Y, 16, seed=0)


def born_again(build_student=convnet, dataset=BATCHES, **options):
    arguments = {
        "generations": 1,
        "optimizer": keras.optimizers.Adam(0.01),
        "loss": crossentropy(),
        "metrics": ["accuracy"],
        # A few steps each: tracing would take longer than they do.
        "run_eagerly": True,
        "steps_per_epoch": 4,
        "verbose": 0,
    }
    arguments.update(options)
    return kd.born_again(build_student, dataset, **grouped(**arguments))


class Spy(kd.losses.SoftTargets):
    """Notes the teacher of each Distiller that is fitted."""

    taught = []

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        Spy.taught.append(self._networks)
        return super().compute_loss(teacher_outputs, student_outputs, **kwargs)

    def bind(self, teacher, student):
        super().bind(teacher, student)
        self._networks = (id(teacher), id(student))


@pytest.fixture(scope="module")
def three():
    """Three generations, for several tests to look at."""
    Spy.taught = []
    return born_again(
        distillation_losses=Spy(),
        generations=3,
        epochs=20,
        validation_data=(X, Y),
        optimizer=keras.optimizers.Adam(0.05),
        run_eagerly=False,
    )


@pytest.mark.slow
def test_each_generation_is_taught_by_the_one_before(three):
    models = three.models
    assert len(models) == 4
    pairs = [(id(a), id(b)) for a, b in zip(models, models[1:])]
    assert list(dict.fromkeys(Spy.taught)) == pairs
    assert len({fingerprint(model) for model in models}) == 4
    # The teacher alone teaches: no label is needed.
    assert "distillation_loss" not in three.histories[0]
    for history in three.histories[1:]:
        np.testing.assert_allclose(
            history["loss"], history["distillation_loss"], rtol=1e-6
        )
        assert len(history["val_accuracy"]) == 20


@pytest.mark.slow
def test_they_learn_and_it_says_how_well(three):
    for model, metrics in zip(three.models, three.metrics):
        right = model.predict(X, verbose=0).argmax(-1) == Y
        assert metrics["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
        assert metrics["accuracy"] > 0.5
        assert set(metrics) == {"loss", "accuracy"}
    lines = str(three).splitlines()
    assert lines[0].split() == [
        *("generation", "network", "parameters", "accuracy", "loss")
    ]
    assert lines[2].startswith("0 (plain)")
    assert lines[4].split()[3] == f"{three.metrics[2]['accuracy']:.4f}"


@pytest.mark.slow
def test_ensembles_of_generations(three):
    probabilities = [
        tf.nn.softmax(model.predict(X, verbose=0)) for model in three.models
    ]
    for ensemble, members in (
        (three.ensemble(2), slice(1, 3)),
        (three.ensemble(), slice(1, 4)),
    ):
        np.testing.assert_allclose(
            tf.nn.softmax(ensemble.predict(X, verbose=0)),
            np.mean(probabilities[members], axis=0),
            atol=1e-6,
        )
    for count in (0, 4):
        with pytest.raises(ValueError, match="3 generations"):
            three.ensemble(count)


@pytest.mark.slow
def test_one_generation_is_one_fit_of_a_distiller():
    teacher = convnet(8)
    (_, student) = born_again(
        teacher=teacher, epochs=2, alpha=0.5, seed=3, run_eagerly=False
    ).models
    from keras_distill.distillers.generations import networks

    networks.set_seeds(3, 1, networks.WEIGHTS)
    by_hand = convnet()
    distiller = kd.Distiller(
        student=by_hand,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
        alpha=0.5,
    )
    distiller.compile(keras.optimizers.Adam(0.01), crossentropy())
    distiller.fit(BATCHES, epochs=2, steps_per_epoch=4, verbose=0)
    for a, b in zip(student.get_weights(), by_hand.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_generations():
    first, second = born_again(), born_again()
    for a, b in zip(first.models, second.models):
        assert fingerprint(a) == fingerprint(b)
    other = born_again(seed=1)
    assert fingerprint(other.models[0]) != fingerprint(first.models[0])
    # Not the next generation of the seed before.
    assert fingerprint(other.models[0]) != fingerprint(first.models[1])


@pytest.mark.slow
def test_a_given_teacher_stays_as_it_is():
    teacher = convnet(8)
    teacher.compile("sgd", crossentropy())
    before, optimizer = fingerprint(teacher), teacher.optimizer
    found = born_again(teacher=teacher, validation_data=(X, Y))
    assert found.models[0] is teacher and found.histories[0] == {}
    assert fingerprint(teacher) == before and teacher.optimizer is optimizer
    assert teacher.trainable
    assert str(found).splitlines()[2].startswith("0 (teacher)")
    right = teacher.predict(X, verbose=0).argmax(-1) == Y
    assert found.metrics[0]["accuracy"] == pytest.approx(right.mean())


@pytest.mark.slow
def test_several_teachers_and_the_variants_of_the_paper():
    teacher = [convnet(8), convnet(4)]
    for loss in (
        kd.losses.ConfidenceWeightedByTeacherMax(),
        kd.losses.DarkKnowledgeWithPermutedPredictions(),
        {"a": kd.losses.SoftTargets(), "b": kd.losses.HardLabels()},
    ):
        found = born_again(teacher=teacher, distillation_losses=loss)
        assert isinstance(found.models[0], kd.Ensemble)
        assert np.isfinite(found.histories[1]["loss"]).all()


@pytest.mark.slow
def test_different_networks_and_data_for_each_generation():
    seen = []

    def dataset(generation, first_epoch):
        seen.append((generation, first_epoch))
        return kd.datasets.batches(X, Y, 16, seed=generation)

    found = born_again(
        [lambda: convnet(2), lambda: convnet(8), lambda: convnet(4)],
        dataset,
        generations=2,
    )
    widths = [model.get_layer("conv1").filters for model in found.models]
    assert widths == [2, 8, 4]
    assert seen == [(0, 0), (1, 0), (2, 0)]


@pytest.mark.slow
def test_no_labels_and_no_loss():
    images = tf.data.Dataset.from_tensor_slices(X).batch(16)
    found = born_again(
        dataset=images,
        teacher=convnet(8),
        loss=None,
        steps_per_epoch=None,
        validation_data=(X, Y),
    )
    assert set(found.metrics[1]) == {"accuracy"}


@pytest.mark.slow
def test_nothing_to_evaluate_on():
    found = born_again(teacher=convnet())
    assert found.metrics == [{}, {}]
    assert str(found).splitlines()[0].endswith("parameters")


@pytest.mark.slow
def test_metrics_that_compare_with_the_teacher():
    found = born_again(
        metrics=["accuracy", kd.metrics.Agreement()],
        validation_data=(X, Y),
    )
    assert "val_agreement" in found.histories[1]
    assert "agreement" not in found.histories[0]
    assert set(found.metrics[1]) == {"loss", "accuracy"}


@pytest.mark.slow
def test_indexed_data_and_networks_that_are_built_by_data():
    found = born_again(
        Subclassed,
        kd.datasets.batches(X, Y, 16, seed=0, indexed=True),
        validation_data=kd.datasets.batches(X, Y, 16),
    )
    assert found.metrics[1]["loss"] > 0
    assert found.models[1].built


def pixels():
    """A network with a decision at each pixel."""
    return keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(CLASSES, 1)]
    )


@pytest.mark.parametrize("of", ["classes", "images"])
def test_weights_of_pixels_count_alike_in_all_generations(of):
    y = np.random.default_rng(0).integers(0, CLASSES, (8, 8, 8))
    if of == "classes":
        given, weights = {"class_weight": {1: 5.0, 2: 0.0}}, ()
        weight = np.choose(y, [1.0, 5.0, 0.0, 1.0])
    else:
        given, weights = {}, (np.arange(8.0),)
        weight = np.arange(8.0)[:, None, None]
    data = tf.data.Dataset.from_tensor_slices((X[:8], y, *weights)).batch(8)
    found = born_again(
        pixels,
        data,
        optimizer=keras.optimizers.SGD(0.0),
        alpha=0.0,
        steps_per_epoch=1,
        **given,
    )
    for model, history in zip(found.models, found.histories, strict=True):
        p = tf.nn.softmax(model(X[:8])).numpy()
        loss = -np.log(np.take_along_axis(p, y[..., None], -1)[..., 0])
        expected = np.mean(weight * loss)
        assert history["loss"] == [pytest.approx(expected, rel=1e-4)]


@pytest.mark.slow
def test_callbacks_are_made_for_each_generation(capsys):
    made = []

    def callbacks(generation):
        made.append(generation)
        return [keras.callbacks.EarlyStopping("loss", min_delta=1e9)]

    found = born_again(callbacks=callbacks, generations=2, epochs=5, verbose=2)
    assert made == [0, 1, 2]
    assert [len(h["loss"]) for h in found.histories] == [2, 2, 2]
    printed = capsys.readouterr().out
    assert "generation 0/2: " in printed and "from labels" in printed
    assert "generation 2/2: " in printed and "by generation 1" in printed
    assert "Epoch 2/5" in printed


# Layers of the teacher.


def wider(head="head"):
    """Its first convolution and head have the shapes of `convnet(4)`."""
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="stem")(image)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="middle")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(CLASSES, name=head)(x))


@pytest.mark.slow
@pytest.mark.parametrize(
    "shared", [["head"], {"conv1": "stem", "head": "head"}], ids=str
)
def test_shared_layers_are_the_teachers_and_stay(shared):
    teacher = wider()
    found = born_again(teacher=teacher, shared_layers=shared, generations=2)
    names = shared if isinstance(shared, dict) else {n: n for n in shared}
    for student in found.models[1:]:
        for own, other in names.items():
            layer, source = student.get_layer(own), teacher.get_layer(other)
            assert not layer.trainable and source.trainable
            for a, b in zip(layer.get_weights(), source.get_weights()):
                np.testing.assert_array_equal(a, b)
            for a, b in zip(layer.weights, source.weights):
                assert a is not b
        # The rest is trained, from weights of its own.
        assert student.get_layer("conv2").trainable


@pytest.mark.slow
def test_shared_layers_of_generation_0():
    found = born_again(shared_layers="head", generations=2)
    heads = [model.get_layer("head").get_weights() for model in found.models]
    for head in heads[1:]:
        np.testing.assert_array_equal(head[0], heads[0][0])
    assert found.models[0].get_layer("head").trainable


# What is refused, before any training.


def shared_head():
    head = keras.layers.Dense(CLASSES, name="head")

    def build():
        image = keras.Input((8, 8, 3))
        return keras.Model(image, head(keras.layers.Flatten()(image)))

    return build


def network():
    model = convnet()
    return lambda: model


WRONG = {
    "no generation": ({"generations": 0}, ValueError, "generations must be"),
    "true": ({"generations": True}, ValueError, "generations must be"),
    "no epoch": ({"epochs": 0}, ValueError, "epochs must be"),
    "negative seed": ({"seed": -1}, ValueError, "seed must be"),
    "a model": ({"build_student": convnet()}, TypeError, "build_student must"),
    "not a model": (
        {"build_student": lambda: 3},
        TypeError,
        "must return a keras.Model",
    ),
    "the same object": (
        {"build_student": network()},
        ValueError,
        "generation 1 has weights of .'generation 0'",
    ),
    "shared weights": (
        {"build_student": shared_head()},
        ValueError,
        "generation 1 has weights of .'generation 0'",
    ),
    "too few functions": (
        {"build_student": [convnet, convnet], "generations": 2},
        ValueError,
        r"needs 3 functions.*\[0, 1, 2\].*from labels",
    ),
    "no loss": ({"loss": None}, ValueError, "generation 0 is trained from"),
    "no labels loss": (
        {"loss": None, "alpha": 0.5, "teacher": convnet(8)},
        ValueError,
        "alpha",
    ),
    "used optimizer": (
        {"optimizer": "used"},
        ValueError,
        "has been used already",
    ),
    "callbacks": ({"callbacks": []}, TypeError, "callbacks must be a function"),
    "nothing to measure": (
        {
            "teacher": convnet(8),
            "loss": None,
            "metrics": None,
            "validation_data": (X, Y),
        },
        ValueError,
        "neither a loss nor metrics",
    ),
    "initial epoch": ({"initial_epoch": 1}, TypeError, "does not take"),
    "of compile": (
        {"jit_compile": True},
        TypeError,
        r"born_again does not take 'jit_compile'.*compile_options=\{",
    ),
    "of fit": (
        {"compile_options": {"epochs": 3}},
        TypeError,
        "compile_options does not take 'epochs'. Pass epochs= to born_again",
    ),
    "of nothing": (
        {"distiller_options": {"student": 3}},
        TypeError,
        "distiller_options does not take 'student'. It takes .'alpha'",
    ),
    "arrays": ({"dataset": (X, Y)}, TypeError, "kd.datasets.batches"),
    "no end": ({"steps_per_epoch": None}, ValueError, "has no end"),
    "unlike classes": (
        {"teacher": convnet(classes=3)},
        ValueError,
        "classes",
    ),
    "a teacher that is none": ({"teacher": 3}, TypeError, "teacher must be"),
    "deploys more": (
        {
            "distillation_losses": kd.losses.ReusedClassifier(
                teacher_layer_name="conv2", student_layer_name="conv2"
            )
        },
        ValueError,
        "shared_layers=",
    ),
    "no such layer": (
        {"shared_layers": ["logits"]},
        ValueError,
        "has no layer 'logits'.*'head'",
    ),
    "no weights": ({"shared_layers": ["pool"]}, ValueError, "no weights"),
    "other shapes": (
        {"teacher": convnet(8), "shared_layers": ["conv1"]},
        ValueError,
        r"'conv1' of the student .*\(3, 3, 3, 4\).*\(3, 3, 3, 8\)",
    ),
    "of an ensemble": (
        {"teacher": [convnet(), convnet()], "shared_layers": ["head"]},
        ValueError,
        "ensemble",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused(case, monkeypatch):
    monkeypatch.setattr(
        keras.Model, "fit", lambda *a, **k: pytest.fail("it trained")
    )
    options, error, message = WRONG[case]
    options = dict(options)
    if options.get("optimizer") == "used":
        options["optimizer"] = keras.optimizers.Adam()
        options["optimizer"].build(convnet().trainable_variables)
    with pytest.raises(error, match=f"(?s){message}"):
        born_again(**options)


def test_the_note_says_which_generation():
    builders = [convnet, convnet, lambda: convnet(classes=3)]
    with pytest.raises(ValueError, match="classes") as caught:
        born_again(builders, generations=2)
    assert caught.value.__notes__ == ["(in generation 2 of kd.born_again)"]


@pytest.mark.slow
def test_fixed_weights_at_the_start_are_warned_of():
    def build():
        keras.utils.set_random_seed(0)
        return convnet()

    with pytest.warns(UserWarning, match="generation 1 begins with the same"):
        born_again(build)


@pytest.mark.slow
def test_float16_students_are_scaled():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        found = born_again(validation_data=(X, Y), run_eagerly=False)
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(found.metrics[0]["loss"])
    assert json.dumps(found.histories)


@pytest.mark.nightly
def test_generations_of_two_replicas_are_those_of_one_device(on_replicas):
    on_replicas(2, generations_of_two_replicas)


def generations_of_two_replicas(strategy):
    dataset = tf.data.Dataset.from_tensor_slices(data(30)).batch(8)
    found = []
    for scope in (tf.distribute.get_strategy(), strategy):
        keras.utils.set_random_seed(0)
        with scope.scope():
            found.append(
                kd.born_again(
                    convnet,
                    dataset,
                    generations=2,
                    epochs=2,
                    compile_options={
                        "optimizer": keras.optimizers.SGD(0.1),
                        "loss": crossentropy(),
                    },
                    verbose=0,
                )
            )
    for one, two in zip(found[0].models, found[1].models, strict=True):
        for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
