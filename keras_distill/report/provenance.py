"""Where a report comes from: command, versions, machine, settings."""

import importlib.metadata
import os
import pathlib
import platform
import re
import shlex
import sys
import types

import keras
import numpy as np
from markupsafe import Markup

from keras_distill._keras.fingerprint import fingerprint
from keras_distill._version import __version__

_PACKAGES = ("tensorflow", "keras-cv", "tensorflow-datasets", "ai-edge-litert")
# What Keras adds to every configuration although nobody chose it.
_NOISE = ("module", "registered_name", "build_config", "compile_config")
# A configuration of a deep model is long; report.json has all of it.
_LONGEST_VALUE = 600


def versions():
    """A dict from package to version, of installed packages only."""
    versions = {
        "python": platform.python_version(),
        "keras_distill": __version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def machine():
    """The machine in words."""
    import tensorflow as tf

    cores = os.cpu_count()
    words = [f"{platform.system()} on {platform.machine()}"]
    words.append(f"{cores} CPU core" + ("" if cores == 1 else "s"))
    names = []
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        names.append(details.get("device_name", "GPU"))
    return ", ".join(words + (names or ["no GPU"]))


def command():
    """The running command, without the names of folders."""
    arguments = list(sys.orig_argv[1:])
    if any("ipykernel" in argument for argument in arguments):
        return "a notebook"
    if not arguments:
        return "an interactive session"
    return " ".join(["python", *map(_quoted, arguments)])


def _quoted(argument):
    text = without_folders(argument)
    # The shell does not expand a quoted ~.
    harmless = text.replace("~/", "")
    return text if shlex.quote(harmless) == harmless else shlex.quote(text)


def without_folders(text):
    """Paths in a text relative to the working folder, or to home as `~`.

    A report is sent to colleagues, who need not know the names of your
    folders.
    """
    text = str(text)
    here, home = str(pathlib.Path.cwd()), str(pathlib.Path.home())
    if text in (here, home):
        return "." if text == here else "~"
    for folder, instead in ((here, ""), (home, "~/")):
        if folder != os.sep:
            path = rf"(^|[=:,]){re.escape(folder + os.sep)}"
            text = re.sub(path, lambda found: found[1] + instead, text)
    return pathlib.Path(text).name if os.path.isabs(text) else text


def to_json(value):
    """Any value as JSON; what Keras can serialize, by its settings."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        noise = _NOISE if "class_name" in value and "config" in value else ()
        return {
            str(key): to_json(v) for key, v in value.items() if key not in noise
        }
    if isinstance(value, (list, tuple, set, range)):
        return [to_json(v) for v in value]
    if isinstance(value, os.PathLike):
        return without_folders(os.fspath(value))
    if isinstance(value, types.FunctionType):
        return value.__name__  # Keras would serialize a lambda's bytes.
    try:
        return to_json(keras.saving.serialize_keras_object(value))
    except Exception:
        # Your own loss may have no get_config. Its name must do.
        return getattr(value, "__name__", type(value).__name__)


def training_settings(model):
    """Task loss and optimizer of a compiled `keras.Model`."""
    settings = {}
    if getattr(model, "loss", None) is not None:
        settings["task_loss"] = to_json(model.loss)
    if getattr(model, "optimizer", None) is not None:
        settings["optimizer"] = to_json(model.optimizer)
    return settings


def distiller_settings(distiller):
    """The settings of a `Distiller`."""
    teacher = distiller._networks().teacher
    settings = {
        "distillation_losses": {
            name: {
                "weight": distiller.distillation_loss_weights[name],
                "loss": to_json(loss),
            }
            for name, loss in distiller.distillation_losses.items()
        },
        "alpha": to_json(distiller.alpha),
        "views": to_json(distiller.views),
        **training_settings(distiller),
    }
    if teacher is not None:
        settings["teacher_fingerprint"] = fingerprint(teacher)
    return settings


def setting_rows(facts):
    """Pairs of a setting and its value, as the page shows them."""
    configuration = dict(facts["configuration"])
    configuration.pop("distillation_losses", None)
    if facts["seeds"] is not None:
        configuration["seeds"] = facts["seeds"]
    packages = [f"{name} {v}" for name, v in facts["versions"].items()]
    return [
        *(
            (key.replace("_", " "), _value(value))
            for key, value in configuration.items()
            if value is not None
        ),
        ("command", _code(facts["command"])),
        ("date", facts["date"]),
        ("machine", facts["machine"]),
        ("versions", ", ".join(packages)),
    ]


def loss_rows(facts):
    """Name, weight and call of every distillation loss."""
    configured = facts["configuration"].get("distillation_losses") or {}
    return [
        (name, f"{row['weight']:g}", _value(row["loss"]))
        for name, row in configured.items()
    ]


def _value(value):
    text = _call_text(value)
    if len(text) > _LONGEST_VALUE:
        text = f"{text[:_LONGEST_VALUE]} ... (all in the JSON file)"
    is_call = isinstance(value, dict) and "class_name" in value
    is_word = isinstance(value, str) and " " not in value
    return _code(text) if is_call or is_word else text


def _code(text):
    return Markup("<code>{}</code>").format(text)


def _call_text(value):
    """What Keras serialized, as the call that would make it again."""
    if isinstance(value, dict) and "class_name" in value:
        config = value.get("config")
        if not isinstance(config, dict):
            return str(config or value["class_name"])
        arguments = ", ".join(
            f"{key}={_call_text(v)}"
            for key, v in config.items()
            if v is not None and key not in ("name", "dtype", "trainable")
        )
        return f"{value['class_name']}({arguments})"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_call_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_call_text, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
