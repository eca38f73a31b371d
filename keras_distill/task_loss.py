"""L_S, the loss of `compile`, as every loss term is before the replicas meet:
a mean over the samples of this replica (replicas.py).

Keras divides its means by the number of replicas instead, and a sum or what a
function has reduced itself by nothing.
"""

import contextlib
import sys

import keras
import tensorflow as tf

from keras_distill.intercept import intercepted

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
        with _of_replica(distiller, replica.share):
            loss = distiller._compile_loss(y, output, sample_weight)
    return None if loss is None else number(loss)


def number(x):
    """A loss term in float32, in float64 under floatx float64."""
    wide = keras.config.floatx() == "float64"
    return tf.cast(x, tf.float64 if wide else tf.float32)


@contextlib.contextmanager
def _of_replica(distiller, share):
    def as_it_is(module, scale, value):
        return value

    def reduced(module, reduce, values, sample_weight=None, reduction="mean"):
        loss = reduce(values, sample_weight, reduction)
        if reduction == "sum" and values.shape.rank != 0:
            # Of all samples, while this counts for its share.
            loss = tf.math.divide_no_nan(loss, tf.cast(share, loss.dtype))
        return loss

    def counted(metric, update_state, value, sample_weight=None):
        # Of each output: as on one device, where a batch counts once. Where
        # there are no samples, the mean over them is no number.
        value = tf.where(share > 0, value, tf.zeros_like(value))
        return update_state(value, sample_weight=share)

    with (
        intercepted([_REDUCTIONS], "scale_loss_for_distribution", as_it_is),
        intercepted([_REDUCTIONS], "unscale_loss_for_distribution", as_it_is),
        intercepted([_REDUCTIONS], "reduce_values", reduced),
        intercepted(
            getattr(distiller._compile_loss, "metrics", []),
            "update_state",
            counted,
        ),
    ):
        yield
