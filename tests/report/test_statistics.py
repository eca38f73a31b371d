"""Intervals, against SciPy."""

import numpy as np
import pytest
from scipy import stats

from keras_distill.report.statistics import interval
from keras_distill.report.statistics import student_t_quantile


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
