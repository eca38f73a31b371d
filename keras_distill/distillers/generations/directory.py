"""A folder with finished generations and the one that is in training.

settings.json           the settings of the training
generation_1.keras      a network
generation_1.json       its history and metrics; written last
backup/generation_1/    the generation in training, after its last whole epoch
tensorboard/generation_1/
"""

import hashlib
import json
import os
import pathlib
import shutil

import keras
import numpy as np

from keras_distill._files import UNFINISHED
from keras_distill._files import write_whole
from keras_distill.callbacks import BackupAndResume

SETTINGS = "settings.json"
FORMAT = "keras_distill.distillers.generations.born_again"
VERSION = 1
BACKUP = "backup"


class Directory:
    """The folder of one `kd.born_again`.

    Args:
        path: The folder. It is made if it does not exist.
        settings: A dict of JSON values.
        networks: A dict generation -> a line that describes the network. There
            may be more or fewer than in the folder.

    Raises:
        ValueError: If the folder has other settings or networks, or holds
            something else.
    """

    def __init__(self, path, settings, networks):
        self.path = pathlib.Path(path)
        settings = {**settings, "format": FORMAT, "version": VERSION}
        # As they come back from the file.
        settings = json.loads(json.dumps(settings, default=repr))
        networks = {str(number): line for number, line in networks.items()}
        file = self.path / SETTINGS
        if file.exists():
            before = json.loads(file.read_text())
            known = before.pop("networks", {})
            differences = [
                *_differences(before, settings),
                *_differences(
                    {n: line for n, line in known.items() if n in networks},
                    {n: line for n, line in networks.items() if n in known},
                    "networks/",
                ),
            ]
            if differences:
                listed = "\n  ".join(differences)
                raise ValueError(
                    f"'{path}' holds generations that were made with other "
                    f"settings:\n  {listed}\nPass the same settings to go on "
                    "with them, or another directory."
                )
            networks = {**known, **networks}
        elif self.path.exists() and any(
            not p.name.startswith(UNFINISHED) for p in self.path.iterdir()
        ):
            raise ValueError(
                f"'{path}' holds something else than born-again generations. "
                "Pass another directory."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        content = {**settings, "networks": networks}
        write_whole(file, _json(content))

    def load(self, generation, network):
        """Loads the weights of a finished generation into its network.

        Returns:
            `(history, metrics)`, or `None` if it is not finished.
        """
        file = self._file(generation, "json")
        if not file.exists():
            return None
        record = json.loads(file.read_text())
        network.load_weights(self._file(generation, "keras"))
        return record["history"], record["metrics"]

    def save(self, generation, network, history, metrics):
        """Keeps a finished generation and removes its backup."""
        file = self._file(generation, "keras")
        unfinished = file.with_name(f"{UNFINISHED}{file.name}")
        network.save(unfinished)
        os.replace(unfinished, file)
        record = {"history": history, "metrics": metrics}
        write_whole(self._file(generation, "json"), _json(record))
        shutil.rmtree(self.path / BACKUP)

    def backup(self, generation):
        """Returns the callback that keeps this generation in training."""
        return BackupAndResume(
            self.path / BACKUP / f"generation_{generation}",
            delete_checkpoint=False,
        )

    def tensorboard(self, generation):
        """Returns the callback that logs this generation."""
        logs = self.path / "tensorboard" / f"generation_{generation}"
        return _TensorBoard(logs, write_graph=False)

    def _file(self, generation, suffix):
        return self.path / f"generation_{generation}.{suffix}"


def describe(network):
    """Returns a line that differs for networks of different shapes."""
    shapes = json.dumps([list(weight.shape) for weight in network.weights])
    digest = hashlib.sha256(shapes.encode()).hexdigest()[:12]
    return f"{network.count_params():,} parameters, shapes {digest}"


def _json(content):
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _differences(before, now, path=""):
    """Returns lines such as `alpha: 0.5 in the directory, 1.0 given`."""
    if isinstance(before, dict) and isinstance(now, dict):
        lines = []
        for key in sorted(before.keys() | now.keys()):
            lines += _differences(
                before.get(key), now.get(key), f"{path}{key}/"
            )
        return lines
    if before == now:
        return []
    return [f"{path[:-1]}: {before!r} in the directory, {now!r} given"]


class _TensorBoard(keras.callbacks.TensorBoard):
    """Skips metrics of several numbers, at which Keras's callback fails."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch)  # It writes no logs of batches.

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, _scalars(logs))

    def on_test_end(self, logs=None):
        super().on_test_end(_scalars(logs))


def _scalars(logs):
    return {k: v for k, v in (logs or {}).items() if np.ndim(v) == 0}


def as_json(value):
    """Returns a metric's value as a number or a list of numbers."""
    return np.asarray(value).tolist()
