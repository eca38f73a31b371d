"""CRD: the loss, its memories and its draws."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import random
from marks import nightly
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill.losses import ContrastiveRepresentation
from keras_distill.losses.relation import memory_bank

X, Y = data(20)


def features(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def contrast(**kwargs):
    options = {"sample_count": 12, "embedding_size": 5, "negatives": 7}
    return ContrastiveRepresentation(**{**options, **kwargs})


def test_one_step_by_hand():
    """From the docstring's formulas; the reference cases have more."""
    loss = contrast(dtype="float64")
    teacher, student = features(3, 6), features(3, 4, seed=1)
    loss.build(teacher.shape, student.shape)
    index = np.array([4, 0, 11])
    drawn = loss.draw_contrast(tf.constant(index)).numpy()
    loss.draw_contrast = lambda sample_index: tf.constant(drawn)
    memory = {
        "teacher": loss.teacher_memory.numpy(),
        "student": loss.student_memory.numpy(),
    }
    vectors = {
        "teacher": unit(teacher @ loss.teacher_dense.kernel.numpy()),
        "student": unit(student @ loss.student_dense.kernel.numpy()),
    }
    expected = 0.0
    m = 7 / 12
    for one, other in (("student", "teacher"), ("teacher", "student")):
        o = np.exp(
            np.einsum("bkd,bd->bk", memory[other][drawn], vectors[one]) / 0.07
        )
        x = o / (o.mean() * 12)
        own = -np.log(x[:, 0] / (x[:, 0] + m + 1e-7))
        others = -np.log(m / (x[:, 1:] + m + 1e-7)).sum(axis=1)
        expected += (own + others).mean()
    found = loss.compute_loss(teacher, student, sample_index=index)
    np.testing.assert_allclose(found, expected)
    for name in ("teacher", "student"):
        after = memory[name].copy()
        after[index] = unit(0.5 * after[index] + 0.5 * vectors[name])
        np.testing.assert_allclose(
            getattr(loss, f"{name}_memory").numpy(), after
        )


def test_the_normalizer_is_that_of_the_first_step():
    loss = contrast()
    index = np.array([1, 2, 3])
    loss.compute_loss(features(3, 6), features(3, 4), sample_index=index)
    first = loss.log_normalizers.numpy()
    assert (first > -100).all()
    teacher = 5 * features(3, 6, seed=2)
    loss.compute_loss(teacher, features(3, 4), sample_index=index)
    np.testing.assert_array_equal(loss.log_normalizers.numpy(), first)


def test_gradient_with_a_known_normalizer():
    loss = contrast(dtype="float64")
    teacher, student = features(3, 6), features(3, 4, seed=1)
    loss.build(teacher.shape, student.shape)
    drawn = loss.draw_contrast(tf.constant([1, 5, 6]))
    loss.draw_contrast = lambda sample_index: drawn
    state = [v.numpy() for v in loss.non_trainable_variables]

    def compute(x):
        for variable, before in zip(loss.non_trainable_variables, state):
            variable.assign(before)
        loss.log_normalizers.assign([3.0, 4.0])
        return loss.compute_loss(teacher, x, sample_index=[1, 5, 6])

    x = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = compute(x)
    gradient = tape.gradient(result, x).numpy()
    direction = features(3, 4, seed=2)
    ahead, behind = (compute(student + s * direction) for s in (1e-6, -1e-6))
    slope = float(ahead - behind) / 2e-6
    np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-6)


@pytest.mark.parametrize("samples", [5, 500])
def test_scores_either_way(samples):
    """By all products, or by the chosen rows alone."""
    vectors, memory = features(3, 4), features(samples, 4, seed=1)
    indices = np.random.default_rng(0).integers(0, samples, (3, 6))
    found = memory_bank.contrast_scores(
        tf.constant(vectors), tf.constant(memory), tf.constant(indices)
    )
    np.testing.assert_allclose(
        found, np.einsum("bkd,bd->bk", memory[indices], vectors)
    )


def test_draws_are_all_the_others_and_new_each_time():
    seed = random.SeedGenerator(0)
    index = tf.constant([0, 2, 4])
    first, second = (
        memory_bank.draw_others(index, 400, 5, seed).numpy() for _ in range(2)
    )
    assert (first[:, 1:] != second[:, 1:]).any()
    np.testing.assert_array_equal(first[:, 0], index)
    for row, own in zip(first, [0, 2, 4]):
        assert set(row[1:]) == set(range(5)) - {own}


