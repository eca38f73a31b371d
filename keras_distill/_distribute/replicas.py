"""One replica's part of a global batch.

Each loss term is a mean over the samples of its replica, multiplied by
(samples here / samples everywhere). The optimizer sums over replicas: the
result is the mean over the global batch.

At the end of an epoch a replica may get no samples at all. TensorFlow's CPU
convolutions fail on an empty batch, so one sample of zeros stands in. It has
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
from keras_distill._keras.trainer import reduces_over_machines


class Replica(NamedTuple):
    """What a replica knows of its part of the batch.

    Attributes:
        count: Number of samples of this replica, an integer tensor.
        share: Its share of the global batch. `None` on a single device: then
            every method returns its argument.
        before: Number of samples of the replicas before this one.
        everywhere: Number of samples of all replicas.
    """

    count: Any
    share: Any = None
    before: Any = None
    everywhere: Any = None

    def scaled(self, loss):
        """Turns a mean over samples here into its part of the mean over all."""
        if self.share is None:
            return loss
        return loss * tf.cast(self.share, loss.dtype)

    def summed(self, numbers):
        """Sums each number of a list over all replicas."""
        if self.share is None:
            return numbers
        context = tf.distribute.get_replica_context()
        numbers = self.zero_if_empty(numbers)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, numbers)

    def real(self, structure):
        """Cuts the stand-in off a structure of tensors."""
        if self.share is None:
            return structure

        def rows(x):
            return None if x is None else x[: self.count]

        real = keras.tree.map_structure(rows, structure)
        masks = keras.tree.map_structure(rows, masks_of(structure))
        return masked(real, masks)

    def gather(self, x):
        """Gathers `(samples here, ...)` to `(samples everywhere, ...)`, see
        `losses/ops/gathering.py`.

        The shares sum to 1, so the sum over replicas of (share * loss of all
        samples) is the loss of all samples. The same holds for its gradient:
        `all_gather` returns to each replica what the terms of all replicas owe
        to its samples.
        """
        if self.share is None:
            return x
        context = tf.distribute.get_replica_context()
        gathered = context.all_gather(x[: self.count], axis=0)
        gathered.set_shape([None, *x.shape[1:]])  # It forgets its shape.
        return gathered

    def local_rows(self, x):
        """Cuts `(samples everywhere, ...)` to `(samples here, ...)`.

        Unlike the inverse of `gather`, it also gives the stand-in a row.
        """
        rows = self.before + tf.range(tf.maximum(self.count, 1))
        return tf.gather(x, tf.minimum(rows, self.everywhere - 1))

    def zero_if_empty(self, terms):
        """Replaces the tensors of a list or dict by zeros on an empty
        replica."""
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
        """A context in which no stand-in enters batch statistics of `model`."""
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
    """Adds a stand-in to an empty batch.

    Args:
        batch: A structure of tensors (or `None`), batch axis first.

    Returns:
        The batch, with a stand-in if it is empty, and its `Replica`.
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
        if isinstance(tensor, tf.SparseTensor):
            raise ValueError(
                "Sparse inputs are for one device: a global batch of them "
                "cannot be shared among replicas. Make them dense first: "
                "dataset.map(lambda x, y: (tf.sparse.to_dense(x), y))."
            )
        shape = tf.concat([[rows], tf.shape(tensor)[1:]], axis=0)
        joined = tf.concat([tensor, tf.zeros(shape, tensor.dtype)], axis=0)
        joined.set_shape([None, *tensor.shape[1:]])
        return joined

    batch = keras.tree.map_structure(with_stand_in, batch)
    return batch, Replica(count, share, before, everywhere)


def reducible(logs):
    """Gives logs the shape that Keras's reduction over replicas takes.

    Over several machines it takes the mean over an axis, which a scalar does
    not have (keras-team/keras#20585).
    """
    if not reduces_over_machines(tf.distribute.get_strategy()):
        return logs
    return keras.tree.map_structure(lambda x: tf.expand_dims(x, 0), logs)
