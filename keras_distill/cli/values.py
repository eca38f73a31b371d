"""Values of options, from their texts."""

import os
import re
import textwrap

import click
import yaml

from keras_distill.workflow.screen import WIDTH

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
_LISTS = ("class_names", "quantization")


class Budget(click.ParamType):
    """`kib=100,ms=2` as a dict."""

    name = "LIMITS"

    def convert(self, value, param, context):
        try:
            pairs = [part.split("=") for part in value.split(",")]
            return {name.strip(): float(number) for name, number in pairs}
        except ValueError:
            self.fail(f"{value!r} is not like kib=100,ms=2,macs=3e6.")


class Time(click.ParamType):
    """`20m` as seconds."""

    name = "TIME"

    def convert(self, value, param, context):
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([smh]?)", value)
        if found is None:
            self.fail(f"{value!r} is not like 600, 20m or 2h.")
        return float(found[1]) * _SECONDS[found[2]]


class Setting(click.ParamType):
    """`steps=2000` as a pair."""

    name = "NAME=VALUE"

    def convert(self, value, param, context):
        name, equals, text = value.partition("=")
        if not equals:
            self.fail(f"{value!r} is not like steps=2000.")
        if name in _LISTS:
            return name, text.split(",")
        if name == "image_size":
            sides = [int(side) for side in re.findall(r"\d+", text)]
            return name, sides[0] if len(sides) == 1 else sides
        if name == "teacher_scale":
            return name, text
        try:
            return name, _number(yaml.safe_load(text))
        except yaml.YAMLError:
            self.fail(f"{text!r} is not like 7, 1e-3, true or [0.7, 1.0].")


def _number(value):
    """Numbers such as 1e-3, texts for YAML 1.1; whole ones as integers."""
    try:
        value = float(value) if isinstance(value, str) else value
    except ValueError:
        return value
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def wrapped(error):
    """The text of an error in lines that fit the screen."""
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None:
        text = error.strerror or text
        if error.filename is not None:
            text = f"{text}: {os.fspath(error.filename)}"
    return "\n".join(
        textwrap.fill(line, WIDTH - len("Error: ")) for line in text.split("\n")
    )
