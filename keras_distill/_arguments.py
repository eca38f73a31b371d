"""Checks of what a user passes: one function per kind of argument."""

import math
import numbers

import keras


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


def one_of(argument, value, options):
    """Returns `value` if it is one of `options`, else raises with all."""
    if not any(value is option or value == option for option in options):
        raise ValueError(
            f"{argument} must be one of {', '.join(map(repr, options))}. "
            f"Received: {value!r}"
        )
    return value


def is_number(value):
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def checked_teacher_dtype(dtype):
    if dtype not in (None, "float32", "bfloat16", "float16"):
        raise ValueError(
            "teacher_dtype is the precision that the teacher computes in: "
            "'float32', 'bfloat16', 'float16', or None for its own. Received: "
            f"teacher_dtype={dtype!r}"
        )
    return dtype


def checked_teacher_batch_size(size):
    whole = isinstance(size, numbers.Integral) and not isinstance(size, bool)
    if size is not None and not (whole and size >= 1):
        raise ValueError(
            "teacher_batch_size is the largest number of samples that the "
            "teacher sees at once: a whole number >= 1, or None for the whole "
            f"batch. Received: teacher_batch_size={size!r}"
        )
    return size if size is None else int(size)


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
