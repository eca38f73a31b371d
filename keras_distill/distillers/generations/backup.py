"""The state of a generation after each epoch, to go on from."""

import io
import json
import zipfile

import keras
import numpy as np

from keras_distill.teachers.cache.folder import write_whole

NOTES = "notes"


class Backup:
    """One file with all that the rest of a generation depends on.

    Weights, connectors, the optimizer, and the states of random generators
    (Dropout, losses that draw), which `keras.callbacks.BackupAndRestore`
    leaves out. It is there whole or not at all.

    Args:
        file: A `pathlib.Path`.
        generation: The number of the generation that is trained; what the
            file holds of another one is passed over.
        tensorboard: Folder for TensorBoard.

    Attributes:
        epochs_done: Number of epochs that need not be trained again.
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
                    f"begin generation {generation} again."
                ) from error
            if notes["generation"] == generation:
                self.epochs_done = notes["epochs_done"]
                self.history, self._values = notes["history"], values

    def callbacks(self):
        tensorboard = _TensorBoard(self.tensorboard, write_graph=False)
        return [tensorboard, _BackupCallback(self)]

    def restore(self, model):
        """Puts the state into a compiled model, if there is one."""
        if self._values is None:
            return
        variables = _state(model)
        shapes = [tuple(v.shape) for v in variables]
        if shapes != [value.shape for value in self._values]:
            raise ValueError(
                f"The backup '{self.file}' is of another network, loss or "
                "optimizer than this one. Delete it to begin generation "
                f"{self.generation} again."
            )
        for variable, value in zip(variables, self._values):
            variable.assign(value)
        self._values = None

    def write(self, model, epoch, logs):
        for name, value in logs.items():
            self.history.setdefault(name, []).append(plain(value))
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
    """The last of the callbacks: what others change at the end of an epoch,
    such as the learning rate, is in the backup."""

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
    """Shows numbers; Keras's own stops at a metric of several."""

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch)  # It writes none of single batches.

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, _scalars(logs))

    def on_test_end(self, logs=None):
        super().on_test_end(_scalars(logs))


def _scalars(logs):
    return {k: v for k, v in (logs or {}).items() if np.ndim(v) == 0}


def plain(value):
    """A metric's value as JSON knows it: a number, of several a list."""
    return np.asarray(value).tolist()


def _state(model):
    """All variables that training changes, each once; no metrics."""
    variables = [*model.variables, *model.optimizer.variables]
    return list({id(variable): variable for variable in variables}.values())


def _as_numpy(variable):
    value = keras.ops.convert_to_numpy(variable)
    # A dtype that NumPy cannot write; in float32 it has the same values.
    return value.astype("float32") if value.dtype.name == "bfloat16" else value
