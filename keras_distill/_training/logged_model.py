"""What a distiller logs: the terms of its loss and the compiled metrics."""

from typing import Any
from typing import NamedTuple

from keras_distill._keras.untracked import Untracked
from keras_distill._training.fused_means import FusedMeans
from keras_distill._training.stream_trainer import StreamTrainer


class Logs(NamedTuple):
    """Running numbers, which Keras does not track: `compile` starts new ones.

    Attributes:
        training: Means of the terms of the loss since the epoch began.
        evaluation: The same in evaluation.
        of_teacher: Metrics that compare the student with the teacher.
    """

    training: FusedMeans
    evaluation: FusedMeans
    of_teacher: list


class LoggedModel(StreamTrainer):
    """A model that logs all terms of its loss with one variable update.

    Training has one such variable and evaluation another one. The compiled
    metrics are logged beside them.
    """

    # Keras sets it in `compile`.
    optimizer: Any

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._logs = Untracked(None)
        # Of the last step, by whether it is an evaluation.
        self._labelled = {False: True, True: True}

    def make_train_function(self, force=False):
        before = self.train_function
        super().make_train_function(force)
        if self.train_function is not before:
            self.train_function = self._several_steps(self.train_function)

    def make_test_function(self, force=False):
        before = self.test_function
        super().make_test_function(force)
        if self.test_function is not before:
            self.test_function = self._several_steps(self.test_function)

    def _several_steps(self, function):
        from keras_distill._distribute.several_steps import (
            several_steps_at_once,
        )

        steps = self.steps_per_execution
        if steps == 1 or not self._made_under_strategy:
            return function
        return several_steps_at_once(self, function, steps)

    def _start_logs(self, training, evaluation, of_teacher=()):
        """Starts new running numbers, for `compile`.

        Args:
            training: The names of the terms in training.
            evaluation: The names of the terms in evaluation.
            of_teacher: Metrics that compare with the teacher.
        """
        with self.distribute_strategy.scope():
            self._logs = Untracked(
                Logs(
                    training=FusedMeans(training, "training_log"),
                    evaluation=FusedMeans(evaluation, "evaluation_log"),
                    of_teacher=list(of_teacher),
                )
            )

    def _current_logs(self):
        """The running numbers, a `Logs`; `None` before `compile`."""
        return self._logs.value

    @property
    def metrics(self):
        # Nothing updates Keras's own tracker of the loss, see FusedMeans.
        metrics = self._metrics_without_loss
        logs = self._current_logs()
        if logs is None:
            return metrics
        return [logs.training, logs.evaluation, *metrics, *logs.of_teacher]

    def _update_metrics(self, y, output, sample_weight, teacher_output):
        """Updates the compiled metrics and returns the logs."""
        from keras_distill._training.agreement import compare

        self._update_compiled_metrics(y, output, sample_weight)
        for metric in self._current_logs().of_teacher:
            compare(self, metric, y, sample_weight, teacher_output, output)
        self._labelled[self._evaluating] = y is not None
        return self.get_metrics_result()

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        # Keras calls this only to build the metrics.
        self._update_compiled_metrics(y, y_pred, sample_weight)
        return {}

    def get_metrics_result(self):
        training, evaluation, _ = self._current_logs()
        hidden = [training if self._evaluating else evaluation]
        if not self._labelled[self._evaluating]:
            hidden.append(self._compiled_metrics)
        return results_of(
            metric
            for metric in self.metrics
            if not any(metric is other for other in hidden)
        )


def results_of(metrics):
    """Returns the current values of metrics by name. A metric whose result is
    a dict gives several."""
    results = {}
    for metric in metrics:
        result = metric.result()
        if not isinstance(result, dict):
            result = {metric.name: result}
        results.update(result)
    return results
