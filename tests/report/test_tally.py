"""Running sums of one network and of two."""

import numpy as np
import pytest

from keras_distill.metrics.decisions import paired_difference
from keras_distill.report.tally import Comparison
from keras_distill.report.tally import Pairs
from keras_distill.report.tally import Tally


def probabilities(rng, labels, right):
    """Two classes: right on a share of the labels."""
    p = rng.uniform(0.5, 1.0, len(labels))
    yes = (labels == 1) == (rng.random(len(labels)) < right)
    p = np.where(yes, p, 1 - p)
    return np.stack([1 - p, p], -1)


def test_parts_do_not_change_the_facts():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    p = probabilities(rng, labels, 0.8)
    made = []
    for parts in ([], [10, 90], range(1, 200)):
        tally = Tally(2)
        for part in np.split(np.arange(200), list(parts)):
            tally.add(labels[part], p[part], np.ones(len(part)))
        made.append(tally.facts())
    assert made[0] == made[1] == made[2]
    assert made[0]["area_under_curve"] > 0.7
    matrix = np.array(made[0]["confusion_matrix"])
    assert matrix.sum() == 200 and np.issubdtype(matrix.dtype, np.integer)
    assert made[0]["accuracy"] == np.trace(matrix) / 200
    low, high = made[0]["accuracy_interval"]
    assert low < made[0]["accuracy"] < high


def test_a_weight_of_two_is_a_sample_twice():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 60)
    p = probabilities(rng, labels, 0.7)
    weights = rng.integers(0, 3, 60).astype("float64")
    labels[weights == 0] = -1  # no class: not looked at
    weighted, repeated = Tally(2), Tally(2)
    weighted.add(labels, p, weights)
    often = np.repeat(np.arange(60), weights.astype(int))
    repeated.add(labels[often], p[often], np.ones(len(often)))
    found, expected = weighted.facts(), repeated.facts()
    # Repeated samples seem to be more samples.
    found = {k: v for k, v in found.items() if not k.endswith("_interval")}
    np.testing.assert_equal(
        found["confusion_matrix"], expected["confusion_matrix"]
    )
    for key in ("largest_confusions", "agreement_with_teacher"):
        assert found.pop(key) == expected[key]
    for key, value in found.pop("reliability").items():
        np.testing.assert_allclose(
            np.array(value, "float64"),
            np.array(expected["reliability"][key], "float64"),
        )
    for key, value in found.items():
        np.testing.assert_allclose(value, expected[key], err_msg=key)


def test_pairs_by_weight():
    pairs = Pairs(300)
    pairs.add(np.array([7, 299, 7]), np.array([0, 8, 0]), np.array([1.0, 5, 1]))
    pairs.add(np.array([7]), np.array([1]), np.array([1.5]))
    assert pairs.largest(2) == [((299, 8), [5]), ((7, 0), [2])]


def test_a_comparison_is_the_paired_difference():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    first, second = (
        np.where(rng.random(300) < share, labels, (labels + 1) % 3)
        for share in (0.6, 0.9)
    )
    comparison, tally = Comparison(3), Tally(3)
    for part in np.split(np.arange(300), [100]):
        weights = np.ones(len(part))
        tally.add(labels[part], np.eye(3)[first[part]], weights)
        comparison.add(labels[part], first[part], second[part], weights)
    facts = comparison.facts(tally.decisions)
    difference, interval = paired_difference(first == labels, second == labels)
    found = facts["accuracy"]
    assert found["difference"] == pytest.approx(difference)
    assert (found["low"], found["high"]) == pytest.approx(interval)
    by_class = [
        ((first == labels)[labels == c].mean())
        - ((second == labels)[labels == c].mean())
        for c in range(3)
    ]
    balanced = facts["balanced_accuracy"]
    assert balanced["difference"] == pytest.approx(np.mean(by_class))
    assert balanced["low"] < np.mean(by_class) < balanced["high"] < 0
    assert facts["lowest_recall"]["class"] == np.argmin(by_class)
    assert facts["lowest_recall"]["difference"] == pytest.approx(min(by_class))


def test_positions_of_one_sample_do_not_make_it_certain():
    """All pixels of one image are one image."""
    labels = np.zeros((4, 1000), int)
    first, second = labels.copy(), labels.copy()
    second[0] = 1
    counts, comparison = Tally(2), Comparison(2)
    counts.add(labels, np.eye(2)[first], np.ones(labels.shape))
    comparison.add(labels, first, second, np.ones(labels.shape))
    found = comparison.facts(counts.decisions)["accuracy"]
    assert found["difference"] == 0.25 and found["low"] < 0


def test_a_class_of_few_samples_is_not_the_one_that_fell_most():
    labels = np.repeat([0, 1, 2], [1, 20, 20])
    second = labels.copy()
    first = labels.copy()
    first[0] = 1
    first[1:6] = 0
    counts, comparison = Tally(3), Comparison(3)
    counts.add(labels, np.eye(3)[first], np.ones(41))
    comparison.add(labels, first, second, np.ones(41))
    lowest = comparison.facts(counts.decisions)["lowest_recall"]
    assert lowest["class"] == 1 and lowest["difference"] == -0.25
