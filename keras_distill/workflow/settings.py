"""What a run settles: each value, and why it is that value."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np
import yaml

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_range
from keras_distill._arguments import checked_size
from keras_distill._arguments import checked_strings
from keras_distill._arguments import checked_temperature
from keras_distill._arguments import one_of
from keras_distill._files import write_whole
from keras_distill.teachers.input_scale import SCALES

QUANTIZATIONS = ("float32", "float16", "dynamic", "int8", "int16x8")
GIVEN = "given"
_HEADER = """\
# What this run settled: each value, and why. To repeat the run:
#     keras-distill run --settings settings.yaml --output again
"""


def _quantizations(name, values):
    values = [values] if isinstance(values, str) else values
    checked_strings(name, values)
    return [one_of(name, value, QUANTIZATIONS) for value in values]


def _image_size(name, value):
    return list(checked_size(name, value))


# The settings that a user may fix, and their checks.
CHECKS = {
    "image_size": _image_size,
    "class_names": checked_strings,
    "teacher_scale": lambda name, value: one_of(name, value, tuple(SCALES)),
    "batch_size": checked_integer,
    "steps": checked_integer,
    "seed": lambda name, value: checked_integer(name, value, 0, 2**32 - 1),
    "quantization": _quantizations,
    "learning_rate": checked_number,
    # What is chosen; the temperature `None` means: train alone.
    "temperature": lambda name, value: value and checked_temperature(value),
    "alpha": lambda name, value: checked_number(name, value, "[0, 1]"),
    "crop_area": lambda name, value: value and list(checked_range(name, value)),
    "attention": checked_boolean,
    # Of kd.models.mobile.
    "width": checked_number,
    "depth": checked_integer,
    "activation": lambda name, value: one_of(
        name, value, ("relu6", "hard_swish")
    ),
}


class Settings:
    """Values by name, each with the reason for it.

    Args:
        fixed: The values that are not to be chosen, a dict from name to value.
        why: The reason for these.
    """

    def __init__(self, fixed=None, why=GIVEN):
        self.fixed = dict(fixed or {})
        self._why = why
        self.entries = {}
        self.facts = {}

    def __getitem__(self, name):
        return self.entries[name]["value"]

    def settle(self, name, value, why):
        """Notes a value unless it is fixed, and returns what holds."""
        if name in self.fixed:
            value, why = self.fixed[name], self._why
        self.entries[name] = {"value": plain(value), "why": why}
        return self[name]

    def as_dict(self):
        """What `restore` takes, for JSON."""
        return {"entries": self.entries, "facts": plain(self.facts)}

    def restore(self, before):
        """Takes over what a killed run had settled; `None`: nothing."""
        if before is not None:
            self.entries, self.facts = before["entries"], before["facts"]

    def write(self, path, arguments):
        """Writes all as YAML.

        Args:
            path: A `pathlib.Path`.
            arguments: The arguments of the run that are texts or numbers.
        """
        content = {
            "arguments": plain(arguments),
            "settings": self.entries,
            "facts": plain(self.facts),
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_whole(path, (_HEADER + text).encode())


def read(settings):
    """Reads the argument `settings` of `kd.distill`.

    Args:
        settings: `None`, a dict from name to value, or the path of a
            `settings.yaml`.

    Returns:
        A pair of dicts: the settings by name, checked; and the arguments of
        the run that wrote the file.
    """
    if settings is None:
        return {}, {}
    arguments = {}
    if isinstance(settings, Mapping):
        values = dict(settings)
    else:
        values, arguments = _read_file(as_path("settings", settings))
    values = {
        name: value["value"] if _has_value(value) else value
        for name, value in values.items()
    }
    unknown = [name for name in values if name not in CHECKS]
    if isinstance(settings, Mapping) and unknown:
        raise ValueError(
            f"settings has the unknown name '{unknown[0]}'. Known: "
            f"{', '.join(CHECKS)}. Received: {settings!r}"
        )
    return {
        name: CHECKS[name](f"settings['{name}']", value)
        for name, value in values.items()
        if name in CHECKS
    }, arguments


def _read_file(path):
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(
            "settings must be the settings.yaml of a run, or a dict. Received: "
            f"'{path}', and there is no such file."
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return dict(content["settings"]), dict(content["arguments"])
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise ValueError(
            f"settings='{path}' is not the settings.yaml of a run: it needs "
            f"the entries 'arguments' and 'settings' ({error})."
        ) from error


def _has_value(value):
    return isinstance(value, Mapping) and "value" in value


def plain(value):
    """A value as YAML and JSON know it."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
