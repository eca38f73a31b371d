"""Texts, paths, dicts, and objects of Keras."""

import os
import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any

import keras

from keras_distill._arguments.choices import checked_list
from keras_distill._arguments.choices import message


def checked_string(
    argument: str, value: Any, *, or_none: bool = False, hint: str = ""
) -> Any:
    """Checks a string that is not empty."""
    if or_none and value is None:
        return None
    if not isinstance(value, str) or not value:
        expected = "a string, not empty" + (", or None" if or_none else "")
        raise ValueError(message(argument, expected, value, hint))
    return value


def checked_strings(
    argument: str,
    values: Any,
    *,
    length: int | None = None,
    or_none: bool = False,
    hint: str = "",
) -> Any:
    """Checks a non-empty list of strings. One string is not a list."""
    if or_none and values is None:
        return None
    return list(
        checked_list(
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
        raise TypeError(message(argument, "a path", path, ""))
    return pathlib.Path(os.fspath(path))


def checked_mapping(argument: str, value: Any, *, hint: str = "") -> Mapping:
    """Checks a dict or another mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(message(argument, "a dict", value, hint))
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
            message(argument, expected, model, "")
            + f" of type {type(model).__name__}"
        )
    return model


def checked_loss(argument: str, loss: Any) -> Any:
    """Checks a loss as `compile` takes it: a `Loss`, a function, a name."""
    known = loss is None or callable(loss)
    if isinstance(loss, str):
        try:
            known = bool(keras.losses.get(loss))
        except ValueError:
            known = False
    if not known:
        expected = "a keras.losses.Loss, a function or the name of one, or None"
        raise TypeError(message(argument, expected, loss, ""))
    return loss


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
    return checked_instance(
        argument, layer, keras.layers.Layer, "Keras layer or model"
    )


def checked_model(argument: str, model: Any) -> keras.Model:
    """Checks a built `keras.Model`."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{argument} must be a keras.Model. Received: "
            f"{model!r} of type {type(model).__name__}"
        )
    if hasattr(model, "deployable_student"):
        raise TypeError(
            f"{argument} must be a network, not a {type(model).__name__} that "
            "trains some. Pass distiller.deployable_student(), or call "
            "distiller.export(...) to write a file of it."
        )
    if not model.built:
        raise ValueError(
            f"The {argument} '{model.name}' is not built: it has no weights "
            f"yet. Call it on a batch, or `{argument}.build(input_shape)`, "
            "first."
        )
    return model
