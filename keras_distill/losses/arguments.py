"""Checks of constructor arguments."""

import math
import numbers


def non_negative(argument, value):
    """A finite Python float >= 0, or an error that names the argument."""
    if (
        not isinstance(value, numbers.Real)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or value < 0
    ):
        raise ValueError(
            f"{argument} must be a finite number >= 0. Received: {value!r}"
        )
    return float(value)


def whole_number(argument, value, least=1):
    """`value` as a Python integer of at least `least`, or an error."""
    if (
        not isinstance(value, numbers.Integral)
        or isinstance(value, bool)
        or value < least
    ):
        raise ValueError(
            f"{argument} must be an integer of at least {least}. Received: "
            f"{value!r}"
        )
    return int(value)
