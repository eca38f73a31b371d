"""A folder with finished generations and the one that is in training.

settings.json           the settings of the training
generation_1.keras      a network
generation_1.json       its history and metrics; written last
backup.npz              the generation in training, after its last whole epoch
tensorboard/generation_1/
"""

import hashlib
import io
import json
import os
import pathlib
import zipfile

import keras
import numpy as np

from keras_distill.teachers.cache.folder import UNFINISHED
from keras_distill.teachers.cache.header import write_whole

SETTINGS = "settings.json"
FORMAT = "keras_distill.distillers.generations.born_again"
VERSION = 1
NOTES = "notes"


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
        self.backup(generation).remove()

    def backup(self, generation):
        return Backup(
            self.path / "backup.npz",
            generation,
            self.path / "tensorboard" / f"generation_{generation}",
        )

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


class Backup:
    """A file with everything on which the rest of a generation depends.

    These are the weights, the connectors, the optimizer and the states of
    random generators (Dropout, losses that draw numbers), which
    `keras.callbacks.BackupAndRestore` leaves out. The file is replaced as a
    whole.

    Args:
        file: A `pathlib.Path`.
        generation: The number of the generation in training. A backup of
            another generation is ignored.
        tensorboard: Folder for TensorBoard.

    Attributes:
        epochs_done: Number of epochs that need no more training.
        history: Their numbers, a dict name -> list.
    """

    def __init__(self, file, generation, tensorboard):
        self.file, self.generation = file, generation
        self.tensorboard = tensorboard
        self.epochs_done, self.history, self._values = 0, {}, None
        if file.exists():
            try:
                with np.load(file) as content:
                    notes = json.loads(str(content[NOTES]))
                    values = [content[f"{i}"] for i in range(notes["count"])]
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                raise ValueError(
                    f"The backup '{file}' is damaged ({error}). Delete it to "
                    f"start generation {generation} again."
                ) from error
            if notes["generation"] == generation:
                self.epochs_done = notes["epochs_done"]
                self.history, self._values = notes["history"], values

    def callbacks(self):
        tensorboard = _TensorBoard(self.tensorboard, write_graph=False)
        return [tensorboard, _BackupCallback(self)]

    def restore(self, model):
        """Restores the state of a compiled model, if there is a backup."""
        if self._values is None:
            return
        variables = _state(model)
        shapes = [tuple(v.shape) for v in variables]
        if shapes != [value.shape for value in self._values]:
            raise ValueError(
                f"The backup '{self.file}' is of another network, loss or "
                "optimizer. Delete it to start generation "
                f"{self.generation} again."
            )
        for variable, value in zip(variables, self._values):
            variable.assign(value)
        self._values = None

    def write(self, model, epoch, logs):
        for name, value in logs.items():
            self.history.setdefault(name, []).append(as_json(value))
        self.epochs_done = epoch + 1
        values = [_as_numpy(variable) for variable in _state(model)]
        notes = {
            "generation": self.generation,
            "epochs_done": self.epochs_done,
            "history": self.history,
            "count": len(values),
        }
        content = io.BytesIO()
        arrays = {str(i): value for i, value in enumerate(values)}
        np.savez(content, **arrays, **{NOTES: json.dumps(notes)})
        write_whole(self.file, content.getvalue())

    def remove(self):
        self.file.unlink(missing_ok=True)


class _BackupCallback(keras.callbacks.Callback):
    """Writes the backup. It is the last callback, so that the backup holds what
    other callbacks change, such as the learning rate."""

    def __init__(self, backup):
        super().__init__()
        self._backup = backup

    def on_train_begin(self, logs=None):
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self._backup.restore(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self._backup.write(self.model, epoch, logs or {})


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


def _state(model):
    """Returns all variables that training changes, without metrics."""
    variables = [*model.variables, *model.optimizer.variables]
    return list({id(variable): variable for variable in variables}.values())


def _as_numpy(variable):
    value = keras.ops.convert_to_numpy(variable)
    # NumPy cannot write bfloat16; float32 holds the same values.
    return value.astype("float32") if value.dtype.name == "bfloat16" else value
