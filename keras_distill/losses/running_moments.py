import keras
from keras import ops


class RunningMoments(keras.layers.Layer):
    """Mean and variance per channel of all that was seen, the old fading.

    The first batch counts alone, the n-th `1 / n`, later ones `1 - momentum`.

    Args:
        channels: Of the features.
        momentum: In [0, 1).
        dtype: dtype of the moments.
    """

    def __init__(self, channels, momentum, dtype):
        super().__init__(name="running_moments", dtype=dtype)
        self.momentum = momentum
        options = {
            "initializer": "zeros",
            "trainable": False,
            "aggregation": "mean",
        }
        self.mean = self.add_weight(name="mean", shape=(channels,), **options)
        self.variance = self.add_weight(
            name="variance", shape=(channels,), **options
        )
        self.seen = self.add_weight(name="seen", shape=(), **options)
        self.built = True

    def update(self, x):
        """Takes in `(batch, ..., channels)` -> `(mean, variance)`."""
        axes = tuple(range(len(x.shape) - 1))
        x = ops.stop_gradient(x)
        mean, variance = ops.mean(x, axis=axes), ops.var(x, axis=axes)
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
