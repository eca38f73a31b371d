"""The stage before training of losses that have one: what they are shown."""

import itertools

import keras

from keras_distill._data.batch_fields import carries_teacher_outputs
from keras_distill._data.batch_fields import unpacked_batch
from keras_distill._data.sources import are_arrays


def prepare_losses(distiller, x, arguments):
    """Lets every loss prepare itself, which most do not need.

    Args:
        distiller: The `Distiller`; its losses are built.
        x: The data of `fit`.
        arguments: The arguments that `fit` was given, by name.
    """
    for name, loss in distiller.distillation_losses.items():
        batches = TeacherBatches(distiller, name, x, arguments)
        with distiller.distribute_strategy.scope():
            loss.prepare(batches)


class TeacherBatches:
    """What the teacher's taps of one loss give, batch by batch.

    Images are seen as in evaluation: without random augmentation. Or the data
    carries what the teacher said: of the views of training.
    """

    def __init__(self, distiller, loss_name, x, arguments):
        import tensorflow as tf

        self.loss_name = loss_name
        self.names = distiller.distillation_losses[loss_name].teacher_layer_name
        pair, views = distiller._networks(), distiller.views
        self.batch_size = arguments.get("batch_size") or 32
        self.limit = arguments.get("steps_per_epoch")
        self.x = x
        self._has_teacher = pair.teacher is not None
        self._teacher = tf.function(
            lambda x, outputs: pair.teacher_pass(
                views.teacher_evaluation(x), outputs
            ).of(self.names)
        )

    def _check(self):
        problem = None
        if not self._has_teacher and not carries_teacher_outputs(self.x):
            problem = "has no teacher"
        elif not _can_be_iterated_again(self.x):
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
        for batch in itertools.islice(self._batches(), self.limit):
            sample, _, _ = unpacked_batch(batch)
            x = keras.tree.map_structure(
                keras.ops.convert_to_tensor, sample.inputs
            )
            yield self._teacher(x, sample.teacher_outputs)

    def _batches(self):
        if isinstance(self.x, keras.utils.PyDataset):
            return (self.x[i] for i in range(self.x.num_batches))
        if not are_arrays(self.x):
            return iter(self.x)
        size = self.batch_size
        return (
            (keras.tree.map_structure(lambda a: a[i : i + size], self.x),)
            for i in range(0, len(keras.tree.flatten(self.x)[0]), size)
        )


def _can_be_iterated_again(x):
    import tensorflow as tf

    kinds = (tf.data.Dataset, keras.utils.PyDataset)
    return isinstance(x, kinds) or are_arrays(x)
