"""`BackupAndResume`: a killed `fit` goes on as if nothing had happened."""

import os
import warnings

import keras

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._keras import training_data
from keras_distill._keras.trainer import Trainer
from keras_distill.callbacks.backup_files import BackupFiles
from keras_distill.callbacks.callback_state import CallbackState


class BackupAndResume(keras.callbacks.Callback):
    """Lets a killed `fit` go on exactly when you start the script again.

    A run that was killed, at any moment and any number of times, ends with the
    same bits as one that was not. `keras.callbacks.BackupAndRestore` restores
    weights, optimizer and the number of the epoch. This callback also restores

    - the states of random generators (dropout, losses that draw numbers,
      Python's `random`, NumPy's global generator), recurrent states, a moving
      teacher, and the loss scale,
    - the batch within the epoch, and the metrics of the epoch so far,
    - the position in the data and the order of its epochs,
    - the history, and what training changed in the other callbacks: their
      numbers, strings and arrays, such as the best weights of
      `keras.callbacks.EarlyStopping`.

    The order of the data must be a function of (seed, epoch), as it is for
    `kd.datasets.batches`, `kd.views.grouped_batches`, and a `tf.data.Dataset`
    that shuffles with a seed. Anything else is told once. Epochs that were
    trained before are read again without a step, which takes as long as your
    data alone. To skip that, give data that begin later:

    ```python
    steps = kd.datasets.steps_per_epoch(len(x), 128)
    backup = kd.callbacks.BackupAndResume("backup")
    dataset = kd.datasets.batches(
        x, y, 128, seed=0, first_epoch=backup.initial_epoch
    )
    distiller.fit(
        dataset,
        steps_per_epoch=steps,
        epochs=10,
        initial_epoch=backup.initial_epoch,
        callbacks=[backup],
    )
    ```

    A file is written as a whole and has a checksum; the last two are kept, and
    a damaged one is passed over. They never hold a fixed teacher: it must be
    the same, and is compared by its fingerprint. On several machines, the
    directory must be shared: the chief writes what all have in common, the
    others write what only they know (such as statistics of batch normalization
    that are not synchronized), and all go on from the same step.

    It works with every distiller of `kd`. Set the seed of the script
    (`keras.utils.set_random_seed`) before you make the networks, so that the
    teacher and the data are the same again.

    Args:
        directory: A folder of this `fit` alone.
        save_freq: `"epoch"`, or the number of batches after which to save.
            Defaults to `"epoch"`.
        delete_checkpoint: Whether to delete the backup when training has
            ended, as in `keras.callbacks.BackupAndRestore`. Defaults to
            `True`.

    Attributes:
        initial_epoch: The epoch with which `fit` goes on; 0 without a backup.

    Raises:
        ValueError: In `fit`, if the backup is of other networks, losses,
            another optimizer or teacher, or if all backups are damaged.

    Example:

    ```python
    backup = kd.callbacks.BackupAndResume("backup")
    distiller.fit(train_dataset, epochs=10, callbacks=[backup])
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        save_freq: str | int = "epoch",
        *,
        delete_checkpoint: bool = True,
    ):
        super().__init__()
        if save_freq != "epoch":
            checked_integer(
                "save_freq", save_freq, hint='or "epoch": at its end'
            )
        self.directory = as_path("directory", directory)
        self.save_freq = save_freq
        self.delete_checkpoint = checked_boolean(
            "delete_checkpoint", delete_checkpoint
        )
        self._others: list[keras.callbacks.Callback] = []

    @property
    def initial_epoch(self) -> int:
        latest = BackupFiles(self.directory).latest()
        return latest[1]["epoch"] if latest else 0

    def accompany(self, callbacks):
        """Keeps the state of these callbacks too; the distiller calls it."""
        self._others = [c for c in callbacks if c is not self]

    # What Keras calls.

    def on_train_begin(self, logs=None):
        from keras_distill._distribute import local_values
        from keras_distill.callbacks.training_state import TrainingState

        if not isinstance(self.model, Trainer):
            raise TypeError(
                "BackupAndResume needs a distiller of keras_distill, whose "
                "training data it can move on. For another model use keras."
                f"callbacks.BackupAndRestore. Received: {self.model!r}"
            )
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        strategy = self.model.distribute_strategy
        process, processes = local_values.process(strategy)
        self._files = BackupFiles(self.directory, process, processes)
        self._state = TrainingState(self.model)
        self._callbacks = CallbackState(self._others)
        self._number = self._batch = self._batches_since = 0
        self._history = {}
        self._epochs = []
        self._resumed = None
        latest = self._files.latest()
        number = latest[0] if latest else 0
        if processes > 1 and not local_values.agreed(strategy, number):
            raise ValueError(
                f"The machines do not find the same backup in "
                f"'{self.directory}'. Give a directory that they share, or "
                "delete it on all of them."
            )
        if latest:
            self._number = number
            self._go_on(*latest[1:])

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self.model._start_with_epoch(None)
        if self._resumed is not None and self._resumed[0]["batch"]:
            # Keras has just reset the metrics, and others began the epoch.
            self._restore(*self._resumed)
        elif self._resumed is not None:
            self._restore_history()
        else:
            self._batch = 0
        self._resumed = None

    def on_train_batch_end(self, batch, logs=None):
        done = batch + 1
        self._batches_since += done - self._batch
        self._batch = done
        # The last batch is saved with its epoch, after the validation.
        is_last = done >= (self.params["steps"] or float("inf"))
        if self._is_due() and not is_last:
            self._write(self._epoch, done)

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self._history.setdefault(name, []).append(value)
        self._epochs.append(epoch)
        is_last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if self.save_freq == "epoch" or self._is_due() or is_last:
            self._write(epoch + 1, 0)

    def on_train_end(self, logs=None):
        if self._resumed is not None:  # all epochs were done before
            self._restore_history()
            self.model._start_with_epoch(None)
        if self.delete_checkpoint:
            self._files.remove()

    # Saving.

    def _is_due(self):
        return (
            self.save_freq != "epoch" and self._batches_since >= self.save_freq
        )

    def _write(self, epoch, batch):
        self._batches_since = 0
        self._number += 1
        shared = {
            "epoch": epoch,
            "batch": batch,
            "first_epoch": self.model._training_data()[1],
            "stopped": bool(self.model.stop_training),
            "history": self._history,
            "epochs": self._epochs,
            "callbacks": self._callbacks.changes(),
            **self._state.shared(),
        }
        content = {"local": self._state.local()}
        if not self._files.process:
            content["shared"] = shared
        self._files.write(self._number, content)

    # Resuming.

    def _go_on(self, shared, local):
        differences = self._state.differences(shared, local)
        if differences:
            raise ValueError(
                f"The backup in '{self.directory}' is of another run. They "
                f"differ in: {', '.join(differences)}. Delete the directory "
                "to start anew, or give another one."
            )
        data, first = self.model._training_data()
        same_start = shared["first_epoch"] == first
        if same_start and self._state.has_other_data(local):
            warnings.warn(
                "The first batch is not the one that the killed run began "
                "with: the result will not be that of one run. Give the same "
                "data, in an order that depends on a seed.",
                stacklevel=2,
            )
        epoch, batch = shared["epoch"], shared["batch"]
        if epoch < first:
            raise ValueError(
                f"fit begins with initial_epoch={first}, but the backup in "
                f"'{self.directory}' goes on with epoch {epoch}. Pass an "
                "earlier one, and data that begin with it."
            )
        ends = shared["stopped"] or epoch >= self.params["epochs"]
        if self.params.get("verbose"):
            begin = f"epoch {epoch + 1}, batch {batch + 1}"
            print(f"Training {'had ended' if ends else f'resumes at {begin}'}.")
        if not ends:
            training_data.pass_over(data, epoch - first)
            training_data.begin_within(data, batch)
        self._restore(shared, local)
        self._resumed = shared, local
        self.model._start_with_epoch(self.params["epochs"] if ends else epoch)

    def _restore(self, shared, local):
        self._state.restore(shared, local)
        self._callbacks.restore(shared["callbacks"])
        self._history = {k: list(v) for k, v in shared["history"].items()}
        self._epochs = list(shared["epochs"])
        self._batch = shared["batch"]
        self._restore_history()

    def _restore_history(self):
        history = self.model.history
        history.epoch = list(self._epochs)
        history.history.update(
            {name: list(values) for name, values in self._history.items()}
        )
