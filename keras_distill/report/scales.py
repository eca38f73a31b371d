"""Axes: from numbers to places, and the round numbers beside them."""

import math


class Scale:
    """A straight or logarithmic axis.

    Args:
        low: Smallest number it must show.
        high: Largest one.
        start: Place of `low`, in the units of the drawing.
        stop: Place of `high`.
        logarithmic: Whether it is; both numbers must be positive then.
        ticks: About how many round numbers to write.
        round_out: Whether to begin and end at round numbers.
    """

    def __init__(
        self, low, high, start, stop, logarithmic=False, ticks=4, round_out=True
    ):
        self.logarithmic = logarithmic
        if low == high:
            margin = abs(low) / 10 or 1.0
            low, high = low - margin, high + margin
        if logarithmic:
            self.ticks = _logarithmic_ticks(low, high)
        else:
            step = _round_step((high - low) / ticks)
            if round_out:
                low = math.floor(low / step + 1e-9) * step
                high = math.ceil(high / step - 1e-9) * step
            first = math.ceil(low / step - 1e-9)
            last = math.floor(high / step + 1e-9)
            self.ticks = [n * step for n in range(first, last + 1)]
            self.digits = max(0, -math.floor(math.log10(step) + 1e-9))
            shifted = step * 10**self.digits
            if abs(shifted - round(shifted)) > 1e-6:
                self.digits += 1  # 0.25 needs one more than 0.2
        self._low, self._high = self._of(low), self._of(high)
        self._start, self._stop = start, stop

    def __call__(self, value):
        """-> where it lies, rounded to what can be seen."""
        share = (self._of(value) - self._low) / (self._high - self._low)
        return round(self._start + share * (self._stop - self._start), 2)

    def label(self, tick):
        """A tick as text."""
        if self.logarithmic:
            return f"{tick:g}"
        return f"{tick:,.{self.digits}f}"

    def _of(self, value):
        return math.log10(value) if self.logarithmic else value


def _round_step(step):
    """The smallest of 1, 2, 2.5, 5 times a power of 10 that is not less."""
    power = 10.0 ** math.floor(math.log10(step))
    for factor in (1, 2, 2.5, 5, 10):
        if factor * power >= step * (1 - 1e-9):
            return factor * power
    return 10 * power


def _logarithmic_ticks(low, high):
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [f * 10.0**d for d in [*decades, decades.stop] for f in factors]
        ticks = [t for t in ticks if low <= t <= high]
        if len(ticks) >= 3:
            break
    return ticks
