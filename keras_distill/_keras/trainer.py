"""A `keras.Model` whose private training methods have names of ours.

Relies on, in Keras 3.12.4 and 3.15.1: `Trainer._assert_compile_called`,
`Trainer._compile_config`, `Trainer._compile_loss`, `Trainer._compile_metrics`,
`Trainer._loss_tracker`, `Trainer._distribute_strategy`,
`Trainer._symbolic_build`, `Trainer._initial_epoch`, `Layer._tracker`, and
the signatures of `CompileLoss` and `CompileMetrics`. Overrides
`Trainer._maybe_symbolic_build`, `Trainer._get_metrics_result_or_logs` and
`Trainer._flatten_metrics_in_order`. Of TensorFlow 2.21:
`StrategyExtended._in_multi_worker_mode`.
"""

import weakref
from typing import Any

import keras

from keras_distill._keras.layers import recurrent_states


class Trainer(keras.Model):
    """A `keras.Model` for subclasses that change how Keras trains."""

    _evaluating = False
    _held_training_data = None

    # What `compile` was given.

    def _check_compiled(self, method_name):
        """Raises unless `compile` was called."""
        self._assert_compile_called(method_name)

    def _forget_compiled(self):
        """Forgets the loss and the metrics of an earlier `compile`."""
        self.loss = self._compile_loss = self._compile_metrics = None

    def _save_compiled_with(self, **arguments):
        """Replaces arguments of `compile` in what is saved with the model."""
        self._compile_config.config.update(arguments)

    @property
    def _compiled_loss(self):
        """The loss of `compile` over all outputs, or `None`."""
        return self._compile_loss

    @_compiled_loss.setter
    def _compiled_loss(self, loss):
        self._compile_loss = loss

    def _compiled_loss_of(self, loss):
        """Returns a loss of one output, compiled as Keras compiles it."""
        return type(self._compile_loss)(loss)

    @property
    def _compiled_metrics(self):
        """The metrics of `compile` over all outputs as one, or `None`."""
        return self._compile_metrics

    @_compiled_metrics.setter
    def _compiled_metrics(self, metrics):
        self._compile_metrics = metrics

    def _compiled_metrics_of(self, metrics, weighted_metrics):
        """Returns the metrics of one output, compiled as Keras does."""
        return type(self._compile_metrics)(metrics, weighted_metrics)

    def _update_compiled_metrics(self, y, output, sample_weight):
        if self._compile_metrics is not None and y is not None:
            self._compile_metrics.update_state(y, output, sample_weight)

    def _replace_layer(self, name, layer):
        """Sets an attribute that is a layer, also once the model is built."""
        before = getattr(self, name, None)
        if before is not None:
            self._tracker.untrack(before)
        if layer is not None:
            self._tracker.unlock()
        setattr(self, name, layer)

    @property
    def _metrics_without_loss(self):
        """`keras.Model.metrics` without Keras's own mean of the loss."""
        metrics = keras.Model.metrics.fget(self)
        return [m for m in metrics if m is not self._loss_tracker]

    @property
    def _made_under_strategy(self):
        """Whether the model was made in the scope of a strategy."""
        return self._distribute_strategy is not None

    # What Keras does around the steps.

    def fit(self, *args: Any, **options: Any) -> Any:
        self._first_epoch_of_fit = options.get("initial_epoch", 0)
        return super().fit(*args, **options)

    def train_on_batch(self, *args, **kwargs):
        # Keras 3.12 averages the logs over the batches since the last `fit`.
        self.reset_metrics()
        return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        self.reset_metrics()
        return super().test_on_batch(*args, **kwargs)

    def _build_before_steps(self, iterator, data_batch):
        """Builds what is not built yet; called before the first step.

        Args:
            iterator: Keras's iterator over the data of `fit` or `evaluate`, or
                `None`.
            data_batch: `(x, y, sample_weight)` of `train_on_batch` or
                `test_on_batch`, or `None`.
        """
        super()._maybe_symbolic_build(iterator, data_batch)

    def _build_on_symbols(self, data_batch):
        """Builds model, loss, metrics and optimizer for a batch like this."""
        self._symbolic_build(data_batch=data_batch)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if iterator is not None and not self._evaluating:
            self._held_training_data = weakref.ref(iterator)
        self._build_before_steps(iterator, data_batch)

    def _training_data(self):
        """Keras's `EpochIterator` of the `fit` that runs, and the epoch with
        which it begins."""
        return self._held_training_data(), self._first_epoch_of_fit

    def _training_variables(self):
        """All variables that training changes, some of them twice."""
        metrics = [v for metric in self.metrics for v in metric.variables]
        states = recurrent_states(self)
        return [*self.variables, *self.optimizer.variables, *metrics, *states]

    def _start_with_epoch(self, epoch):
        """Lets the `fit` that begins start with an epoch; `None` ends that."""
        self._initial_epoch = epoch

    def _get_metrics_result_or_logs(self, logs):
        # An epoch that goes on at its end takes no step that logs.
        return super()._get_metrics_result_or_logs(
            logs or self.get_metrics_result()
        )

    def _flatten_metrics_in_order(self, logs):
        # A list of results begins with the loss, as everywhere in Keras.
        others = {name: logs[name] for name in logs if name != "loss"}
        values = super()._flatten_metrics_in_order(others)
        if "loss" not in logs:
            return values
        values = values if isinstance(values, list) else [values]
        return [logs["loss"], *values] if values else logs["loss"]


def reduces_over_machines(strategy):
    """Whether Keras reduces the logs of a step over several machines."""
    return strategy.extended._in_multi_worker_mode()
