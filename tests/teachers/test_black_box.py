"""A teacher of which only the output is known."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill._keras.fingerprint import fingerprint
from keras_distill.teachers.teacher_fingerprint import teacher_fingerprint

WEIGHTS = np.arange(12.0).reshape(3, 4)


@keras.saving.register_keras_serializable(package="tests")
def by_hand(images):
    """Logits of the mean colour."""
    return images.mean(axis=(1, 2)) @ WEIGHTS


def black_box(network, **options):
    """A network behind a function."""

    def function(images):
        return network.predict_on_batch(images)

    return kd.BlackBox(function, (8, 8, 3), **options)


def distiller(teacher, loss=None, student=None, jit_compile=False):
    keras.utils.set_random_seed(0)
    result = kd.Distiller(
        student=student or convnet(),
        teacher=teacher,
        distillation_losses=loss or kd.losses.SoftTargets(),
    )
    result.compile(
        "sgd",
        crossentropy(),
        metrics=["accuracy", kd.metrics.Agreement()],
        jit_compile=jit_compile,
    )
    return result


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_it_computes_what_the_function_does(dtype):
    x = (10 * data(5)[0]).clip(0).astype(dtype)
    box = kd.BlackBox(by_hand, (8, 8, 3))
    expected = by_hand(x.astype("float64"))
    in_graph = tf.function(box)(tf.constant(x))
    for output in (box(x), in_graph, box.predict(x, verbose=0)):
        assert keras.backend.standardize_dtype(output.dtype) == "float32"
        np.testing.assert_allclose(output, expected, rtol=1e-5)


def test_it_is_a_part_of_other_models():
    inputs = keras.Input((8, 8, 3))
    box = kd.BlackBox(by_hand, (8, 8, 3))
    model = keras.Model(inputs, box(keras.layers.Rescaling(2.0)(inputs)))
    x = data(3)[0]
    assert model.output_shape == (None, 4)
    np.testing.assert_allclose(model(x), by_hand(2.0 * x), rtol=1e-5)


def test_several_inputs_come_as_a_dict():
    def ends(inputs):
        return np.stack([inputs["a"][:, 0], inputs["b"][:, -1]], axis=-1)

    box = kd.BlackBox(ends, {"a": (3,), "b": (2,)})
    a, b = np.ones((5, 3), "float32"), np.zeros((5, 2), "float32")
    for inputs in ({"b": b, "a": a}, [a, b]):
        np.testing.assert_array_equal(box(inputs), [[1.0, 0.0]] * 5)
    with pytest.raises(ValueError, match=r"has the inputs \['a', 'b'\]"):
        box({"a": a})


def test_a_softmax_is_seen_and_another_end_is_told():
    assert kd.BlackBox(by_hand, (8, 8, 3)).output_activation is None
    box = black_box(convnet(head="softmax"))
    assert box.output_activation == "softmax"
    # An ensemble of one is the way to logits.
    x = data(3)[0]
    np.testing.assert_allclose(
        keras.ops.softmax(kd.Ensemble([box])(x)), box(x), atol=1e-6
    )
    box = black_box(convnet(head="sigmoid"), activation="sigmoid")
    assert box.output_activation == "sigmoid"


def test_probabilities_are_refused_unless_the_loss_knows():
    box = black_box(convnet(head="softmax"))
    with pytest.raises(ValueError, match="black box.*Ensemble"):
        distiller(box)
    distiller(box, kd.losses.SoftTargets(teacher_probabilities=True))


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: [x, x], "must return one array"),
        (lambda x: x[:1], r"array of shape \(4, 2\)"),
        (lambda x: x[:, 0], "at least two axes"),
        (len, "version: the source"),
    ],
)
def test_functions_that_are_none(function, message):
    with pytest.raises((TypeError, ValueError), match=message):
        kd.BlackBox(function, (2,))


def test_class_names_are_as_many_as_classes():
    with pytest.raises(ValueError, match="class_names has 3 names.*gives 4"):
        kd.BlackBox(by_hand, (8, 8, 3), class_names=["a", "b", "c"])


def test_its_fingerprint_is_that_of_its_source():
    one = kd.BlackBox(by_hand, (8, 8, 3))
    same = kd.BlackBox(by_hand, (8, 8, 3), name="another_name")
    other = kd.BlackBox(by_hand, (8, 8, 3), version="2")
    assert fingerprint(one) == one.source_sha256 == fingerprint(same)
    assert fingerprint(other) != fingerprint(one)
    network = convnet()
    assert fingerprint(kd.Ensemble([one, network])) == fingerprint(
        kd.Ensemble([same, network])
    )
    assert fingerprint(kd.Ensemble([one, network])) != fingerprint(
        kd.Ensemble([other, network])
    )
    assert teacher_fingerprint(distiller(one)) == one.source_sha256


def test_it_is_saved_if_its_function_can_be(tmp_path):
    box = kd.BlackBox(by_hand, (8, 8, 3), class_names=list("abcd"))
    kd.Ensemble([box, convnet()]).save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras").models[0]
    assert loaded.source_sha256 == box.source_sha256
    assert loaded.get_config() == box.get_config()


@pytest.mark.parametrize("loss", [kd.losses.Hint, kd.losses.SoftmaxRegression])
def test_it_has_no_layers(loss):
    box = kd.BlackBox(by_hand, (8, 8, 3))
    taps = {"teacher_layer_name": "conv1", "student_layer_name": "conv1"}
    with pytest.raises(ValueError, match="black box.*SoftTargets"):
        distiller(box, loss(**taps))
    with pytest.raises(ValueError, match="black box.*SoftTargets"):
        kd.taps.suggest(box, convnet())


def numbers_of_training(teacher, strategy=None, dtype=None):
    """Losses and metrics of a training."""
    x, y = data(32)
    with (strategy or tf.distribute.get_strategy()).scope():
        keras.utils.set_random_seed(0)
        runs = distiller(teacher, student=convnet(dtype=dtype))
    history = runs.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    result = runs.evaluate(x, y, verbose=0, return_dict=True)
    values = [*history.history["loss"], *result.values()]
    return [float(value) for value in values]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [None, "mixed_float16"])
def test_it_teaches_as_the_network_in_it(dtype):
    network = convnet(8)
    np.testing.assert_allclose(
        numbers_of_training(network, dtype=dtype),
        numbers_of_training(black_box(network), dtype=dtype),
        rtol=1e-3,
    )


def numbers_on_replicas_and_one_device(strategy):
    box = kd.BlackBox(by_hand, (8, 8, 3))
    return [numbers_of_training(box, s) for s in (strategy, None)]


@pytest.mark.slow
def test_it_teaches_on_replicas(on_replicas):
    trained = on_replicas(2, numbers_on_replicas_and_one_device)
    np.testing.assert_allclose(*trained, rtol=1e-3)


@pytest.mark.slow
def test_xla_is_left_out():
    x, y = data(16)
    with pytest.warns(UserWarning, match="XLA cannot compile.*black_box"):
        runs = distiller(kd.BlackBox(by_hand, (8, 8, 3)), jit_compile=True)
    runs.fit(x, y, verbose=0)
    # One that comes after `compile`, as in a loaded Distiller.
    runs = distiller(convnet(), jit_compile=True)
    runs.set_teacher(kd.BlackBox(by_hand, (8, 8, 3)))
    with pytest.warns(UserWarning, match="XLA cannot compile.*black_box"):
        runs.fit(x, y, verbose=0)


@pytest.mark.slow
def test_it_runs_once_into_a_cache(tmp_path):
    x, y = data(32)
    box = kd.BlackBox(by_hand, (8, 8, 3))
    cache = kd.TeacherCache.build(box, x, tmp_path, verbose=False)
    batches = kd.datasets.batches(x, y, batch_size=16, indexed=True)
    losses = []
    for teacher, dataset in ((None, cache.join(batches)), (box, batches)):
        runs = distiller(box)
        if teacher is None:
            runs = kd.Distiller(
                student=runs.student,
                distillation_losses=kd.losses.SoftTargets(),
            )
            runs.compile("sgd", crossentropy())
        losses.append(runs.fit(dataset, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-3)
    with pytest.raises(ValueError, match="is of another teacher"):
        other = kd.BlackBox(by_hand, (8, 8, 3), version="2")
        kd.TeacherCache.build(other, x, tmp_path, verbose=False)


@pytest.mark.slow
def test_the_report_does_not_count_what_it_cannot_see(tmp_path):
    import json

    x, y = data(32)
    runs = distiller(kd.BlackBox(by_hand, (8, 8, 3)))
    dataset = kd.datasets.batches(x, y, batch_size=16)
    path = kd.write_report(tmp_path / "report.html", runs, dataset)
    facts = json.loads(path.with_suffix(".json").read_text())
    teacher = facts["networks"]["teacher"]
    assert teacher["parameters"] is teacher["multiply_accumulates"] is None
