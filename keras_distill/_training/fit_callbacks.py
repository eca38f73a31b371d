"""The callbacks of `fit`: which ones run here, and in which order."""

import warnings

import keras

from keras_distill._data.replay import why_not_the_same_again
from keras_distill._distribute.strategies import callbacks_here
from keras_distill._training.balance import BalanceAtEpochEnd
from keras_distill._training.view_schedule import EpochSetter
from keras_distill.callbacks import BackupAndResume


def fit_callbacks(distiller, callbacks, x, shuffle):
    """Returns the callbacks of `fit` for this process.

    Args:
        distiller: The distiller.
        callbacks: As given to `fit`.
        x: The training data, as given to `fit`.
        shuffle: As given to `fit`.

    Warns:
        UserWarning: If a backup cannot go on exactly.
    """
    container = None
    if isinstance(callbacks, keras.callbacks.CallbackList):
        container, callbacks = callbacks, callbacks.callbacks
    given = [c for c in keras.tree.flatten(callbacks) if c is not None]
    distiller._check_callbacks(given)
    here = callbacks_here(given, distiller.distribute_strategy)
    here.append(EpochSetter(distiller._view_schedule()))
    tasks = distiller._tasks()
    if hasattr(tasks and tasks.balance, "end_epoch"):
        here.append(BalanceAtEpochEnd(tasks))
    # It keeps what the others have changed in an epoch.
    backups = [c for c in here if isinstance(c, BackupAndResume)]
    others = [c for c in here if c not in backups]
    for backup in backups:
        backup.accompany(others)
    _warn(given, backups, x, shuffle)
    if container is None:
        return [*others, *backups]
    container.callbacks = [*others, *backups]
    for callback in container.callbacks:
        callback.set_model(distiller)
    return container


def _warn(callbacks, backups, x, shuffle):
    if any(isinstance(c, keras.callbacks.BackupAndRestore) for c in callbacks):
        warnings.warn(
            "keras.callbacks.BackupAndRestore does not restore the states of "
            "random generators, the position in the data, the batch within "
            "the epoch, metrics, or other callbacks, and a kill while it "
            "saves can leave a file that it cannot read. "
            "kd.callbacks.BackupAndResume goes on exactly.",
            stacklevel=4,
        )
    reason = why_not_the_same_again(x, shuffle) if backups else None
    if reason:
        warnings.warn(
            f"A killed run will not go on exactly: {reason}.", stacklevel=4
        )
