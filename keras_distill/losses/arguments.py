"""Numbers that the constructors of losses take."""

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
