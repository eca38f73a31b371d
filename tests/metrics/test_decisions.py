"""The counts behind verify, report and diagnose, against scikit-learn's."""

import numpy as np
import pytest
import sklearn.metrics

from keras_distill.metrics.decisions import DecisionCounts
from keras_distill.metrics.decisions import LabelsFingerprint
from keras_distill.metrics.decisions import accuracy_interval
from keras_distill.metrics.decisions import area_under_curve
from keras_distill.metrics.decisions import labels_fingerprint
from keras_distill.metrics.decisions import paired_difference
from keras_distill.metrics.decisions import position_weights


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 500, p=[0.6, 0.3, 0.08, 0.02])
    decisions = np.where(rng.random(500) < 0.7, labels, rng.integers(0, 4, 500))
    return labels, decisions, rng.choice([0.0, 0.5, 3.0], 500)


@pytest.mark.parametrize("weighted", [False, True])
def test_counts_are_those_of_scikit_learn(data, weighted):
    labels, decisions, weights = data
    weights = weights if weighted else None
    counts = DecisionCounts(4)
    for part in np.split(np.arange(500), [100, 350]):
        counts.add(
            labels[part],
            decisions[part],
            None if weights is None else weights[part],
        )
    given = {"sample_weight": weights}
    metrics = sklearn.metrics
    accuracy = metrics.accuracy_score(labels, decisions, **given)
    balanced = metrics.balanced_accuracy_score(labels, decisions, **given)
    precision, recall, *_ = metrics.precision_recall_fscore_support(
        labels, decisions, **given
    )
    assert counts.accuracy == pytest.approx(accuracy, abs=1e-12)
    assert counts.balanced_accuracy == pytest.approx(balanced, abs=1e-12)
    shares = metrics.jaccard_score(labels, decisions, average=None, **given)
    np.testing.assert_allclose(counts.intersection_over_union, shares)
    np.testing.assert_allclose(counts.precision, precision)
    np.testing.assert_allclose(counts.recall, recall)
    np.testing.assert_allclose(
        counts.matrix, metrics.confusion_matrix(labels, decisions, **given)
    )
    assert counts.effective_size == pytest.approx(
        500
        if weights is None
        else weights.sum() ** 2 / np.square(weights).sum()
    )


def test_positions_that_do_not_count_may_hold_anything():
    counts = DecisionCounts(3)
    labels = np.array([[0, 1, -1], [2, 255, 7]])
    weights = position_weights(
        (2, 3),
        labels=labels,
        mask=np.array([[1, 1, 1], [1, 1, 0]], bool),
        sample_weight=np.array([1.0, 2.0]),
        ignore_class=255,
    )
    weights[0, 2] = 0.0
    np.testing.assert_array_equal(weights, [[1, 1, 0], [2, 0, 0]])
    counts.add(labels, [[0, 2, 0], [2, 0, 0]], weights)
    assert counts.accuracy == 0.75
    np.testing.assert_array_equal(counts.recall, [1, 0, 1])
    assert counts.majority_accuracy == 0.5


def test_nothing_counted_is_not_a_number():
    counts = DecisionCounts(3)
    counts.add([0, 1], [0, 1], [0, 0])
    assert np.isnan(counts.accuracy) and np.isnan(counts.balanced_accuracy)
    assert np.isnan(counts.interval()).all()


def test_intervals():
    # Wilson's interval of 8 of 10, Agresti and Coull 1998's example form.
    np.testing.assert_allclose(
        accuracy_interval(0.8, 10), (0.4902, 0.9433), atol=1e-4
    )
    low, high = accuracy_interval(1.0, 100)
    assert 0.96 < low < 0.97 and high == 1.0


def test_paired_difference_covers_the_truth():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        shared = rng.random(150) < 0.7
        first = shared | (rng.random(150) < 0.3)
        second = shared | (rng.random(150) < 0.1)
        difference, (low, high) = paired_difference(first, second)
        assert low < difference < high
        covered += low < 0.3 * 0.2 < high
    assert 0.93 < covered / 1000 < 0.985


def test_the_positions_of_a_sample_are_worth_one_sample():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 50)
    right = rng.random(50) < 0.8
    once, often = DecisionCounts(2), DecisionCounts(2)
    once.add(labels, np.where(right, labels, 1 - labels))
    labels, right = (np.repeat(a[:, None], 40, 1) for a in (labels, right))
    often.add(labels, np.where(right, labels, 1 - labels))
    assert often.effective_size == once.effective_size == 50
    np.testing.assert_array_equal(often.sizes, once.sizes)
    assert often.interval() == once.interval()
    assert often.balanced_interval() == once.balanced_interval()
    # A sample of which one position counts is worth less than one.
    half = DecisionCounts(2)
    half.add([[0, 0], [1, 1]], [[0, 0], [1, 1]], [[1, 0], [1, 1]])
    assert half.effective_size == pytest.approx(9 / 5)


def test_balanced_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [300, 30])
    covered = 0
    for _ in range(500):
        right = rng.random(330) < np.where(labels, 0.7, 0.95)
        counts = DecisionCounts(2)
        counts.add(labels, np.where(right, labels, 1 - labels))
        low, high = counts.balanced_interval()
        covered += low < (0.95 + 0.7) / 2 < high
    assert 0.92 < covered / 500 < 0.985


def test_weights_of_a_paired_difference():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 300)) < [[0.8], [0.7]]
    expected = paired_difference(first, second)
    for scale in 1.0, 7.0:
        weights = np.repeat([scale, 0.0], 300)
        padded = (np.append(a, ~a) for a in (first, second))
        difference, interval = paired_difference(*padded, weights)
        assert difference == pytest.approx(expected[0])
        assert interval == pytest.approx(expected[1])
    weights = rng.choice([1.0, 9.0], 300)
    difference, interval = paired_difference(first, second, weights)
    right = (np.average(a, weights=weights) for a in (first, second))
    assert difference == pytest.approx(np.subtract(*right))
    # Unequal weights are worth fewer samples.
    assert np.diff(interval) > np.diff(expected[1])


@pytest.mark.parametrize("weighted", [False, True])
def test_area_under_curve_is_scikit_learns(weighted):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 300)
    scores = np.round(rng.normal(size=300) + labels, 1)  # with ties
    weights = rng.choice([0.0, 1.0, 2.5], 300) if weighted else None
    expected = sklearn.metrics.roc_auc_score(
        labels, scores, sample_weight=weights
    )
    assert area_under_curve(labels, scores, weights) == pytest.approx(expected)
    assert np.isnan(area_under_curve([1, 1], [0.2, 0.4]))


def test_a_fingerprint_of_labels_knows_their_order_and_not_their_parts():
    labels = np.array([[3, 1], [0, 2]], "uint8")
    fingerprint = LabelsFingerprint()
    for part in labels.astype("float32"):
        fingerprint.add(part)
    assert fingerprint.hexdigest() == labels_fingerprint(labels)
    assert labels_fingerprint(labels) != labels_fingerprint(labels.T)
