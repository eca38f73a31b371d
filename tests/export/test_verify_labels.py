"""What `verify` takes labels for, and which positions it counts."""

import keras
import numpy as np
import pytest
import sklearn.metrics

from keras_distill.export.verification import totals
from keras_distill.export.verification.labels import LabelReader
from keras_distill.export.verification.labels import counting_weights

layers = keras.layers


def network(units, activation=None, loss=None):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(units, activation=activation)]
    )
    if loss is not None:
        model.compile(loss=loss)
    return model


def task(batches, units, activation=None, loss=None, **options):
    reader = LabelReader(network(units, activation, loss), **options)
    for y in batches:
        y = np.asarray(y)
        shape = (len(y), units)
        reader.read(y, shape, np.ones(shape[:-1]))
    return reader.task


ONE_HOT, SEVERAL = np.eye(3)[[0, 2]], np.array([[1.0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("batches", "units", "expected"),
    [
        ([[0, 2]], 3, "classification"),
        ([[[0], [2]]], 3, "classification"),
        ([[0.0, 2.0]], 3, "classification"),
        ([ONE_HOT], 3, "classification"),
        ([0.9 * ONE_HOT + 0.1 / 3], 3, "classification"),  # smoothed
        # Several labels per sample look like one-hot in some batches.
        ([ONE_HOT, SEVERAL], 3, "multi_label"),
        ([SEVERAL, ONE_HOT], 3, "multi_label"),
        ([SEVERAL.astype(bool)], 3, "multi_label"),
        ([ONE_HOT, np.full((2, 3), 0.3)], 3, "regression"),
        ([[0, 1]], 1, "classification"),
        ([[0.0, 1.0]], 1, "classification"),
        # A batch of targets that are all 0 or 1 is possible.
        ([[0.0, 1.0], [0.4, 7.0]], 1, "regression"),
        ([[[-1.0], [2.0]]], 1, "regression"),
    ],
)
def test_what_labels_are(batches, units, expected):
    assert task(batches, units) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "softmax"},
        {"loss": "categorical_crossentropy"},
        {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
    ],
)
def test_a_classifier_has_one_class_per_sample(options):
    assert task([ONE_HOT], 3, **options) == "classification"
    with pytest.raises(ValueError, match="class numbers.*or one-hot"):
        task([SEVERAL], 3, **options)


def test_without_labels_a_compiled_regression_has_no_decisions():
    reader = LabelReader(network(1, loss="mse"))
    reader.read(None, (2, 1), np.ones(2))
    assert reader.task == "regression"


@pytest.mark.parametrize(
    ("y", "units", "match"),
    [
        ([0, 3], 3, r"in \[0, 2\].*3 classes.*such as 3.*ignore_class=3"),
        ([0, -1], 3, r"ignore_class=-1"),
        ([0, 2], 1, r"in \[0, 1\].*ignore_class=2.*regression.*float labels"),
        ([0.5, 1.0], 3, "class numbers.*or one-hot"),
        ([np.nan, 1.0], 3, "class numbers.*or one-hot"),
        ([np.nan, 1.0], 1, "NaN"),
        (["a", "b"], 3, "class numbers.*or one-hot"),
        (np.ones((2, 4)), 3, "class numbers.*or one-hot"),
    ],
)
def test_labels_that_are_refused(y, units, match):
    with pytest.raises(ValueError, match=match):
        task([y], units)


def test_labels_that_do_not_count_may_be_anything():
    reader = LabelReader(network(3), ignore_class=255)
    weights = np.array([[1.0, 1, 0], [2, 1, 0]])
    y = np.array([[0, 255, -7], [2, 1, 99]])
    read, weights = reader.read(y, (2, 3, 3), weights)
    np.testing.assert_array_equal(weights, [[1, 0, 0], [2, 1, 0]])
    np.testing.assert_array_equal(
        read["classification"][weights > 0], [0, 2, 1]
    )


def test_weights_and_masks_that_do_not_fit():
    shape = (2, 3, 5)
    weights = counting_weights(shape, np.array([1.0, 2.0]), np.eye(2, 3) > 0)
    np.testing.assert_array_equal(weights, [[1, 0, 0], [0, 2, 0]])
    for bad in ([1.0, -1.0], [1.0, np.nan]):
        with pytest.raises(ValueError, match="finite and at least 0"):
            counting_weights(shape, np.array(bad), None)
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*\(3,\)"):
        counting_weights(shape, np.ones(3), None)


def test_numbers_of_two_classes_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 2)).astype("float32")
    y, weights = rng.integers(0, 2, 200), rng.choice([0.5, 2.0], 200)
    score = logits[:, 1] - logits[:, 0]
    expected = sklearn.metrics.roc_auc_score(y, score, sample_weight=weights)
    for outputs in logits, score[:, None]:
        total = totals.ClassTotals(outputs.shape[-1])
        for part in np.split(np.arange(200), [70]):
            z = outputs[part][:, None]
            total.add(z, z, None, y[part], weights[part][:, None])
        row = total.results()
        assert row["area_under_curve"] == pytest.approx(expected, abs=1e-6)
        assert row["agreement"] == 1.0
        right = (score > 0) == y
        accuracy = np.average(right, weights=weights)
        assert row["accuracy"] == pytest.approx(accuracy)


def test_several_labels_are_decisions_of_every_unit():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(100, 4)).astype("float32")
    y, weights = rng.integers(0, 2, (100, 4)), rng.choice([1.0, 3.0], 100)
    yes = logits > 0
    for outputs in logits, 1 / (1 + np.exp(-logits)):
        total = totals.MultiLabelTotals(4)
        z = outputs[:, None]
        total.add(z, z, -z, y, weights[:, None])
        row = total.results()
        each = np.repeat(weights, 4)
        assert row["accuracy"] == pytest.approx(
            np.average((yes == y).ravel(), weights=each)
        )
        precision, recall, *_ = sklearn.metrics.precision_recall_fscore_support(
            y, yes, sample_weight=weights
        )
        np.testing.assert_allclose(row["recall"], recall)
        np.testing.assert_allclose(row["precision"], precision)
    assert row["teacher_agreement"] == pytest.approx(
        np.average((~yes).ravel(), weights=each)
    )


def test_errors_of_a_regression():
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(size=(2, 50, 3))
    weights = rng.choice([1.0, 3.0], 50)
    total = totals.NumberTotals(3)
    total.add(outputs[:, None], None, None, y, weights[:, None])
    row = total.results()
    each = np.repeat(weights, 3)
    error = (outputs - y).ravel()
    assert row["mean_absolute_error"] == pytest.approx(
        np.average(np.abs(error), weights=each)
    )
    assert row["root_mean_squared_error"] == pytest.approx(
        np.sqrt(np.average(error**2, weights=each))
    )
    assert "agreement" not in row
