"""The sample index on its way from the data to the losses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd
from keras_distill._data import batch_fields
from keras_distill._data.sources import batches as export_batches
from keras_distill._training.prepare import TeacherBatches
from keras_distill.diagnosis.data import Data

COUNT = 21
# The one feature of sample i is 8 i.
X = 8.0 * np.arange(COUNT, dtype="float32")[:, None]
Y = (np.arange(COUNT) % 3).astype("int32")


class WrongIndex(kd.losses.DistillationLoss):
    """How far the indices are from those that the inputs tell."""

    needs_teacher = False
    needs_sample_index = True

    def compute_loss(
        self,
        teacher_outputs,
        student_outputs,
        y=None,
        sample_weight=None,
        sample_index=None,
    ):
        assert sample_index.dtype == "int32"
        told = keras.ops.cast(sample_index, "float32")
        return keras.ops.mean(keras.ops.abs(student_outputs[:, 0] / 8.0 - told))


class NotTold(WrongIndex):
    """Would fail if it were given the index."""

    needs_sample_index = False

    def compute_loss(
        self, teacher_outputs, student_outputs, y=None, sample_weight=None
    ):
        return 0.0 * keras.ops.mean(student_outputs)


def distill(losses=None, **compile):
    inputs = keras.Input((1,))
    x = keras.layers.Activation("linear", name="seen")(inputs)
    x = keras.layers.Rescaling(0.01)(x)
    distiller = kd.Distiller(
        student=keras.Model(inputs, keras.layers.Dense(3)(x)),
        distillation_losses=losses
        or {
            "index": WrongIndex(student_layer_name="seen"),
            "plain": NotTold(student_layer_name="seen"),
        },
    )
    distiller.compile("sgd", crossentropy(), metrics=["accuracy"], **compile)
    return distiller


def single():
    return tf.data.Dataset.from_tensor_slices((X, Y))


def positions(dataset):
    """The indices and the inputs of a dataset of batches, in its order."""
    found = [batch_fields.unpacked_batch(batch)[0] for batch in dataset]
    index, x = (
        np.concatenate([np.asarray(part) for part in parts])
        for parts in (
            [s.sample_index for s in found],
            [keras.tree.flatten(s.inputs)[0] for s in found],
        )
    )
    return index, x


@pytest.mark.parametrize("members", [(X, Y), (X, Y, X[:, 0]), (X,), X])
def test_an_indexed_dataset(members):
    dataset = tf.data.Dataset.from_tensor_slices(members)
    indexed = kd.views.indexed(dataset)
    assert int(indexed.cardinality()) == COUNT
    batch = next(iter(indexed.batch(5)))
    x, *others = batch if isinstance(members, tuple) else (batch,)
    sample = batch_fields.unpacked(x)
    np.testing.assert_array_equal(sample.sample_index, np.arange(5))
    assert sample.sample_index.dtype == tf.int32
    assert sample.teacher_outputs is None
    given = members if isinstance(members, tuple) else (members,)
    for found, wanted in zip((sample.inputs, *others), given, strict=True):
        np.testing.assert_array_equal(found, wanted[:5])
    # Shuffled afterwards, each sample keeps its own.
    index, x = positions(indexed.shuffle(COUNT, seed=0).batch(4))
    assert index.tolist() != sorted(index) == list(range(COUNT))
    np.testing.assert_array_equal(x[:, 0], 8.0 * index)


def test_inputs_in_a_dict_stay_one():
    inputs = {"a": X, "b": X + 1}
    dataset = tf.data.Dataset.from_tensor_slices((inputs, Y))
    for packed in (
        next(iter(kd.views.indexed(dataset).batch(4)))[0],
        kd.views.indexed(inputs),
        next(iter(kd.datasets.batches(inputs, Y, 4, indexed=True)))[0],
    ):
        sample = batch_fields.unpacked(packed)
        assert set(sample.inputs) == {"a", "b"}
        np.testing.assert_array_equal(sample.inputs["b"][:4], X[:4] + 1)
        np.testing.assert_array_equal(sample.sample_index[:4], range(4))
    assert batch_fields.unpacked(inputs) == (inputs, None, None, None)


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("first_epoch", [0, 2])
def test_indexed_batches_of_arrays(first_epoch, classes):
    options = {"batch_size": 4, "classes": classes, "seed": 7}
    options["first_epoch"] = first_epoch
    dataset = kd.datasets.batches(X, Y, indexed=True, **options).take(6)
    index, x = positions(dataset)
    assert sorted(index) == list(range(COUNT))
    np.testing.assert_array_equal(x[:, 0], 8.0 * index)
    # The order is that without the index.
    plain = kd.datasets.batches(X, Y, **options).take(6)
    np.testing.assert_array_equal(x, np.concatenate([b[0] for b in plain]))
    for (_, a), (_, b) in zip(dataset, plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_indexed_batches_in_order_and_without_labels():
    dataset = kd.datasets.batches(X, batch_size=5, indexed=True)
    assert positions(dataset)[0].tolist() == list(range(COUNT))
    assert int(dataset.cardinality()) == 5
    whole = kd.datasets.batches((X, X), None, 7, indexed=True)
    assert len(batch_fields.unpacked(next(iter(whole))).inputs) == 2


OPTIONS = [
    {"run_eagerly": True},
    pytest.param({}, marks=pytest.mark.slow),
    pytest.param({"jit_compile": True}, marks=pytest.mark.slow),
    pytest.param({"steps_per_execution": 2}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_sample_comes_with_its_index(options):
    distiller = distill(**options)
    dataset = kd.views.indexed(single()).shuffle(COUNT, seed=1).batch(4)
    logs = distiller.fit(dataset, validation_data=dataset, verbose=0).history
    assert logs["index_loss"] == [0.0]
    assert np.isfinite(logs["val_loss"][0])


@pytest.mark.slow
def test_every_kind_of_data():
    distiller = distill()
    x = kd.views.indexed(X)
    logs = distiller.fit(x, Y, batch_size=4, epochs=2, verbose=0).history
    assert logs["index_loss"] == [0.0, 0.0]
    logs = distiller.fit(
        kd.datasets.batches(X, Y, 4, seed=0, indexed=True),
        steps_per_epoch=6,
        verbose=0,
    ).history
    assert logs["index_loss"] == [0.0]
    logs = distiller.train_on_batch(x, Y, return_dict=True)
    assert logs["index_loss"] == 0.0
    # And it would show if they were not.
    shifted = kd.views.indexed(single()).batch(4).map(one_later)
    logs = distiller.fit(shifted, verbose=0).history
    assert logs["index_loss"] == [1.0]


def one_later(x, y):
    return {**x, batch_fields.SAMPLE_INDEX: x[batch_fields.SAMPLE_INDEX] + 1}, y


@pytest.mark.slow
def test_it_changes_nothing_for_losses_that_do_not_ask():
    start, results = distill().student.get_weights(), []
    for dataset in (single(), kd.views.indexed(single())):
        distiller = distill(NotTold(student_layer_name="seen"))
        distiller.student.set_weights(start)
        dataset = dataset.batch(4)
        distiller.fit(dataset, epochs=2, verbose=0)
        results.append(
            [
                *distiller.student.get_weights(),
                distiller.evaluate(dataset, verbose=0),
                distiller.predict(dataset, verbose=0),
            ]
        )
    for plain, indexed in zip(*results, strict=True):
        np.testing.assert_array_equal(plain, indexed)


@pytest.mark.slow
def test_evaluate_and_predict_before_fit():
    indexed = kd.views.indexed(single()).batch(4)
    for strategy in (None, tf.distribute.OneDeviceStrategy("CPU:0")):
        scope = strategy or tf.distribute.get_strategy()
        with scope.scope():
            distiller = distill()
        result = distiller.evaluate(indexed, verbose=0)
        plain = single().batch(4)
        np.testing.assert_allclose(result, distiller.evaluate(plain, verbose=0))
        found = distiller.predict(indexed, verbose=0)
        np.testing.assert_array_equal(
            found, distiller.predict(plain, verbose=0)
        )
        np.testing.assert_array_equal(
            found, distiller.predict(kd.views.indexed(X), verbose=0)
        )
        np.testing.assert_array_equal(found, distiller(kd.views.indexed(X)))


@pytest.mark.slow
def test_other_readers_of_data_take_it_too():
    dataset = kd.views.indexed(single()).batch(COUNT)
    x, y = next(export_batches(dataset, "dataset"))
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    x, y, weight = Data(dataset, "dataset", 32).first()
    np.testing.assert_array_equal(x, X)
    assert weight is None
    images, _ = data(8)
    distiller = kd.Distiller(
        student=convnet(),
        teacher=convnet(8),
        distillation_losses={
            "hint": kd.losses.Hint(
                teacher_layer_name="pool", student_layer_name="pool"
            )
        },
    )
    packed = kd.views.indexed(images)
    (found,) = TeacherBatches(distiller, "hint", packed, {})
    (wanted,) = TeacherBatches(distiller, "hint", images, {})
    np.testing.assert_array_equal(found, wanted)


# Errors.


def test_data_without_an_index():
    for given in ((X, Y), (single().batch(4),)):
        with pytest.raises(
            ValueError, match="'index' needs the index"
        ) as error:
            distill().fit(*given, verbose=0)
        assert "kd.views.indexed(dataset)" in str(error.value)
    with pytest.raises(ValueError, match="'index' needs the index"):
        distill().train_on_batch(X, Y)


def test_a_dataset_of_batches_is_refused():
    wrong = kd.views.indexed(single().batch(4))
    with pytest.raises(ValueError, match=r"before \.batch\(\)") as error:
        distill().fit(wrong, verbose=0)
    assert "indices of shape () with inputs of shape (4, 1)" in str(error.value)


def test_what_indexed_takes():
    with pytest.raises(TypeError, match="of type generator"):
        kd.views.indexed(x for x in X)
    with pytest.raises(TypeError, match="single samples, or the arrays"):
        kd.views.indexed([1, 2])
    for once in (kd.views.indexed(single()), kd.views.indexed(X)):
        with pytest.raises(ValueError, match="carry an index already"):
            kd.views.indexed(once)
    with pytest.raises(ValueError, match="carry an index already"):
        kd.datasets.batches(kd.views.indexed(X), Y, indexed=True)
