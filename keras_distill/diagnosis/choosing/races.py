"""Short trainings of one candidate, on fewer samples.

A race keeps what decides which setting wins: each sample is seen as often as in
the whole training, and the learning rate goes down to 0. So it trains on fewer
samples for fewer steps, and does not stop a long training early.
"""

import math
import pathlib
import tempfile

import keras
import numpy as np

from keras_distill.datasets import batches
from keras_distill.datasets import steps_per_epoch
from keras_distill.diagnosis.short_training import stand_in
from keras_distill.distillers import Distiller
from keras_distill.recipes.rule import cosine_adam
from keras_distill.teachers.cache.cache import TeacherCache
from keras_distill.teachers.cache.options import StoredOutputs

# Passes of random views in the cache; longer training repeats them.
CACHED_PASSES = 8


class Races:
    """The data in one order, the teacher's outputs for it, and the races.

    Args:
        student: The network whose copies race.
        teacher: The teacher.
        x: The samples, in an order whose every beginning is a fair part.
        y: The labels, or `None` if not all samples have one.
        trainable: How many samples races may train on, from the first on;
            those after them judge.
        validation: `(x, y)` to judge by.
        batch_size: The number of samples in a batch.
        task_loss: The loss on the labels.
        directory: Where the teacher's outputs are kept, `None`: in a temporary
            folder that lives as long as this object.
        seed: The seed of the order of the batches.
    """

    def __init__(
        self,
        *,
        student,
        teacher,
        x,
        y,
        trainable,
        validation,
        batch_size,
        task_loss,
        directory,
        seed,
    ):
        self.student = student
        self.teacher = teacher
        self.x, self.y = x, y
        self.trainable = trainable
        self.validation = validation
        self.batch_size = batch_size
        self.task_loss = task_loss
        self.seed = seed
        self._temporary = None
        if directory is None:
            self._temporary = tempfile.TemporaryDirectory()
            directory = self._temporary.name
        self._directory = pathlib.Path(directory)

    @property
    def samples(self):
        return len(self.x)

    def correct(self, candidate, steps, whole):
        """Trains a copy of the student, and judges it.

        Args:
            candidate: A `Candidate`.
            steps: The steps of this race.
            whole: The steps of the whole training.

        Returns:
            Booleans `(validation samples,)`: where it is right.
        """
        part = min(1.0, steps / whole)
        samples = max(self.batch_size, math.ceil(self.samples * part))
        samples = min(samples, self.trainable)
        with stand_in(self.student, self.x[:1]) as copy:
            distiller = self.distiller(candidate, copy, steps)
            per_epoch = steps_per_epoch(samples, self.batch_size)
            distiller.fit(
                self.dataset(candidate, samples),
                epochs=math.ceil(steps / per_epoch),
                steps_per_epoch=per_epoch,
                callbacks=[_StopAfter(steps)],
                shuffle=False,
                verbose=0,
            )
            x, y = self.validation
            logits = distiller.predict(x, batch_size=256, verbose=0)
        if logits.shape[-1] == 1:
            return (logits[:, 0] > 0) == y
        return logits.argmax(-1) == y

    def distiller(self, candidate, student, steps):
        """Returns a compiled `kd.Distiller` without a teacher in it."""
        arguments = candidate.distiller_arguments()
        if not arguments["distillation_losses"]:
            arguments["distillation_losses"] = candidate.soft_targets()
        distiller = Distiller(student=student, **arguments)
        distiller.compile(
            cosine_adam(candidate.learning_rate, steps),
            self.task_loss,
            metrics=[_accuracy(candidate)],
        )
        return distiller

    def dataset(self, candidate, samples=None):
        """Returns the endless stream of batches with the teacher's outputs."""
        cache = cached(self.teacher, self.x, candidate, self._directory)
        samples = self.samples if samples is None else samples
        stream = batches(
            self.x[:samples],
            None if self.y is None else self.y[:samples],
            self.batch_size,
            seed=self.seed,
            indexed=True,
        )
        return cache.join(stream, samples=range(samples))


def _accuracy(candidate):
    """A metric by the name of "accuracy": one logit decides at 0."""
    if candidate.activation == "sigmoid":
        return keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)
    return "accuracy"


class _StopAfter(keras.callbacks.Callback):
    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            self.model.stop_training = True


def cached(teacher, x, candidate, directory, verbose=False):
    """Builds or opens the teacher's outputs that a candidate needs.

    Args:
        teacher: The teacher.
        x: All samples in their order.
        candidate: A `Candidate`.
        directory: The folder of the caches, a path.
        verbose: Whether to show progress.

    Returns:
        A `kd.TeacherCache`.
    """
    views, taps = candidate.views, candidate.taps
    kind, outputs = ("plain" if views is None else "crops"), None
    if taps is not None:
        kind += "_attention"
        outputs = StoredOutputs(layer_names=taps.teacher_layer_names)
    return TeacherCache.build(
        teacher,
        x,
        directory / kind,
        views=views,
        epochs=1 if views is None else CACHED_PASSES,
        outputs=outputs,
        verbose=verbose,
    )


def fair_order(y, unlabelled, seed):
    """Returns an order of all samples whose every beginning is a fair part.

    Classes, and samples without a label, are spread evenly.

    Args:
        y: Class numbers `(n,)`, or the number of samples if there are none.
        unlabelled: The number of samples after them that have no label.
        seed: The seed of the order within a class.
    """
    rng = np.random.default_rng(seed)
    kinds = np.zeros(y, "int64") if np.ndim(y) == 0 else np.asarray(y)
    kinds = np.concatenate([kinds, np.full(unlabelled, -1)])
    place = np.empty(len(kinds))
    for kind in np.unique(kinds):
        members = rng.permutation(np.flatnonzero(kinds == kind))
        offsets = np.arange(len(members)) + rng.random(len(members))
        place[members] = offsets / len(members)
    return np.argsort(place, kind="stable")
