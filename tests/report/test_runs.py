"""Several runs: means and intervals, against SciPy."""

import numpy as np
import pytest
from scipy import stats

from keras_distill.report.inputs import Evidence
from keras_distill.report.inputs import checked_shares
from keras_distill.report.runs import exported_run
from keras_distill.report.runs import interval
from keras_distill.report.runs import student_t_quantile
from keras_distill.report.runs import summarize_runs


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 10, 29, 200])
def test_quantiles_are_those_of_scipy(degrees):
    expected = stats.t.ppf(0.975, degrees)
    assert student_t_quantile(degrees) == pytest.approx(expected, rel=1e-9)


def test_interval_is_that_of_scipy():
    values = np.random.default_rng(0).normal(size=7)
    found = interval(values)
    low, high = stats.t.interval(
        0.95, 6, loc=values.mean(), scale=stats.sem(values)
    )
    assert found["mean"] == pytest.approx(values.mean())
    assert found["low"] == pytest.approx(low)
    assert found["high"] == pytest.approx(high)
    assert found["half_width"] == pytest.approx((high - low) / 2)


def test_one_run_has_no_interval():
    found = interval([0.5])
    assert found["mean"] == 0.5
    assert found["half_width"] is found["low"] is found["high"] is None


def test_gain_is_paired_and_the_gap_a_share():
    found = summarize_runs(
        checked_shares(
            {
                "teacher": [0.9, 1.0],
                "alone": [0.7, 0.8],
                "distilled": [0.8, 0.9],
            },
            "accuracies",
        ),
        checked_shares({"alone": 0.5}, "agreements"),
    )
    assert found["gain"]["mean"] == pytest.approx(0.1)
    # Both runs gain the same: no doubt is left, unlike about each mean.
    assert found["gain"]["half_width"] == pytest.approx(0, abs=1e-12)
    assert found["accuracy"]["alone"]["half_width"] > 0.5
    assert found["gap_closed"] == pytest.approx(0.5)
    assert found["agreement_with_teacher"]["alone"]["values"] == [0.5]


def test_no_gap_without_a_better_teacher():
    for accuracy in (0.7, 0.6):
        shares = {"teacher": [accuracy], "alone": [0.7], "distilled": [0.8]}
        assert summarize_runs(shares, {})["gap_closed"] is None


def test_runs_that_do_not_pair_give_no_gain():
    assert (
        summarize_runs({"alone": [0.7], "distilled": [0.8, 0.8]}, {})["gain"]
        is None
    )
    assert summarize_runs({}, {}) is None


@pytest.mark.parametrize(
    ("options", "seeds", "expected"),
    [
        ({"exported_run": 0}, [5, 6, 7], (0, 5, False)),
        ({}, range(5, 8), (1, 6, True)),
        ({}, None, (1, None, True)),
        ({}, [1, 2], (1, None, True)),
        ({}, {"data": 1}, (1, None, True)),
    ],
)
def test_which_run_is_exported(options, seeds, expected):
    runs = {"distilled": [0.7, 0.8, 0.7]}
    evidence = Evidence(accuracies=runs, **options)
    found = exported_run(evidence, seeds, np.float32(0.8))
    assert (found["run"], found["seed"], found["is_best"]) == expected
    assert found["accuracy"] == runs["distilled"][expected[0]]


def test_runs_that_cannot_be_told_apart():
    evidence = Evidence(accuracies={"distilled": [0.7, 0.8, 0.7]})
    assert exported_run(evidence, None, 0.7)["run"] is None
    assert exported_run(evidence, None, 0.75)["run"] is None
    assert exported_run(Evidence(), None, 0.7) is None
    one = Evidence(accuracies={"distilled": 0.7})
    assert exported_run(one, None, 0.7) is None


@pytest.mark.parametrize("run", [3, -1, 1.0, "best"])
def test_a_run_that_is_not_there(run):
    with pytest.raises(ValueError, match="exported_run must be an integer"):
        Evidence(accuracies={"distilled": [0.7, 0.8, 0.7]}, exported_run=run)
