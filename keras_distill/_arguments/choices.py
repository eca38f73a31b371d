"""Choices, booleans and lists; what all messages have in common."""

import numbers
import reprlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

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
    if not is_boolean(value):
        expected = "True, False or None" if or_none else "True or False"
        raise ValueError(message(argument, expected, value, ""))
    return bool(value)


def checked_booleans(argument: str, values: Any, length: int) -> tuple:
    """Checks a list of `length` times `True` or `False`."""
    return checked_list(
        lambda value: checked_boolean(argument, value),
        argument,
        values,
        "a list of booleans",
        length,
        "",
    )


def checked_list(check, argument, values, expected, length, hint):
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
        raise ValueError(message(argument, expected, values, hint))
    return checked


def message(argument, expected, value, hint):
    hint = f" ({hint})" if hint else ""
    return (
        f"{argument} must be {expected}{hint}. Received: {reprlib.repr(value)}"
    )


def is_boolean(value):
    return isinstance(value, (bool, np.bool_))


def _same_kind(value, option):
    """Whether two values may be compared: 1 is neither `True` nor 1.0."""
    if is_boolean(value) or is_boolean(option):
        return is_boolean(value) and is_boolean(option)
    if isinstance(option, int):
        return isinstance(value, numbers.Integral)
    return isinstance(value, type(option))
