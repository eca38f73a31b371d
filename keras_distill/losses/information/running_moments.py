from typing import Any

import keras
from keras import ops

from keras_distill.losses.ops.gathering import gather_replicas


class RunningMoments(keras.layers.Layer):
    """Running mean and variance per channel.

    The first batch counts alone, the n-th `1 / n`, later ones `1 - momentum`.
    A batch is the samples of all replicas, so the moments are those of one
    device. That sends around two numbers per sample and channel.

    Args:
        channels: Number of channels of the features.
        momentum: Share of the old moments, in [0, 1).
        dtype: dtype of the moments.
    """

    def __init__(self, channels: Any, momentum: Any, dtype: Any):
        super().__init__(name="running_moments", dtype=dtype)
        self.momentum = momentum
        options = {
            "initializer": "zeros",
            "trainable": False,
            # All replicas compute the same update.
            "aggregation": "only_first_replica",
        }
        self.mean = self.add_weight(name="mean", shape=(channels,), **options)
        self.variance = self.add_weight(
            name="variance", shape=(channels,), **options
        )
        self.seen = self.add_weight(name="seen", shape=(), **options)
        self.built = True

    def update(self, x, where=None):
        """Takes in a batch, as `batch_moments`; returns `(mean, variance)`."""
        mean, variance = batch_moments(x, where)
        old_mean, old_variance, seen = (
            ops.cast(w, x.dtype) for w in (self.mean, self.variance, self.seen)
        )
        keep = ops.minimum(seen / (seen + 1.0), self.momentum)
        change = mean - old_mean
        new_mean = old_mean + (1.0 - keep) * change
        # Exact for a mixture: also the means of the batches vary.
        new_variance = (
            keep * (old_variance + (1.0 - keep) * ops.square(change))
            + (1.0 - keep) * variance
        )
        for weight, value in (
            (self.mean, new_mean),
            (self.variance, new_variance),
            (self.seen, seen + 1.0),
        ):
            weight.assign(ops.cast(value, weight.dtype))
        return new_mean, new_variance


def batch_moments(x, where=None):
    """Mean and variance per channel over the samples of all replicas.

        mean = mean_b m_b,   variance = mean_b (v_b + (m_b - mean)^2)

    with `m_b` and `v_b` those of sample b over its `n_b` positions, which are
    its weight in `mean_b`.

    Args:
        x: `(batch, ..., channels)`, a constant.
        where: Booleans `(batch, ..., 1)`: the positions that count. Defaults to
            all.

    Returns:
        Two tensors `(channels,)`.
    """
    x = ops.stop_gradient(x)
    if len(x.shape) == 2:
        x = x[:, None]
    numbers, means, variances = map(gather_replicas, _of_each(x, where))
    shares = numbers / ops.maximum(ops.sum(numbers), 1.0)
    mean = ops.sum(shares * means, axis=0)
    spread = variances + ops.square(means - mean)
    return mean, ops.sum(shares * spread, axis=0)


def _of_each(x, where):
    """`n_b`, `m_b` and `v_b` of each sample; equal `n_b` are 1."""
    positions = tuple(range(1, len(x.shape) - 1))
    if where is None:
        means, variances = ops.mean(x, positions), ops.var(x, positions)
        return ops.ones_like(means[:, :1]), means, variances
    counts = ops.ones_like(x[..., :1]) * ops.cast(where, x.dtype)
    numbers = ops.sum(counts, axis=positions, keepdims=True)
    shares = counts / ops.maximum(numbers, 1.0)
    means = ops.sum(shares * x, axis=positions, keepdims=True)
    squares = shares * ops.square(x - means)
    return (ops.sum(v, axis=positions) for v in (numbers, means, squares))
