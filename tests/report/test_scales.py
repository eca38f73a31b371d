"""Axes."""

import pytest

from keras_distill.report.scales import Scale


def test_ends_and_middle():
    scale = Scale(0, 10, 100, 200)
    assert [scale(v) for v in (0, 5, 10)] == [100, 150, 200]


def test_decades_are_equally_far():
    scale = Scale(0.01, 1, 100, 0, logarithmic=True)
    assert [scale(v) for v in (0.01, 0.1, 1)] == [100, 50, 0]
    assert scale.ticks == pytest.approx([0.01, 0.1, 1])


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (91.2, 96.4, ["90", "92", "94", "96", "98"]),
        (0.3, 0.31, ["0.3000", "0.3025", "0.3050", "0.3075", "0.3100"]),
        (-3, 4, ["-4", "-2", "0", "2", "4"]),
        (0, 40000, ["0", "10,000", "20,000", "30,000", "40,000"]),
    ],
)
def test_round_numbers_with_the_digits_they_need(low, high, labels):
    scale = Scale(low, high, 0, 1)
    assert [scale.label(tick) for tick in scale.ticks] == labels
    assert scale(scale.ticks[0]) == 0 and scale(scale.ticks[-1]) == 1


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-9])
def test_a_single_value_has_an_axis_too(value):
    scale = Scale(value, value, 0, 100)
    assert 0 < scale(value) < 100
    assert len(scale.ticks) >= 2


@pytest.mark.parametrize(("low", "high"), [(0.2, 6.0), (1.0, 25.0), (2.0, 3.0)])
def test_short_logarithmic_axes_have_numbers(low, high):
    ticks = Scale(low, high, 0, 1, logarithmic=True).ticks
    assert len(ticks) >= 2 or high / low < 5
    assert all(low <= tick <= high for tick in ticks)
