"""Weights of tasks that training finds itself."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_distill._arguments import one_of

BALANCES = ("uncertainty", "dynamic")


class UncertaintyWeights(keras.layers.Layer):
    """One trained weight per task.

        sum_t exp(-s_t) L_t + s_t / 2,      s_t = log sigma_t^2, at first 0

    A task with a large loss gets a small weight. The factor 1/2 that the paper
    gives a squared error changes the sum by a constant only.

    Args:
        tasks: The names of the tasks.

    Reference: Kendall, Gal and Cipolla 2018, "Multi-Task Learning Using
    Uncertainty to Weigh Losses for Scene Geometry and Semantics", eq. 7 and 10.
    """

    def __init__(self, tasks: Sequence[str], **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.tasks = list(tasks)
        self.log_variances = self.add_weight(
            (len(self.tasks),), "zeros", name="log_variances"
        )
        self.built = True

    def combine(self, losses):
        """Returns the weighted sum, and the weights: a dict."""
        variances = dict(zip(self.tasks, ops.unstack(self.log_variances)))
        weights = {task: ops.exp(-variances[task]) for task in losses}
        total = sum(
            ops.cast(weights[task], losses[task].dtype) * losses[task]
            + ops.cast(variances[task] / 2.0, losses[task].dtype)
            for task in losses
        )
        return total, weights


class DynamicWeights(keras.layers.Layer):
    """Weights that grow for tasks whose loss falls slowly.

        w_t = K exp(r_t / 2) / sum_u exp(r_u / 2),    r_t = L_t(-1) / L_t(-2)

    for K tasks. `L_t(-1)` is the mean of `L_t` in the epoch before, `L_t(-2)`
    in the one before that. Weights are 1 in the first two epochs.

    Args:
        tasks: The names of the tasks.

    Reference: Liu, Johns and Davison 2019, "End-to-End Multi-Task Learning
    with Attention", eq. 7 (dynamic weight average, temperature 2).
    """

    def __init__(self, tasks: Sequence[str], **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.tasks = list(tasks)
        count = len(self.tasks)
        self.task_weights = self.add_weight(
            (count,), "ones", trainable=False, name="task_weights"
        )
        self.before = self.add_weight(
            (count,), "zeros", trainable=False, name="losses_before"
        )
        self.built = True

    def combine(self, losses):
        """Returns the weighted sum, and the weights: a dict."""
        named = dict(zip(self.tasks, ops.unstack(self.task_weights)))
        weights = {task: named[task] for task in losses}
        total = sum(
            ops.cast(weights[task], losses[task].dtype) * losses[task]
            for task in losses
        )
        return total, weights

    def end_epoch(self, losses: dict[str, float]) -> None:
        """Takes the mean losses of an epoch, a dict."""
        now = np.array([float(losses.get(task, 0.0)) for task in self.tasks])
        before = ops.convert_to_numpy(self.before)
        self.before.assign(now)
        known = (before > 0) & (now > 0)  # A task may have no objective.
        weights = np.ones(len(now))
        ratios = now[known] / before[known] / 2.0
        shares = np.exp(ratios - ratios.max(initial=0.0))
        weights[known] = known.sum() * shares / max(shares.sum(), 1e-30)
        self.task_weights.assign(weights)


def balance_of(loss_weights, tasks):
    """Returns the layer for a `loss_weights` that is a name, else `None`."""
    if not isinstance(loss_weights, str):
        return None
    one_of("loss_weights", loss_weights, BALANCES)
    kinds = dict(zip(BALANCES, (UncertaintyWeights, DynamicWeights)))
    return kinds[loss_weights](tasks, name="task_weights")


class BalanceAtEpochEnd(keras.callbacks.Callback):
    """Tells the mean losses of an epoch to the layer that balances them.

    Args:
        tasks: The `Tasks` of the Distiller.
    """

    def __init__(self, tasks):
        super().__init__()
        self.tasks = tasks

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        self.tasks.balance.end_epoch(
            {
                task: logs[f"{task}_objective"]
                for task in self.tasks.names
                if f"{task}_objective" in logs
            }
        )
