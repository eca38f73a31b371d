"""Numbers: integers, seeds, shares, sizes."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_distill._arguments.choices import checked_list
from keras_distill._arguments.choices import is_boolean
from keras_distill._arguments.choices import message
from keras_distill._arguments.choices import one_of


def checked_integer(
    argument: str,
    value: Any,
    least: int = 1,
    most: int | None = None,
    *,
    or_none: bool = False,
    hint: str = "",
) -> Any:
    """Checks an integer in `[least, most]`. A bool is not one.

    Returns:
        A Python `int`, or `None` if that is allowed and was given.
    """
    if or_none and value is None:
        return None
    integer = isinstance(value, numbers.Integral) and not is_boolean(value)
    if not integer or value < least or (most is not None and value > most):
        expected = f"an integer {_at_least(least, most)}"
        expected += ", or None" if or_none else ""
        raise ValueError(message(argument, expected, value, hint))
    return int(value)


def checked_ignore_class(value: Any) -> Any:
    """Checks the label of positions without a class: an integer or `None`."""
    hint = "the label of positions without a class"
    return checked_integer(
        "ignore_class", value, -(2**31), or_none=True, hint=hint
    )


def checked_integers(
    argument: str,
    values: Iterable,
    least: int = 1,
    *,
    length: int | None = None,
    hint: str = "",
) -> tuple[int, ...]:
    """Checks a non-empty list of integers, `length` of them if given."""
    return checked_list(
        lambda value: checked_integer(argument, value, least),
        argument,
        values,
        f"a list of integers {_at_least(least)}",
        length,
        hint,
    )


def checked_seed(
    value: Any, argument: str = "seed", *, or_none: bool = False
) -> Any:
    """Checks a seed: the 32 bits that random numbers are drawn from."""
    hint = "random numbers are drawn from 32 bits"
    return checked_integer(
        argument, value, 0, 2**32 - 1, or_none=or_none, hint=hint
    )


def checked_dataset_seed(value: Any) -> Any:
    """Checks a seed of `tf.data`, 64 bits with a sign, or `None`."""
    return checked_integer("seed", value, -(2**63), 2**63 - 1, or_none=True)


def checked_number(
    argument: str,
    value: Any,
    interval: str = "(0, inf)",
    *,
    or_none: bool = False,
    hint: str = "",
) -> Any:
    """Checks a finite number in an interval such as `"[0, 1)"`.

    Returns:
        A Python `float`, or `None` if that is allowed and was given.
    """
    if or_none and value is None:
        return None
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    inside = (
        is_number(value)
        and (low <= value if interval[0] == "[" else low < value)
        and (value <= high if interval[-1] == "]" else value < high)
    )
    if not inside:
        expected = _SINGULARS.get(interval, f"a number in {interval}")
        expected += ", or None" if or_none else ""
        raise ValueError(message(argument, expected, value, hint))
    return float(value)


def checked_numbers(
    argument: str,
    values: Iterable,
    interval: str = "(0, inf)",
    *,
    length: int | None = None,
    hint: str = "",
) -> tuple[float, ...]:
    """Checks a non-empty list of numbers, `length` of them if given."""
    return checked_list(
        lambda value: checked_number(argument, value, interval),
        argument,
        values,
        f"a list of {_PLURALS.get(interval, f'numbers in {interval}')}",
        length,
        hint,
    )


def is_number(value: Any) -> bool:
    """Whether `value` is a real number that is finite in float32.

    Networks compute in float32: there 1e39 is infinite, and 1e-50 is zero. A
    bool is not a number.
    """
    if not isinstance(value, numbers.Real) or is_boolean(value):
        return False
    try:
        with np.errstate(over="ignore", under="ignore"):
            single = float(np.float32(value))
    except OverflowError:
        return False
    return math.isfinite(single) and (single != 0.0) == (value != 0)


def checked_temperature(temperature: Any) -> float:
    """Checks the temperature of a softmax.

    Beyond these bounds its square, or what is left of the differences between
    logits, is lost in the rounding of float32.
    """
    checked_number("temperature", temperature, hint="usually 1 to 10")
    return checked_number(
        "temperature", temperature, "[0.001, 1000]", hint="usually 1 to 10"
    )


def checked_alpha(alpha: Any) -> Any:
    """Checks the share of distillation in the objective."""
    if isinstance(alpha, keras.optimizers.schedules.LearningRateSchedule):
        return alpha
    return checked_number(
        "alpha",
        alpha,
        "[0, 1]",
        hint="the share of distillation in the objective, or a "
        "keras.optimizers.schedules.LearningRateSchedule of the step",
    )


def checked_teacher_dtype(dtype: str | None) -> str | None:
    """Checks the precision that the teacher computes in; `None`: its own."""
    options = (None, "float32", "bfloat16", "float16")
    return one_of("teacher_dtype", dtype, options)


def checked_size(argument: str, size: Any) -> tuple[int, int]:
    """Checks a size in pixels and returns it as (height, width)."""
    sides = (size, size) if isinstance(size, numbers.Integral) else size
    try:
        height, width = checked_integers(argument, sides, length=2)
        return height, width
    except ValueError:
        raise ValueError(
            f"{argument} must be a number of pixels, or (height, width). "
            f"Received: {size!r}"
        ) from None


def checked_range(
    argument: str, bounds: Any, most: float = math.inf
) -> tuple[float, float]:
    """Checks `(low, high)` with `0 < low <= high <= most`."""
    try:
        low, high = checked_numbers(argument, bounds, length=2)
    except ValueError:
        low, high = math.nan, math.nan
    if not (0.0 < low <= high <= most and high < math.inf):
        limits = f"(0, {most:g}]" if most < math.inf else "positive numbers"
        raise ValueError(
            f"{argument} must be (least, largest) within {limits}, least "
            f"first. Received: {bounds!r}"
        )
    return low, high


_SINGULARS = {
    "(-inf, inf)": "a finite number",
    "(0, inf)": "a positive, finite number",
    "[0, inf)": "a finite number of at least 0",
}


_PLURALS = {
    "(-inf, inf)": "finite numbers",
    "(0, inf)": "positive, finite numbers",
    "[0, inf)": "finite numbers of at least 0",
}


def _at_least(least, most=None):
    return f"of at least {least}" if most is None else f"from {least} to {most}"
