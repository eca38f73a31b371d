"""`kd.calibration`, against cases computed by hand."""

import numpy as np
import pytest

import keras_distill as kd
from keras_distill.calibration import expected_calibration_error
from keras_distill.calibration import reliability


def test_by_hand():
    # Bins of a fifth: (0.4, 0.6] holds 0.5 and 0.6, of which one is right:
    # gap |0.5 - 0.55| = 0.05. (0.8, 1] holds 0.9, 0.9 and 1, of which two are
    # right: gap |2/3 - 2.8/3| = 0.8/3. ECE = (2 * 0.05 + 3 * 0.8/3) / 5.
    confidence = [0.5, 0.6, 0.9, 0.9, 1.0]
    correct = [True, False, True, False, True]
    found = reliability(confidence, correct, bins=5)
    assert found.counts.tolist() == [0, 0, 2, 0, 3]
    nan = np.nan
    np.testing.assert_allclose(found.accuracy, [nan, nan, 0.5, nan, 2 / 3])
    np.testing.assert_allclose(found.confidence, [nan, nan, 0.55, nan, 2.8 / 3])
    assert found.error() == pytest.approx((2 * 0.05 + 0.8) / 5)
    assert expected_calibration_error(
        confidence, correct, bins=5
    ) == pytest.approx(0.18)


def test_fifteen_bins_unless_said_otherwise():
    assert len(reliability([0.5], [True]).counts) == 15


@pytest.mark.parametrize("bins", [2, 5, 10, 15])
def test_an_edge_belongs_to_the_bin_below(bins):
    edges = np.linspace(0.0, 1.0, bins + 1)
    counts = reliability(edges, edges > 2, bins=bins).counts
    assert counts.tolist() == [2] + [1] * (bins - 1)  # 0 has no bin below


def test_perfect_and_worst():
    sure = np.ones(4)
    assert expected_calibration_error(sure, sure > 0) == 0.0
    assert expected_calibration_error(sure, sure < 0) == 1.0


def test_a_softmax_in_float32_may_exceed_one():
    assert reliability([np.float32(1 + 1e-6)], [True]).counts[-1] == 1


@pytest.mark.parametrize(
    ("confidence", "correct", "bins", "message"),
    [
        ([], [], 15, "no samples"),
        ([0.5], [True, False], 15, r"\(1,\) and \(2,\)"),
        ([[0.5]], [[True]], 15, r"\(samples,\)"),
        ([3.0], [True], 15, "softmax"),
        ([np.nan], [True], 15, r"\[0, 1\]"),
        ([0.5], [True], 0, "bins must be an integer of at least 1"),
        ([0.5], [True], 1.5, "bins must be an integer of at least 1"),
    ],
)
def test_what_is_refused(confidence, correct, bins, message):
    with pytest.raises(ValueError, match=message):
        kd.calibration.reliability(confidence, correct, bins)
