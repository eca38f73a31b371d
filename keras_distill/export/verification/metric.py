"""A Keras metric of several networks, in one pass over the data."""

import keras
import numpy as np

from keras_distill._keras.metrics import should_grow

SHARES = ("accuracy", "balanced_accuracy", "mean_iou")
# As in Keras: the logarithm of 0 is not a number.
_EPSILON = 1e-7


def checked_metric(metric):
    """Checks the `metric=` of `verify`: a name, a Keras metric or `None`."""
    if isinstance(metric, keras.metrics.Metric) or metric in (None, *SHARES):
        return metric
    raise ValueError(
        f"`metric` must be one of {', '.join(map(repr, SHARES))}, or a "
        "keras.metrics.Metric such as keras.metrics.AUC(from_logits=True). "
        f"Received: {metric!r}"
    )


class MetricOfNetworks:
    """One `keras.metrics.Metric` that counts for each network by turns.

    Args:
        metric: The metric. Its state is put back to the start at the end.
    """

    def __init__(self, metric):
        self.name = metric.name
        self.should_grow = should_grow(metric)
        self._metric = metric
        self._states = {}

    @property
    def has_counted(self):
        """Whether there were labels."""
        return bool(self._states)

    def add(self, key, y, outputs, weights, activation=None):
        """Adds a batch to the state of the network `key`.

        Args:
            key: Which network.
            y: The labels as the dataset has them.
            outputs: `(batch, ..., units)`.
            weights: `(batch, ...)`; positions of weight 0 are left out.
            activation: The activation that the network itself applies to its
                logits. The metric gets logits of every network.
        """
        outputs = _without(activation, outputs)
        if y.shape != outputs.shape:
            y = y.reshape((*outputs.shape[:-1], y.size // weights.size))
            if outputs.shape[-1] > 1:
                y = y[..., 0]
        counted = weights != 0
        if not counted.all():
            y, outputs = y[counted], outputs[counted]
            weights = weights[counted]
        if (weights == 1).all():
            weights = None
        self._metric.reset_state()
        if key in self._states:
            self._restore(self._states[key])
        try:
            self._metric.update_state(y, outputs, sample_weight=weights)
        except Exception as error:
            raise ValueError(
                f"`metric` '{self.name}' does not take labels of shape "
                f"{y.shape} with outputs of shape {outputs.shape}. If the "
                "student has several outputs, compare one: verify(output="
                f"...). {error}"
            ) from error
        self._states[key] = [v.numpy() for v in self._metric.variables]

    def result(self, key):
        """Returns the value for a network: a float, or a list of floats."""
        self._restore(self._states[key])
        value = np.asarray(keras.ops.convert_to_numpy(self._metric.result()))
        self._metric.reset_state()
        return value.astype("float64").tolist()

    def _restore(self, state):
        for variable, value in zip(self._metric.variables, state, strict=True):
            variable.assign(value)


def _without(activation, outputs):
    """Returns logits of which the activation makes these outputs."""
    if activation is None:
        return outputs
    p = np.clip(outputs, _EPSILON, 1 - _EPSILON)
    return np.log(p) if activation == "softmax" else np.log(p / (1 - p))
