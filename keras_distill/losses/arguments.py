"""Checks of constructor arguments."""

import numbers


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
