"""The task loss, as a mean over the samples of one replica (replicas.py).

Keras divides a mean by the number of replicas, and a sum, or what a loss
function has reduced itself, by nothing. Some losses divide by something else
than the number of samples: the positions that a mask leaves, or the sum of the
weights. Keras counts these on each replica alone; here all replicas count.
"""

import keras
import tensorflow as tf

from keras_distill._keras.layers import flatten_layers
from keras_distill._keras.loss_reduction import reductions_intercepted
from keras_distill._keras.method_patching import intercepted
from keras_distill._training.positions import weight_of_each_position


def task_loss(distiller, y, output, sample_weight, replica):
    """Computes L_S, the loss of `compile`.

    Args:
        distiller: The compiled `Distiller`.
        y: Labels, or `None`.
        output: The student's output.
        sample_weight: Weights, or `None`.
        replica: The `Replica` that has these samples.

    Returns:
        A scalar; `None` if there are no labels or no loss.
    """
    if y is None or distiller.loss is None:
        return None
    return loss_of_output(
        distiller._compiled_loss,
        distiller.loss,
        y,
        output,
        sample_weight,
        replica,
    )


def loss_of_output(compiled, loss, y, output, sample_weight, replica):
    """Computes a compiled loss, see `task_loss`; `loss` is before compiling."""
    shape = getattr(output, "shape", None)
    if shape is not None:
        sample_weight = weight_of_each_position(
            sample_weight, tuple(shape), loss
        )
    if replica.share is None:
        loss = compiled(y, output, sample_weight)
    else:
        with (
            reductions_intercepted(*_reductions_on(replica)),
            # Keras's means of the loss of each output.
            intercepted(
                getattr(compiled, "metrics", []),
                "update_state",
                _counting_samples_of(replica),
            ),
        ):
            loss = compiled(y, output, sample_weight)
    return None if loss is None else number(loss)


def number(x):
    """A loss term in float32, in float64 under floatx float64."""
    wide = keras.config.floatx() == "float64"
    return tf.cast(x, tf.float64 if wide else tf.float32)


def exchanging(distiller):
    """Names of the layers that mask positions, of the losses that divide by
    what they count and of attention scores, which have masks: for these,
    replicas exchange numbers."""
    layers = [
        layer.name
        for layer in flatten_layers(distiller)
        if isinstance(layer, keras.layers.Masking)
        or getattr(layer, "mask_zero", False)
    ]
    losses = [
        loss.name
        for loss in keras.tree.flatten(distiller.loss)
        if getattr(loss, "ignore_class", None) is not None
        or getattr(loss, "reduction", None) == "mean_with_sample_weight"
    ]
    taps = distiller._networks().student_taps
    scores = [name for name in taps.names if taps.gives_attention(name)]
    return layers + losses + scores


def _reductions_on(replica):
    """The functions that `reductions_intercepted` takes, for a replica."""

    def apply_mask(method, sample_weight, mask, dtype, reduction):
        weight = method(sample_weight, mask, dtype, reduction)
        if mask is None or reduction not in ("mean", "sum_over_batch_size"):
            return weight
        # Keras has multiplied by size / counted, both of this replica.
        counted = tf.reduce_sum(tf.cast(mask, dtype))
        size = tf.cast(tf.size(mask), dtype)
        size_of_all, counted_of_all = replica.summed([size, counted])
        here = tf.math.divide_no_nan(counted, size)
        everywhere = tf.math.divide_no_nan(size_of_all, counted_of_all)
        return weight * here * everywhere

    def reduce_values(method, values, sample_weight, reduction):
        loss = method(values, sample_weight, reduction)
        if values.shape.rank == 0:
            return loss
        share = tf.cast(replica.share, loss.dtype)
        if reduction == "sum":
            # The step multiplies every loss of this replica by its share.
            return tf.math.divide_no_nan(loss, share)
        if reduction == "mean_with_sample_weight" and sample_weight is not None:
            here = tf.reduce_sum(tf.cast(sample_weight, loss.dtype))
            (everywhere,) = replica.summed([here])
            return loss * tf.math.divide_no_nan(here, everywhere * share)
        return loss

    return apply_mask, reduce_values


def _counting_samples_of(replica):
    """Updates a mean of losses: all replicas together count as one batch."""

    def update_state(metric, method, value, sample_weight=None):
        # The mean over no samples is not a number.
        value = tf.where(replica.share > 0, value, tf.zeros_like(value))
        return method(value, sample_weight=replica.share)

    return update_state
