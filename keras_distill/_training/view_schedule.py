"""How a Distiller uses its views: when, on which samples, and do they fit.

A random view is a function of (seed, epoch, sample index). The index travels
with the data. So does the epoch if the data knows it; otherwise it is a
variable here, set at the beginning of every epoch. A checkpoint does not hold
it: a run that continues with `initial_epoch` sees the views it would have seen.
"""

import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_distill._data.for_network import check_fits
from keras_distill._data.for_network import for_network
from keras_distill._keras.layers import flatten_layers
from keras_distill._keras.layers import only_rounds
from keras_distill._keras.optimizers import steps_taken
from keras_distill.views.mixup import advice
from keras_distill.views.mixup import check_blended_labels
from keras_distill.views.mixup import check_groups
from keras_distill.views.mixup import is_whole_data_set


class ViewSchedule:
    """Shows each batch through a Distiller's views, and checks them.

    Args:
        distiller: The `Distiller`.
    """

    def __init__(self, distiller):
        self.distiller = distiller
        self._warned = self._is_whole = False
        with distiller.distribute_strategy.scope():
            self.epoch = keras.Variable(
                0, dtype="int32", trainable=False, name="epoch"
            )

    # The step.

    def training(self, sample, y, sample_weight):
        """The batch as the networks see it in the training step: a `View`."""
        views, index = self.distiller.views, sample.sample_index
        if index is None:
            epoch = self._step_number()
        else:
            epoch = self.epoch.value if sample.epoch is None else sample.epoch
        return views.training(
            sample.inputs, y, sample_weight, epoch=epoch, sample_index=index
        )

    def _step_number(self):
        """A number of its own for each step and replica."""
        step = tf.cast(steps_taken(self.distiller.optimizer), tf.int32)
        strategy = tf.distribute.get_strategy()
        context = tf.distribute.get_replica_context()
        if strategy.num_replicas_in_sync == 1 or context is None:
            return step
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        return step * strategy.num_replicas_in_sync + replica

    # Checks, on the first batch.

    def check(self, sample):
        """Raises if what the views give does not fit the networks."""
        distiller = self.distiller
        views = distiller.views
        for network, role, see in (
            (distiller.student, "student", views.evaluation),
            (
                distiller._networks().teacher,
                "teacher",
                views.teacher_evaluation,
            ),
        ):
            if network is None:
                continue
            x = for_network(network, see(sample.inputs), role)
            check_fits(network, x, role, views)
            if not self._warned:
                self._warned = _warn_of_range(network, x, role)
        self.check_index(sample)

    def check_index(self, sample):
        """Raises if the views of these samples cannot be replayed."""
        if sample.sample_index is None or self._group_size == 1:
            return
        index = np.asarray(sample.sample_index)
        strategy = self.distiller.distribute_strategy
        check_groups(index, self._group_size, strategy.num_replicas_in_sync)
        # Data that knows its epochs may continue with the next one.
        self._is_whole = sample.epoch is None and is_whole_data_set(
            index, self._group_size
        )

    def check_steps(self, steps):
        """Raises if a batch that must be the whole data set is not the only
        one.

        Args:
            steps: Number of batches of an epoch; `None` if it is not known.
        """
        # Data of a kind that was looked at before is not looked at again.
        is_whole, self._is_whole = self._is_whole, False
        if is_whole and steps is not None and steps > 1:
            self.distiller._first_batch.value.forget()
            raise ValueError(
                f"mixup blends samples of a group of {self._group_size} "
                "neighbours in the data set, so that a view can be replayed. "
                f"But the first of {steps} batches ends within a group. "
                + advice(self._group_size)
            )

    def check_shuffled(self, sample, batch_size):
        """Raises if Keras shuffles arrays whose groups must stay whole."""
        if sample.sample_index is not None and self._group_size > 1:
            order = np.random.default_rng(0).permutation(sample.sample_index)
            check_groups(order[:batch_size], self._group_size)

    def check_labels(self, y):
        """Raises if the task loss does not take the views' labels."""
        check_blended_labels(self.distiller.views, self.distiller.loss, y)

    @property
    def _group_size(self):
        return self.distiller.views.group_size


class EpochSetter(keras.callbacks.Callback):
    """Tells the views which epoch it is."""

    def __init__(self, schedule):
        super().__init__()
        self._schedule = schedule

    def on_train_begin(self, logs=None):
        self._schedule.check_steps(self.params.get("steps"))

    def on_epoch_begin(self, epoch, logs=None):
        self._schedule.epoch.assign(epoch)


def _warn_of_range(network, x, role):
    """Warns of images in [0, 255] for a network that does not rescale them."""
    if keras.tree.is_nested(x) or len(x.shape) != 4:
        return False
    values = np.asarray(x)
    if not values.size or values.min() < 0 or values.max() <= 2.0:
        return False
    scaling = (keras.layers.Rescaling, keras.layers.Normalization)
    early = flatten_layers(network, include_self=False)[:6]
    if any(isinstance(layer, scaling) for layer in early):
        return False
    # The range of an aware student's input says what it was made for.
    rounding = list(filter(only_rounds, early))
    if (
        rounding
        and not 0 < 2 * float(np.asarray(rounding[0].maximum)) < values.max()
    ):
        return False
    warnings.warn(
        f"The {role} '{network.name}' gets images in [{values.min():.3g}, "
        f"{values.max():.3g}] and has no layer that rescales them. If it was "
        f"built for [0, 1], pass {role}_preprocess=keras.layers.Rescaling("
        f"1 / 255) (kd.views.Preprocessing({role}=...)).",
        stacklevel=2,
    )
    return True
