"""Running means of several numbers in one variable."""

from typing import Any
from typing import NamedTuple

import keras
from keras import ops


class WeightedMean(NamedTuple):
    """A mean over something else than the samples, and the sum of weights."""

    mean: Any
    weight: Any


class FusedMeans(keras.metrics.Metric):
    """Running means of several numbers in one variable.

    One `Mean` metric per number takes two variable updates per number and
    step, a third of the fixed cost of a step. This updates one vector once.

    Args:
        names: The names of the numbers, in the order of the logs.
        name: Name of the metric.
    """

    def __init__(self, names, name):
        super().__init__(name=name, dtype="float32")
        self.names = list(names)
        # Only recorded numbers are reported: without labels there is no
        # student_loss.
        self.recorded = []
        self.totals = self.add_variable(
            shape=(2, len(self.names)), initializer="zeros", name="totals"
        )

    def update_state(self, values, count):
        """Adds means over samples.

        Args:
            values: A dict name -> scalar, or `WeightedMean`.
            count: The number of samples, the weight of the scalars.
        """
        self.recorded = [name for name in self.names if name in values]
        pairs = [values.get(name, 0.0) for name in self.names]
        pairs = [
            p if isinstance(p, WeightedMean) else (p, count) for p in pairs
        ]
        means, weights = (
            ops.stack([ops.cast(x, "float32") for x in column])
            for column in zip(*pairs)
        )
        self.totals.assign_add(ops.stack([means * weights, weights]))

    def result(self):
        totals = ops.convert_to_tensor(self.totals)
        means = ops.unstack(ops.divide_no_nan(totals[0], totals[1]))
        return {
            name: mean
            for name, mean in zip(self.names, means)
            if name in self.recorded
        }
