"""One training of a run, which goes on where it was killed."""

import math
import shutil

import keras

from keras_distill import datasets
from keras_distill.callbacks import BackupAndResume
from keras_distill.losses import DistillationLoss
from keras_distill.workflow.settings import plain

# A training is saved, and measured on the validation images, so many times, and
# not more often than after so many steps.
PARTS, LEAST_STEPS = 40, 25
# So many of them are enough for a curve.
VALIDATED = 2000


def task_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(run, step, distiller, dataset, steps, validation, bar):
    """Trains, and goes on with what a killed run has trained.

    Args:
        run: The `Run`.
        step: The name of the step, for its files.
        distiller: A compiled `kd.Distiller`.
        dataset: A `tf.data.Dataset` without end, in an order that depends on a
            seed.
        steps: The number of steps.
        validation: `(x, y)`, or `None`.
        bar: The `Step` on the screen.

    Returns:
        The history, a dict from name to values.
    """
    if validation is not None and len(validation[0]) > VALIDATED:
        validation = datasets.subset(*validation, VALIDATED, seed=0)
    parts = _parts(steps)
    per_part = steps // parts
    backup = BackupAndResume(
        run.folder.work(f"{step}_backup"), delete_checkpoint=False
    )
    history = distiller.fit(
        dataset,
        steps_per_epoch=per_part,
        epochs=parts,
        validation_data=validation,
        validation_batch_size=256,
        shuffle=False,
        verbose=0,
        callbacks=[
            backup,
            keras.callbacks.TensorBoard(
                run.folder.path / "tensorboard" / step, write_graph=False
            ),
            _Bar(bar, per_part, steps),
            _MustBeFinite(run.settings["learning_rate"]),
        ],
    ).history
    return plain(history)


def forget_backup(run, step):
    """Deletes what the training of a step saved, once its result is."""
    shutil.rmtree(run.folder.work(f"{step}_backup"), ignore_errors=True)


def length(steps):
    """The steps that `fit` takes: parts of the same length."""
    return steps // _parts(steps) * _parts(steps)


def _parts(steps):
    return max(1, min(PARTS, steps // LEAST_STEPS))


class NoTeacher(DistillationLoss):
    """Teaches nothing: a Distiller with it trains the student alone.

    So both trainings go through the same steps, and resume alike.
    """

    needs_teacher = False

    def compute_loss(
        self,
        teacher_outputs,
        student_outputs,
        y=None,
        sample_weight=None,
        sample_index=None,
    ):
        return keras.ops.zeros(())


class _MustBeFinite(keras.callbacks.Callback):
    """Ends a training that diverged, with a sentence."""

    def __init__(self, learning_rate):
        super().__init__()
        self._rate = learning_rate

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs["loss"]):
            raise ValueError(
                "The training diverged: the loss is no longer a number. Take a "
                f"smaller rate than {self._rate:g}, settings="
                "{'learning_rate': ...} (--set learning_rate=...), and see "
                "that the images hold numbers."
            )


class _Bar(keras.callbacks.Callback):
    """Moves the bar with the steps."""

    def __init__(self, bar, per_part, steps):
        super().__init__()
        self._place = [bar]
        self._per_part, self._steps = per_part, steps

    def on_epoch_begin(self, epoch, logs=None):
        self._place[1:] = [epoch * self._per_part]

    def on_train_batch_end(self, batch, logs=None):
        bar, before = self._place
        bar.report(before + batch + 1, self._steps)
