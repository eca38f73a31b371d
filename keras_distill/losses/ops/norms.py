"""Normalization by the L2 norm."""

from keras import ops

from keras_distill.losses.ops.elementwise import safe_sqrt


def over_norm(x, axis=-1):
    """Divides `x` by its L2 norm along some axes, held above 1e-12.

    Zeros stay zeros and get no gradient; the slope of `x / max(||x||, 1e-12)`
    there is 1e12.
    """
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    # One factor for all: to divide and choose per element costs twice as much.
    factor = 1.0 / ops.maximum(safe_sqrt(squares), 1e-12)
    return x * ops.where(squares > 0.0, factor, ops.zeros_like(factor))
