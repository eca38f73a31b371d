"""L_S, the loss of `compile`, as every loss term is before the replicas meet:
a mean over the samples of this replica (replicas.py).

Keras divides its means by the number of replicas instead, and a sum or what a
function has reduced itself by nothing. What it divides by something else than
the number of samples, the positions that a mask leaves or the sum of weights,
it counts on each replica alone; here it is counted on all.
"""

import contextlib
import sys

import keras
import tensorflow as tf

from keras_distill._keras.layers import flatten_layers
from keras_distill._keras.method_patching import intercepted

# Where Keras reduces losses; it has no public name.
_REDUCTIONS = sys.modules[keras.Loss.__module__]


def task_loss(distiller, y, output, sample_weight, replica):
    """
    Args:
        distiller: The compiled `Distiller`.
        y: Labels, `None` without.
        output: What the student says.
        sample_weight: Weights or `None`.
        replica: Whose samples these are, a `Replica`.

    Returns:
        A scalar; `None` without labels or loss.
    """
    if y is None or distiller.loss is None:
        return None
    if replica.share is None:
        loss = distiller._compile_loss(y, output, sample_weight)
    else:
        with _of_replica(distiller, replica):
            loss = distiller._compile_loss(y, output, sample_weight)
    return None if loss is None else number(loss)


def number(x):
    """A loss term in float32, in float64 under floatx float64."""
    wide = keras.config.floatx() == "float64"
    return tf.cast(x, tf.float64 if wide else tf.float32)


def exchanging(distiller):
    """Names of what makes replicas exchange numbers for the loss: layers that
    mask positions, and losses that divide by what they count."""
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
    return layers + losses


@contextlib.contextmanager
def _of_replica(distiller, replica):
    def as_it_is(module, scale, value):
        return value

    def weights(module, apply_mask, sample_weight, mask, dtype, reduction):
        given = apply_mask(sample_weight, mask, dtype, reduction)
        if mask is None or reduction not in ("mean", "sum_over_batch_size"):
            return given
        counted = tf.reduce_sum(tf.cast(mask, dtype))
        size = tf.cast(tf.size(mask), dtype)
        size_of_all, counted_of_all = replica.summed([size, counted])
        here = tf.math.divide_no_nan(counted, size)
        everywhere = tf.math.divide_no_nan(size_of_all, counted_of_all)
        return given * here * everywhere

    def reduced(module, reduce, values, sample_weight=None, reduction="mean"):
        loss = reduce(values, sample_weight, reduction)
        if values.shape.rank == 0:
            return loss
        share = tf.cast(replica.share, loss.dtype)
        if reduction == "sum":
            # Of all samples, while this counts for its share.
            return tf.math.divide_no_nan(loss, share)
        if reduction == "mean_with_sample_weight" and sample_weight is not None:
            here = tf.reduce_sum(tf.cast(sample_weight, loss.dtype))
            (everywhere,) = replica.summed([here])
            return loss * tf.math.divide_no_nan(here, everywhere * share)
        return loss

    def counted(metric, update_state, value, sample_weight=None):
        # Of each output: as on one device, where a batch counts once. Where
        # there are no samples, the mean over them is no number.
        share = replica.share
        value = tf.where(share > 0, value, tf.zeros_like(value))
        return update_state(value, sample_weight=share)

    with (
        intercepted([_REDUCTIONS], "scale_loss_for_distribution", as_it_is),
        intercepted([_REDUCTIONS], "unscale_loss_for_distribution", as_it_is),
        intercepted([_REDUCTIONS], "apply_mask", weights),
        intercepted([_REDUCTIONS], "reduce_values", reduced),
        intercepted(
            getattr(distiller._compile_loss, "metrics", []),
            "update_state",
            counted,
        ),
    ):
        yield
