"""Where a report comes from: command, versions, machine, configuration."""

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

from keras_distill._keras.fingerprint import fingerprint
from keras_distill._version import __version__

_PACKAGES = ("tensorflow", "keras-cv", "tensorflow-datasets", "ai-edge-litert")
# What Keras adds to every configuration and nobody chose.
_NOISE = ("module", "registered_name", "build_config", "compile_config")


def versions():
    """A dict package -> version; only what is installed."""
    found = {
        "python": platform.python_version(),
        "keras_distill": __version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


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
    """The command that runs, without the folders of whoever runs it."""
    arguments = list(sys.orig_argv[1:])
    if any("ipykernel" in argument for argument in arguments):
        return "a notebook"
    if not arguments:
        return "an interactive session"
    return " ".join(["python", *map(_quoted, arguments)])


def _quoted(argument):
    text = without_folders(argument)
    # A quoted ~ is no home.
    harmless = text.replace("~/", "")
    return text if shlex.quote(harmless) == harmless else shlex.quote(text)


def without_folders(text):
    """Paths in a text relative to the working folder, or to home as `~`.

    A report is sent to colleagues, and the names of one's folders are not
    theirs to read.
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


def plain(value):
    """Anything as JSON knows it: what Keras can serialize, by its settings."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        noise = _NOISE if "class_name" in value and "config" in value else ()
        return {
            str(key): plain(v) for key, v in value.items() if key not in noise
        }
    if isinstance(value, (list, tuple, set, range)):
        return [plain(v) for v in value]
    if isinstance(value, os.PathLike):
        return without_folders(os.fspath(value))
    if isinstance(value, types.FunctionType):
        return value.__name__  # Keras would serialize a lambda's bytes.
    try:
        return plain(keras.saving.serialize_keras_object(value))
    except Exception:
        # A loss of one's own may have no get_config: its name must do.
        return getattr(value, "__name__", type(value).__name__)


def of_training(model):
    """How a compiled `keras.Model` was trained: task loss and optimizer."""
    found = {}
    if getattr(model, "loss", None) is not None:
        found["task_loss"] = plain(model.loss)
    if getattr(model, "optimizer", None) is not None:
        found["optimizer"] = plain(model.optimizer)
    return found


def of_distiller(distiller):
    """The settings of a `Distiller`."""
    teacher = distiller._networks().teacher
    return {
        "distillation_losses": {
            name: {
                "weight": distiller.distillation_loss_weights[name],
                "loss": plain(loss),
            }
            for name, loss in distiller.distillation_losses.items()
        },
        "alpha": plain(distiller.alpha),
        "views": plain(distiller.views),
        **of_training(distiller),
        **_fingerprint(teacher),
    }


def _fingerprint(teacher):
    if teacher is None:
        return {}
    return {"teacher_fingerprint": fingerprint(teacher)}
