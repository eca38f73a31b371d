"""The stage before training that some losses have: what they are shown."""

import itertools

import keras

from keras_distill._data.batch_fields import carries_teacher_outputs
from keras_distill._data.batch_fields import unpacked_batch
from keras_distill._data.sources import are_arrays
from keras_distill._data.sources import can_be_iterated_again
from keras_distill._data.sources import iterate
from keras_distill._data.sparse import as_tensor
from keras_distill._keras.layers import left_as_found


def prepare_losses(distiller, x, arguments):
    """Lets every loss prepare itself, which most do not need.

    Args:
        distiller: The `Distiller`; its losses are built.
        x: The data of `fit`.
        arguments: The arguments that `fit` was given, by name.
    """
    teacher = distiller._networks().teacher
    teachers = [] if teacher is None else [teacher]
    for name, loss in distiller.distillation_losses.items():
        batches = TeacherBatches(distiller, name, x, arguments)
        with distiller.distribute_strategy.scope(), left_as_found(*teachers):
            loss.prepare(batches)


class TeacherBatches:
    """What the teacher's taps of one loss give, batch by batch.

    The teacher sees images as in evaluation, without random augmentation. If
    the data carries the teacher's outputs, these are of the views of training.
    """

    def __init__(self, distiller, loss_name, x, arguments):
        import tensorflow as tf

        self.loss_name = loss_name
        loss = distiller.distillation_losses[loss_name]
        pair, views = distiller._networks(), distiller.views
        self.batch_size = arguments.get("batch_size") or 32
        self.limit = arguments.get("steps_per_epoch")
        # Arrays may be several inputs, not `(x, y)`.
        self.data = (x,) if are_arrays(x) else x
        self.x = x
        self._has_teacher = pair.teacher is not None
        self._teacher = tf.function(
            lambda x, outputs, y: pair.teacher_pass(
                views.teacher_evaluation(x), outputs, y=y
            ).taps_for(loss)
        )

    def _check(self):
        problem = None
        if not self._has_teacher and not carries_teacher_outputs(self.x):
            problem = "has no teacher"
        elif not can_be_iterated_again(self.x):
            kind = type(self.x).__name__
            problem = f"was given {kind}, which cannot be iterated twice"
        if problem:
            raise ValueError(
                f"Distillation loss '{self.loss_name}' has a stage before "
                "training that runs the teacher over the data, but fit "
                f"{problem}. Give a teacher and a tf.data.Dataset, a PyDataset "
                "or arrays, or call `loss.prepare(teacher_batches)` before."
            )

    def __iter__(self):
        self._check()
        batches = iterate(self.data, "x", self.batch_size)
        for batch in itertools.islice(batches, self.limit):
            sample, y, _ = unpacked_batch(batch)
            x = keras.tree.map_structure(as_tensor, sample.inputs)
            yield self._teacher(x, sample.teacher_outputs, y)
