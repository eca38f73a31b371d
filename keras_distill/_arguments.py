"""Checks of what a user passes: one function per kind of argument.

Each returns the checked value or raises an error that names the argument, what
it must be, and what was received. `hint` adds what the argument means.
"""

import math
import numbers
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras


def one_of(argument: str, value: Any, options: Sequence) -> Any:
    """Checks that `value` is one of `options`."""
    if not any(value is option or value == option for option in options):
        raise ValueError(
            f"{argument} must be one of {', '.join(map(repr, options))}. "
            f"Received: {value!r}"
        )
    return value


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
    integer = isinstance(value, numbers.Integral) and not isinstance(
        value, bool
    )
    if not integer or value < least or (most is not None and value > most):
        expected = f"an integer {_at_least(least, most)}"
        expected += ", or None" if or_none else ""
        raise ValueError(_message(argument, expected, value, hint))
    return int(value)


def checked_integers(
    argument: str,
    values: Iterable,
    least: int = 1,
    *,
    length: int | None = None,
    hint: str = "",
) -> tuple[int, ...]:
    """Checks a non-empty list of integers, `length` of them if given."""
    try:
        integers = tuple(checked_integer(argument, v, least) for v in values)
    except (TypeError, ValueError):
        integers = ()
    if not integers or length not in (None, len(integers)):
        expected = f"a list of integers {_at_least(least)}"
        raise ValueError(_message(argument, expected, values, hint))
    return integers


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
        expected = {
            "(0, inf)": "a positive, finite number",
            "[0, inf)": "a finite number of at least 0",
        }.get(interval, f"a number in {interval}")
        expected += ", or None" if or_none else ""
        raise ValueError(_message(argument, expected, value, hint))
    return float(value)


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number; a bool is not one."""
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def checked_temperature(temperature: Any) -> float:
    """Checks the temperature of a softmax."""
    return checked_number("temperature", temperature, hint="usually 1 to 10")


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
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (0.0 < low <= high <= most and high < math.inf):
        limits = f"(0, {most:g}]" if most < math.inf else "positive numbers"
        raise ValueError(
            f"{argument} must be (least, largest) within {limits}, least "
            f"first. Received: {bounds!r}"
        )
    return low, high


def checked_layer(argument: str, layer: Any) -> keras.layers.Layer | None:
    """Checks a Keras layer or model; `None` passes too."""
    if layer is not None and not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            f"{argument} must be a Keras layer or model, or None. Received: "
            f"{layer!r}"
        )
    return layer


def checked_model(argument: str, model: Any) -> keras.Model:
    """Checks a built `keras.Model`."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{argument} must be a keras.Model. Received: "
            f"{model!r} of type {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            f"The {argument} '{model.name}' is not built: it has no weights "
            f"yet. Call it on a batch, or `{argument}.build(input_shape)`, "
            "first."
        )
    return model


def _at_least(least, most=None):
    return f"of at least {least}" if most is None else f"from {least} to {most}"


def _message(argument, expected, value, hint):
    hint = f" ({hint})" if hint else ""
    return f"{argument} must be {expected}{hint}. Received: {value!r}"