def test_negatives_of_the_same_class_are_left_out():
    weights = memory_bank.weights_of_other_classes(
        tf.constant([1, 2]), tf.constant([[1, 0, -1, 3], [2, 2, 2, 2]])
    )
    np.testing.assert_allclose(weights, [[0, 4 / 3, 4 / 3, 4 / 3], [0] * 4])
    loss = contrast(negatives_from="other_classes")
    assert loss.needs_labels and not contrast().needs_labels
    index, labels = np.array([3, 4, 5]), np.array([7, 7, 8])
    loss.compute_loss(
        features(3, 6), features(3, 4), y=labels, sample_index=index
    )
    np.testing.assert_array_equal(loss.label_memory.numpy()[3:6], labels)
    assert (loss.label_memory.numpy()[6:] == -1).all()


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_no_temperature_overflows(temperature):
    loss = contrast(temperature=temperature)
    student = tf.constant(features(3, 4), "float32")
    for _ in range(2):
        with tf.GradientTape() as tape:
            tape.watch(student)
            result = loss.compute_loss(
                tf.constant(features(3, 6), "float32"),
                student,
                sample_index=[0, 1, 2],
            )
        assert np.isfinite(result)
        assert np.isfinite(tape.gradient(result, student)).all()


@pytest.mark.slow
@pytest.mark.parametrize("index", [[0, -1, 3], *nightly([0, 1, 12])])
def test_an_index_outside_of_the_memory(index):
    loss = contrast()
    teacher, student = features(3, 6), features(3, 4)
    with pytest.raises(ValueError, match="has 12 rows, for indices 0 to 11"):
        loss.compute_loss(teacher, student, sample_index=np.array(index))
    compiled = tf.function(
        lambda i: loss.compute_loss(teacher, student, sample_index=i),
        jit_compile=True,
    )
    assert np.isnan(compiled(tf.constant(index)))


@pytest.mark.slow
def test_indices_known_while_tracing():
    loss = contrast()
    teacher, student = features(3, 6), features(3, 4)
    step = tf.function(
        lambda index: loss.compute_loss(teacher, student, sample_index=index)
    )
    assert np.isfinite(step(np.array([0, 5, 11])))
    inside = tf.constant([0, 5, 11])
    assert np.isfinite(tf.function(lambda: step(inside))())
    captured = tf.function(
        lambda: loss.compute_loss(teacher, student, sample_index=inside)
    )
    assert np.isfinite(captured())


