"""Checks of what views are given."""

import math
import numbers

import keras


def checked_size(argument, size):
    """A side or (height, width) in pixels -> (height, width)."""
    sides = (size, size) if isinstance(size, numbers.Integral) else size
    try:
        height, width = (whole(argument, side, least=1) for side in sides)
    except (TypeError, ValueError):
        raise ValueError(
            f"{argument} must be a number of pixels, or (height, width). "
            f"Received: {size!r}"
        ) from None
    return height, width


def checked_range(argument, given, most=math.inf):
    """(low, high) with 0 < low <= high <= most."""
    try:
        low, high = (float(bound) for bound in given)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (0.0 < low <= high <= most and high < math.inf):
        limits = f"(0, {most:g}]" if most < math.inf else "positive numbers"
        raise ValueError(
            f"{argument} must be (least, largest) within {limits}, least "
            f"first. Received: {given!r}"
        )
    return low, high


def checked_layer(argument, layer):
    """A Keras layer or model, or `None`, as it is."""
    if layer is not None and not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            f"{argument} must be a Keras layer or model, or None. Received: "
            f"{layer!r}"
        )
    return layer


def positive(argument, number):
    """A positive, finite number -> float."""
    if not isinstance(number, numbers.Real) or not 0 < number < math.inf:
        raise ValueError(
            f"{argument} must be a positive, finite number. Received: "
            f"{number!r}"
        )
    return float(number)


def whole(argument, number, least):
    """A whole number from `least` on -> int."""
    if (
        not isinstance(number, numbers.Integral)
        or isinstance(number, bool)
        or number < least
    ):
        raise ValueError(
            f"{argument} must be a whole number from {least} on. Received: "
            f"{number!r}"
        )
    return int(number)
