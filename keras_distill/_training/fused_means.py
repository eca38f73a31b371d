"""Running means of several numbers in one variable."""

import keras
from keras import ops


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
            shape=(len(self.names) + 1,), initializer="zeros", name="totals"
        )

    def update_state(self, values, count):
        """Adds means over samples.

        Args:
            values: A dict name -> scalar.
            count: The number of samples.
        """
        self.recorded = [name for name in self.names if name in values]
        row = [
            ops.cast(values.get(name, 0.0), "float32") for name in self.names
        ]
        row = ops.stack([*row, ops.ones((), "float32")])
        self.totals.assign_add(row * ops.cast(count, "float32"))

    def result(self):
        totals = ops.convert_to_tensor(self.totals)
        means = ops.unstack(ops.divide_no_nan(totals, totals[-1]))
        return {
            name: mean
            for name, mean in zip(self.names, means)
            if name in self.recorded
        }