def test_what_must_be_given():
    teacher, student = features(3, 6), features(3, 4)
    with pytest.raises(ValueError, match="sample_index=None"):
        contrast().compute_loss(teacher, student)
    with pytest.raises(ValueError, match="y=None"):
        contrast(negatives_from="other_classes").compute_loss(
            teacher, student, sample_index=[0, 1, 2]
        )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"sample_count": 1}, "sample_count must be an integer of at least 2"),
        ({"negatives": 0}, "negatives must be"),
        ({"embedding_size": 2.5}, "embedding_size must be"),
        ({"temperature": 0.0}, "temperature must be a positive"),
        ({"momentum": 1.0}, "momentum must be a number in"),
        ({"negatives_from": "batch"}, "negatives_from must be one of"),
        ({"form": "mean"}, "form must be one of"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        contrast(**arguments)


def test_a_list_of_one_layer():
    loss = ContrastiveRepresentation(
        sample_count=8,
        negatives=2,
        teacher_layer_name=["pool"],
        student_layer_name=["pool"],
        seed=1,
    )
    taps = [{"pool": np.eye(4, width, dtype="float32")} for width in (6, 5)]
    assert np.isfinite(loss.compute_loss(*taps, sample_index=np.arange(4)))


def test_widths_must_be_known():
    with pytest.raises(ValueError, match="known sizes") as error:
        contrast().build((None, 8), (None, None, None, 8))
    assert "teacher (None, 8), student (None, None, None, 8)" in str(
        error.value
    )


# Inside of a Distiller.


def distill(teacher=None, learning_rate=0.01, compile=None, **kwargs):
    loss = contrast(
        teacher_layer_name="pool",
        student_layer_name="pool",
        **{"sample_count": 20, "temperature": 0.5, **kwargs},
    )
    distiller = kd.Distiller(
        student=convnet(),
        teacher=teacher or convnet(8),
        distillation_losses={"soft": kd.losses.SoftTargets(), "crd": loss},
    )
    distiller.compile(
        keras.optimizers.Adam(learning_rate), crossentropy(), **compile or {}
    )
    return distiller


def indexed():
    dataset = tf.data.Dataset.from_tensor_slices((X, Y))
    return kd.views.indexed(dataset).shuffle(20, seed=3).batch(5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "compile",
    [{"steps_per_execution": 3}, *nightly({}, {"jit_compile": True})],
    ids=str,
)
def test_every_sample_has_its_row(compile):
    """With momentum and learning rate 0 a row is what its sample gives."""
    distiller = distill(
        learning_rate=0.0,
        momentum=0.0,
        compile=compile,
        negatives_from="other_classes",
    )
    history = distiller.fit(indexed(), epochs=1, verbose=0).history
    assert np.isfinite(history["crd_loss"]).all()
    loss = distiller.distillation_losses["crd"]
    np.testing.assert_array_equal(loss.label_memory.numpy(), Y)
    for role, model in (
        ("teacher", distiller._networks().teacher),
        ("student", distiller.student),
    ):
        pool = model.get_layer("pool").output
        features = keras.Model(model.inputs, pool)(X)
        vectors = getattr(loss, f"{role}_dense")(features).numpy()
        memory = getattr(loss, f"{role}_memory").numpy()
        np.testing.assert_allclose(memory, unit(vectors), atol=1e-5)


TOO_SMALL = "has 12 rows, for indices 0 to 11.*sample_count="


def test_a_memory_that_is_too_small_for_the_first_batch():
    distiller = distill(sample_count=12)
    x = kd.views.indexed(X)
    with pytest.raises(ValueError, match=TOO_SMALL):
        distiller.train_on_batch(x, Y)
    with pytest.raises(ValueError, match=TOO_SMALL):
        # All of the arrays are looked at.
        distiller.fit(x, Y, batch_size=10, verbose=0)
    with pytest.raises(ValueError, match=TOO_SMALL):
        dataset = kd.datasets.batches(X, Y, 10, indexed=True)
        distiller.fit(dataset.skip(1), verbose=0)
    assert int(distiller.optimizer.iterations) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "compile", [{"jit_compile": True}, *nightly({})], ids=str
)
def test_a_memory_that_is_too_small_for_a_later_batch(compile):
    """Compiled code cannot raise: the index is looked at before."""
    distiller = distill(sample_count=12, compile=compile)
    dataset = kd.datasets.batches(X, Y, 10, indexed=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match=TOO_SMALL):
        distiller.fit(dataset, verbose=0)
    # No step was made with a loss that is NaN.
    assert all(np.isfinite(w).all() for w in distiller.get_weights())


@pytest.mark.slow
def test_saved_and_loaded_it_goes_on_with_its_memory(tmp_path):
    teacher, dataset = convnet(8), kd.datasets.batches(X, Y, 8, indexed=True)
    distiller = distill(teacher)
    distiller.fit(dataset, epochs=2, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = kd.load_distiller(tmp_path / "distiller.keras", teacher=teacher)
    for a, b in zip(loaded.variables, distiller.variables, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)
    # The draws go on as well.
    expected = distiller.fit(dataset, epochs=2, verbose=0).history
    found = loaded.fit(dataset, epochs=2, verbose=0).history
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
    other = distill(teacher)
    other.load_weights(_weights(distiller, tmp_path))
    np.testing.assert_array_equal(
        other.distillation_losses["crd"].student_memory,
        distiller.distillation_losses["crd"].student_memory,
    )


@pytest.mark.parametrize(
    "loss", [contrast, kd.losses.DarkKnowledgeWithPermutedPredictions]
)
def test_saved_before_it_is_built(loss):
    store = {}
    loss().save_own_variables(store)
    assert not store
    loss().load_own_variables(store)


def _weights(distiller, folder):
    path = folder / "distiller.weights.h5"
    distiller.save_weights(path)
    return path
