"""Several runs: what is accepted, and means over them."""

import keras
import numpy as np
import pytest

from keras_distill.report.runs import checked_histories
from keras_distill.report.runs import checked_shares
from keras_distill.report.runs import mean_and_range
from keras_distill.report.runs import of_runs

CURVES = {"loss": [2.0, 1.0], "val_loss": [3.0, 2.5]}


def history(curves=CURVES):
    made = keras.callbacks.History()
    made.history = curves
    return made


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {}),
        (CURVES, {"training": [CURVES]}),
        (history(), {"training": [CURVES]}),
        ([history(), CURVES], {"training": [CURVES, CURVES]}),
        ({"a": history(), "b": [CURVES]}, {"a": [CURVES], "b": [CURVES]}),
        ({"loss": np.array([1, 2])}, {"training": [{"loss": [1.0, 2.0]}]}),
    ],
)
def test_every_way_to_give_a_history(given, expected):
    assert checked_histories(given) == expected


def test_terms_without_a_curve_are_left_out():
    given = {**CURVES, "f1": [np.ones(3), np.ones(3)]}
    assert checked_histories(given) == {"training": [CURVES]}


@pytest.mark.parametrize("wrong", ["x", 3, [], {"a": 1}, [[1.0]], {"a": []}])
def test_what_is_no_history(wrong):
    if wrong == {"a": []}:  # A term that was never recorded.
        assert checked_histories(wrong) == {"training": [{"a": []}]}
        return
    with pytest.raises(TypeError, match="what fit"):
        checked_histories(wrong)


def test_gain_is_paired_and_the_gap_a_share():
    found = of_runs(
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
        assert of_runs(shares, {})["gap_closed"] is None


def test_runs_that_do_not_pair_give_no_gain():
    assert (
        of_runs({"alone": [0.7], "distilled": [0.8, 0.8]}, {})["gain"] is None
    )
    assert of_runs({}, {}) is None


def test_means_of_curves_of_different_length_and_with_gaps():
    mean, low, high = mean_and_range([[1.0, 2.0, 3.0], [3.0, np.nan]])
    np.testing.assert_array_equal(mean, [2.0, 2.0, 3.0])
    np.testing.assert_array_equal(low, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(high, [3.0, 2.0, 3.0])
    assert np.isnan(mean_and_range([[np.inf]])[0]).all()
