"""Recipes: which operators of a file are quantized, and how.

A recipe is a list of rules, as Google's ai-edge-quantizer takes them. Nothing
here imports it: what can be refused without it is refused first.
"""

import importlib.util
import json
import os
import pathlib
import re

from keras_distill._arguments import one_of

# The kinds that TFLite's converter makes.
CONVERTED = (None, "float16", "dynamic", "int8", "int16x8")
RECIPE = "recipe"
_UNIFORM = "min_max_uniform_quantize"
NONE = "no_quantize"
# Algorithms that measure more of the data than ranges.
_MEASURING = ("GPTQ", "OSCAR")
_KEYS = ("regex", "operation", "algorithm_key", "op_config")
_BITS: dict[str, tuple[int, ...]] = {
    "weight_tensor_config": (2, 4, 8, 16),
    "activation_tensor_config": (8, 16),
}
# What has kernels for 4-bit weights; depthwise and transposed convolutions
# have none.
_INT4_OPERATORS = ("CONV_2D", "FULLY_CONNECTED")


def rule(
    regex=".*", operation="*", *, weights=8, activations=None, unsigned=False
):
    """Returns a rule of a recipe.

    Args:
        regex: Which operators: a regular expression that is found in the names
            of their outputs. They begin with the layer's name and `";"`.
        operation: Which kind of operators, such as `"CONV_2D"`; `"*"`: all.
        weights: Bits of the weights; `None`: the operators stay float.
        activations: Bits of the activations; `None`: float arithmetic with
            weights that are dequantized first.
        unsigned: Whether activations are uint8.
    """
    chosen = {"regex": regex, "operation": operation}
    if weights is None:
        return {**chosen, "algorithm_key": NONE, "op_config": {}}
    config = {
        "weight_tensor_config": {
            "num_bits": weights,
            "symmetric": True,
            "granularity": "CHANNELWISE",
            "dtype": "INT",
        },
        "compute_precision": "FLOAT" if activations is None else "INTEGER",
        "explicit_dequantize": activations is None,
    }
    if activations is not None:
        config["activation_tensor_config"] = {
            "num_bits": activations,
            "symmetric": activations == 16,
            "granularity": "TENSORWISE",
            "dtype": "UINT" if unsigned else "INT",
        }
    return {**chosen, "algorithm_key": _UNIFORM, "op_config": config}


def rules(kind, regex=".*"):
    """Returns the rules that quantize the chosen operators as `kind` does.

    Args:
        kind: One of `KINDS`, or `"int8"`, `"int16x8"`, `"float32"`.
        regex: As for `rule`.
    """
    if kind == "float32":
        return [rule(regex, weights=None)]
    activations = {"int8": 8, "int4": 8, "int16x8": 16}.get(kind)
    chosen = [rule(regex, activations=activations)]
    if kind.startswith("int4"):
        chosen += [
            rule(regex, operation, weights=4, activations=activations)
            for operation in _INT4_OPERATORS
        ]
    return chosen


# The kinds that are a recipe of ours.
KINDS = ("int4", "int8_weights", "int4_weights")


def checked_quantization(quantization):
    """Checks the `quantization=` of `kd.export.tflite`.

    Returns:
        Its name, `"recipe"` for a recipe, and the rules or `None`.

    Raises:
        TypeError, ValueError: If it is neither a name nor a recipe.
        ImportError: If it needs ai-edge-quantizer, which is not installed.
    """
    recipe = quantization
    is_text = isinstance(recipe, str)
    if isinstance(recipe, os.PathLike) or (is_text and _is_json(recipe)):
        recipe = _read(pathlib.Path(recipe))
    elif not isinstance(recipe, (list, tuple)):
        name = one_of("`quantization`", recipe, (*CONVERTED, *KINDS))
        if name in CONVERTED:
            return name, None
        check_installed(name)
        return name, rules(name)
    _check_rules(recipe)
    check_installed(RECIPE)
    return RECIPE, list(recipe)


def check_installed(quantization):
    """Raises `ImportError` if ai-edge-quantizer is missing."""
    if importlib.util.find_spec("ai_edge_quantizer") is None:
        raise ImportError(
            f"quantization={quantization!r} needs ai-edge-quantizer: pip "
            'install "keras-distill[quantization]"'
        )


def needs_data(recipe):
    """Whether a recipe measures on representative data."""
    return any(
        "activation_tensor_config" in config or key in _MEASURING
        for key, config in map(_of_rule, recipe)
        if key != NONE
    )


def measures_more_than_ranges(recipe):
    """Whether a recipe has an algorithm that needs statistics of its own."""
    return any(key in _MEASURING for key, _ in map(_of_rule, recipe))


def _of_rule(rule):
    return rule["algorithm_key"], rule.get("op_config") or {}


def _is_json(text):
    return pathlib.PurePath(text).suffix == ".json"


def _read(path):
    if not path.is_file():
        raise ValueError(f"`quantization` names a file that is not: '{path}'.")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"`quantization` must name a recipe in JSON: '{path}' is none, "
            f"{error}."
        ) from error


def _check_rules(recipe):
    if not isinstance(recipe, (list, tuple)) or not recipe:
        raise ValueError(
            "`quantization` must be a name or a recipe of at least one rule. "
            f"Received: {recipe!r}"
        )
    for number, rule in enumerate(recipe):
        where = f"`quantization[{number}]`"
        if not isinstance(rule, dict) or not set(rule) >= set(_KEYS[:3]):
            raise ValueError(
                f"{where} must be a rule of ai-edge-quantizer, a dict with "
                f"{', '.join(map(repr, _KEYS))}. Received: {rule!r}"
            )
        try:
            re.compile(rule["regex"])
        except (re.error, TypeError) as error:
            raise ValueError(
                f'{where}["regex"] must be a regular expression: '
                f"{rule['regex']!r} is none ({error})."
            ) from error
        if rule["algorithm_key"] != NONE:
            _check_bits(where, rule.get("op_config") or {})


def _check_bits(where, config):
    if not config.get("weight_tensor_config"):
        raise ValueError(
            f'{where}["op_config"] must have a "weight_tensor_config". '
            f"Received: {config!r}"
        )
    for key, expected in _BITS.items():
        bits = (config.get(key) or {}).get("num_bits")
        if key in config and bits not in expected:
            raise ValueError(
                f'{where}["op_config"]["{key}"]["num_bits"] must be one of '
                f"{', '.join(map(str, expected))}. Received: {bits!r}"
            )
