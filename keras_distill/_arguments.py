"""Checks of what a user passes: one function per kind of argument.

Each returns the checked value or raises an error that names the argument, what
it must be, and what was received. `hint` adds what the argument means.
"""

import math
import numbers
import os
import pathlib
import reprlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


def one_of(argument: str, value: Any, options: Sequence) -> Any:
    """Checks that `value` is one of `options`, and returns that option."""
    for option in options:
        if value is option or (_same_kind(value, option) and value == option):
            return option
    raise ValueError(
        f"{argument} must be one of {', '.join(map(repr, options))}. "
        f"Received: {value!r}"
    )


def checked_boolean(argument: str, value: Any, *, or_none: bool = False) -> Any:
    """Checks `True` or `False`. A string or a number is neither."""
    if or_none and value is None:
        return None
    if not _is_boolean(value):
        expected = "True, False or None" if or_none else "True or False"
        raise ValueError(_message(argument, expected, value, ""))
    return bool(value)


def checked_booleans(argument: str, values: Any, length: int) -> tuple:
    """Checks a list of `length` times `True` or `False`."""
    return _checked_list(
        lambda value: checked_boolean(argument, value),
        argument,
        values,
        "a list of booleans",
        length,
        "",
    )


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
    integer = isinstance(value, numbers.Integral) and not _is_boolean(value)
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
    return _checked_list(
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
        raise ValueError(_message(argument, expected, value, hint))
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
    return _checked_list(
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
    if not isinstance(value, numbers.Real) or _is_boolean(value):
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


def checked_string(
    argument: str, value: Any, *, or_none: bool = False, hint: str = ""
) -> Any:
    """Checks a string that is not empty."""
    if or_none and value is None:
        return None
    if not isinstance(value, str) or not value:
        expected = "a string, not empty" + (", or None" if or_none else "")
        raise ValueError(_message(argument, expected, value, hint))
    return value


def checked_strings(
    argument: str,
    values: Any,
    *,
    length: int | None = None,
    or_none: bool = False,
    hint: str = "",
) -> list[str] | None:
    """Checks a non-empty list of strings. One string is not a list."""
    if or_none and values is None:
        return None
    return list(
        _checked_list(
            lambda value: checked_string(argument, value),
            argument,
            values,
            "a list of strings" + (", or None" if or_none else ""),
            length,
            hint,
        )
    )


def as_path(argument: str, path: Any) -> pathlib.Path:
    """Checks a path: a string that is not empty, or `os.PathLike`."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise TypeError(_message(argument, "a path", path, ""))
    return pathlib.Path(os.fspath(path))


def checked_mapping(argument: str, value: Any, *, hint: str = "") -> Mapping:
    """Checks a dict or another mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(_message(argument, "a dict", value, hint))
    return value


def checked_models(argument: str, model: Any, *, or_none: bool = False) -> Any:
    """Checks a `keras.Model` or a list of them."""
    models = model if isinstance(model, (list, tuple)) else [model]
    if or_none and model is None:
        return None
    if not models or not all(isinstance(m, keras.Model) for m in models):
        expected = "a keras.Model or a list of them"
        expected += ", or None" if or_none else ""
        raise TypeError(
            _message(argument, expected, model, "")
            + f" of type {type(model).__name__}"
        )
    return model


def checked_instance(
    argument: str, value: Any, kind: type, name: str, *, or_none: bool = True
) -> Any:
    """Checks an object of a class, whose public name is `name`."""
    if (or_none and value is None) or isinstance(value, kind):
        return value
    raise TypeError(
        f"{argument} must be a {name}{', or None' if or_none else ''}. "
        f"Received: {reprlib.repr(value)} of type {type(value).__name__}"
    )


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


def _is_boolean(value):
    return isinstance(value, (bool, np.bool_))


def _same_kind(value, option):
    """Whether two values may be compared: 1 is neither `True` nor 1.0."""
    if _is_boolean(value) or _is_boolean(option):
        return _is_boolean(value) and _is_boolean(option)
    if isinstance(option, int):
        return isinstance(value, numbers.Integral)
    return isinstance(value, type(option))


def _checked_list(check, argument, values, expected, length, hint):
    """Checks each of a list of values; a string or a dict is not a list."""
    try:
        if isinstance(values, (str, bytes, Mapping)):
            raise TypeError
        checked = tuple(check(value) for value in values)
    except (TypeError, ValueError):
        checked = ()
    if not checked or length not in (None, len(checked)):
        if length is not None:
            expected += f", {length} of them"
        raise ValueError(_message(argument, expected, values, hint))
    return checked


def _at_least(least, most=None):
    return f"of at least {least}" if most is None else f"from {least} to {most}"


def _message(argument, expected, value, hint):
    hint = f" ({hint})" if hint else ""
    return (
        f"{argument} must be {expected}{hint}. Received: {reprlib.repr(value)}"
    )
