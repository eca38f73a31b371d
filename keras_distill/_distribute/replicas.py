"""One replica's part of a global batch.

Every loss term is first a mean over the samples of its replica, then multiplied
by (samples here / samples everywhere): the sum over replicas, which the
optimizer takes, is the mean over the global batch.

A replica can get no samples at all, at the end of an epoch. TensorFlow's CPU
convolutions fail on an empty batch, so one sample of zeros stands in; it has
share 0, is cut off from outputs, and stays out of batch statistics.
"""

from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_distill._keras.layers import batch_moments_intercepted
from keras_distill._keras.layers import batch_normalizations
from keras_distill._keras.masks import masked
from keras_distill._keras.masks import masks_of


class Replica(NamedTuple):
    """
    Attributes:
        count: Samples of this replica, an integer tensor.
        share: Its share of the global batch; `None` on a single device, where
            every method returns what it is given.
        before: Samples of the replicas before this one.
        everywhere: Samples of all replicas.
    """

    count: Any
    share: Any = None
    before: Any = None
    everywhere: Any = None

    def scaled(self, loss):
        """A mean over samples here -> its part of the mean over all."""
        if self.share is None:
            return loss
        return loss * tf.cast(self.share, loss.dtype)

    def summed(self, numbers):
        """A list of numbers of the samples here -> of those of all replicas."""
        if self.share is None:
            return numbers
        context = tf.distribute.get_replica_context()
        numbers = self.zero_if_empty(numbers)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, numbers)

    def real(self, structure):
        """Outputs without the stand-in."""
        if self.share is None:
            return structure

        def rows(x):
            return None if x is None else x[: self.count]

        real = keras.tree.map_structure(rows, structure)
        masks = keras.tree.map_structure(rows, masks_of(structure))
        return masked(real, masks)

    def gather(self, x):
        """`(samples here, ...)` -> `(samples everywhere, ...)`, see
        `losses/gathering.py`. The gradient of all replicas comes back.

        The sum over replicas of (share * loss of all samples) is the loss of
        all samples, as the shares sum to 1; so is its gradient, once each
        replica has collected what the others' terms owe to its samples. That
        is what `all_gather` does.
        """
        if self.share is None:
            return x
        context = tf.distribute.get_replica_context()
        gathered = context.all_gather(x[: self.count], axis=0)
        gathered.set_shape([None, *x.shape[1:]])  # It forgets its shape.
        return gathered

    def local_rows(self, x):
        """`(samples everywhere, ...)` -> `(samples here, ...)`, not `gather`
        reversed: where there are none, the stand-in gets a row too."""
        rows = self.before + tf.range(tf.maximum(self.count, 1))
        return tf.gather(x, tf.minimum(rows, self.everywhere - 1))

    def zero_if_empty(self, terms):
        """A list or dict of tensors (or `None`), zeros on an empty replica."""
        if self.share is None:
            return terms

        def guarded(x):
            if x is None:
                return None
            if isinstance(x, tf.IndexedSlices):
                return tf.IndexedSlices(
                    guarded(x.values), x.indices, x.dense_shape
                )
            return tf.where(self.count > 0, x, tf.zeros_like(x))

        if isinstance(terms, dict):
            return {name: guarded(value) for name, value in terms.items()}
        return [guarded(value) for value in terms]

    def statistics_of_real_samples(self, model):
        """A context in which no stand-in enters `model`'s batch statistics."""
        layers = []
        if self.share is not None:
            layers = batch_normalizations(model)

        def moments(layer, method, inputs, mask=None):
            if layer.synchronized and mask is None:
                return method(inputs[: self.count], mask)
            mean, variance = method(inputs, mask)
            empty = self.count == 0
            return (
                tf.where(empty, tf.cast(layer.moving_mean, mean.dtype), mean),
                tf.where(
                    empty,
                    tf.cast(layer.moving_variance, variance.dtype),
                    variance,
                ),
            )

        return batch_moments_intercepted(layers, moments)


def pad_empty_replica(batch):
    """-> the batch, with a stand-in if it is empty, and its `Replica`.

    Args:
        batch: A structure of tensors (or `None`), batch axis first.
    """
    count = tf.shape(tf.nest.flatten(batch)[0])[0]
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return batch, Replica(count)
    context = tf.distribute.get_replica_context()
    places = tf.range(context.num_replicas_in_sync)
    here = context.replica_id_in_sync_group
    counts = tf.where(places == here, count, 0)
    counts = context.all_reduce(tf.distribute.ReduceOp.SUM, counts)
    before = tf.reduce_sum(tf.where(places < here, counts, 0))
    everywhere = tf.reduce_sum(counts)
    share = tf.cast(count, tf.float32) / tf.cast(everywhere, tf.float32)
    rows = tf.where(count > 0, 0, 1)

    def with_stand_in(tensor):
        if tensor is None:
            return None
        shape = tf.concat([[rows], tf.shape(tensor)[1:]], axis=0)
        joined = tf.concat([tensor, tf.zeros(shape, tensor.dtype)], axis=0)
        joined.set_shape([None, *tensor.shape[1:]])
        return joined

    batch = keras.tree.map_structure(with_stand_in, batch)
    return batch, Replica(count, share, before, everywhere)


def reducible(logs):
    """Logs in the shape that Keras's reduction over replicas takes.

    Over several machines it takes the mean over an axis, which a scalar does
    not have (keras-team/keras#20585).
    """
    if not tf.distribute.get_strategy().extended._in_multi_worker_mode():
        return logs
    return keras.tree.map_structure(lambda x: tf.reshape(x, [1]), logs)
