"""Mixup: blending each sample with another one of its batch.

`keras_cv.layers.MixUp` draws its partners and weights from global state and
takes neither from outside, so the blend is here; it is one line.
"""

import keras
from keras import ops

from keras_distill.views import draws


def partners(groups, ranks):
    """For each sample, where in the batch the one it is blended with stands.

    The samples of a group stand in a circle, in the order of their ranks, and
    each takes the next one: nobody its own, unless a group has one member. It
    does not matter where in the batch the samples stand, or what other groups
    are there.

    Args:
        groups: `(batch,)` int32.
        ranks: `(batch,)` uint32, `draws.hashed` of the samples.

    Returns:
        `(batch,)` int32.
    """
    key = ops.cast(groups, "int64") * 2**32 + ops.cast(ranks, "int64")
    order = ops.argsort(key)
    groups = ops.take(groups, order)
    start = ops.searchsorted(groups, groups, side="left")
    place = ops.arange(ops.shape(groups)[0], dtype="int32")
    is_last = groups != ops.roll(groups, -1)
    # The last sample of the batch closes its group even if it is the only one.
    is_last = ops.logical_or(is_last, place == ops.shape(groups)[0] - 1)
    following = ops.where(is_last, ops.cast(start, "int32"), place + 1)
    following = ops.take(order, following)
    # From the sorted order back to the batch's own.
    return ops.cast(ops.take(following, ops.argsort(order)), "int32")


def blended(x, partner, weight):
    """`weight * x + (1 - weight) * x[partner]`, in float32 or wider.

    Args:
        x: `(batch, ...)`.
        partner: `(batch,)` int32.
        weight: `(batch,)` float32 in [0, 1].
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype not in ("float32", "float64"):
        x = ops.cast(x, "float32")
    shape = (-1,) + (1,) * (len(x.shape) - 1)
    weight = ops.reshape(ops.cast(weight, x.dtype), shape)
    return weight * x + (1.0 - weight) * ops.take(x, partner, axis=0)


class Mixup:
    """Mixup of the samples of a group, as a function of their coordinates.

    Args:
        concentration: The weights are from Beta(a, a); 1.0 is U[0, 1].
    """

    def __init__(self, concentration):
        self.weights = draws.SymmetricBeta(concentration)

    def __call__(self, key, groups):
        """-> a function that blends any `(batch, ...)` tensor alike."""
        partner = partners(groups, draws.hashed(*key, 0))
        weight = self.weights(draws.uniform(*key, 1))
        return lambda x: blended(x, partner, weight)
