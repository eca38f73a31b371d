"""The numbers of `verify`: as tables, as JSON, as a check."""

import json
from typing import Any

import keras
import numpy as np

from keras_distill.export.verification import table
from keras_distill.export.verification.gate import Gate
from keras_distill.export.verification.labels import CLASSES
from keras_distill.export.verification.metric import SHARES


class Verification:
    """The result of `verify`; `print(verification)` shows it as two tables.

    Attributes:
        rows: One dict per network, the Keras student first. Shares are in
            [0, 1], latencies in milliseconds, sizes in bytes; `None` if a
            value does not apply (accuracy without labels, the recall of a
            class without samples). `recall`, `precision` and, for maps of
            pixels, `iou` are lists by class, `confusion_matrix` is a list of
            lists, by label and decision, up to 1000 classes. `operators` is a
            dict name -> how many, `builtin_operators_only` whether every build
            of the interpreter has them. `size_parts` is what the bytes of a
            file are for: `"weights"`, `"scales"` (of each channel),
            `"metadata"` and `"graph"`.
        samples: Number of samples.
        output: Name of the compared output.
        num_threads: Threads of the interpreters.
        latency_runs: Timed calls behind each latency.
        positions: Number of decisions that count: without padding, void
            labels and positions of weight 0.
        task: `"classification"`, `"multi_label"` or `"regression"`.
        class_names: From the metadata of the files, or `None`.
        majority, majority_accuracy: The most frequent class, and the accuracy
            of always deciding for it.
        metric, metric_in_points: Name of the `metric=`, and whether what a
            file loses of it is counted in points (hundredths).
        data_fingerprint: What the labels were:
            `keras_distill.metrics.decisions.labels_fingerprint` of the class
            numbers; `None` without labels.
    """

    def __init__(
        self,
        rows: list[dict[str, Any]],
        samples: int,
        output: str,
        num_threads: int,
        latency_runs: int,
        *,
        positions: int | None = None,
        task: str = CLASSES,
        class_names: list[str] | None = None,
        majority: int | None = None,
        majority_accuracy: float | None = None,
        metric: str = "accuracy",
        metric_in_points: bool = True,
        data_fingerprint: str | None = None,
    ):
        self.rows = rows
        self.samples = samples
        self.output = output
        self.num_threads = num_threads
        self.latency_runs = latency_runs
        self.positions = positions
        self.task = task
        self.class_names = class_names
        self.majority = majority
        self.majority_accuracy = majority_accuracy
        self.metric = metric
        self.metric_in_points = metric_in_points
        self.data_fingerprint = data_fingerprint

    def check(
        self,
        max_accuracy_drop: float | None = None,
        *,
        metric: str | keras.metrics.Metric | None = None,
        per_class_drop: float | None = None,
    ) -> "Verification":
        """Raises if a file loses too much against the student.

        Args:
            max_accuracy_drop: Percentage points of the accuracy (of `metric`)
                that a file may lose against the Keras student on the same
                data. Defaults to 0.5 if `per_class_drop` is not given
                either.
            metric: `"accuracy"`, `"balanced_accuracy"`, or the Keras metric
                that `verify` was given. Defaults to the `metric` of `verify`.
            per_class_drop: Percentage points of recall that a file may lose
                on any class. Defaults to `None`: no bound.

        Returns:
            The verification itself.

        Raises:
            VerificationError: If a file lost more; the message names each.
            ValueError: If the data had no labels, or labels without classes.
        """
        gate_of(max_accuracy_drop, metric, per_class_drop).check(self)
        return self

    def measured(self, metric=None):
        """Finds what is known of a metric.

        Args:
            metric: As in `check`.

        Returns:
            Its name, whether its drops are in points, and per row a pair of
            value and drop against the student.
        """
        if isinstance(metric, keras.metrics.Metric):
            metric = metric.name
        name = metric or self.metric
        if name in SHARES:
            values = [row[name] for row in self.rows]
            if None in values:
                raise ValueError(
                    f"`metric` '{name}' was not measured: the student does not "
                    "decide on the pixels of a map (batch, height, width, "
                    "classes)."
                )
            drops = [100 * (values[0] - value) for value in values]
            return name, True, list(zip(values, drops))
        if name != self.metric:
            raise ValueError(
                f"`metric` '{name}' was not measured: give it to verify, "
                f"verify(metric=...). Measured: '{self.metric}'."
            )
        pairs = [(row["metric"], row["metric_drop"]) for row in self.rows]
        return name, self.metric_in_points, pairs

    def worst_class(self, row):
        """Returns the class of which a file loses most recall, and points."""
        pairs = zip(self.rows[0].get("recall") or [], row.get("recall") or [])
        drops = [
            -np.inf if None in pair else 100 * (pair[0] - pair[1])
            for pair in pairs
        ]
        worst = int(np.argmax(drops)) if drops else None
        if worst is None or drops[worst] == -np.inf:
            return None, None
        return worst, drops[worst]

    def class_name(self, number):
        """Formats a class as "3" or "3 ('dog')"."""
        if self.class_names is None or number >= len(self.class_names):
            return str(number)
        return f"{number} ('{self.class_names[number]}')"

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as dicts, lists, numbers and strings."""
        return dict(vars(self), rows=[dict(row) for row in self.rows])

    def to_json(self, indent: int | None = 2) -> str:
        """Returns `as_dict()` as JSON text."""
        return json.dumps(self.as_dict(), indent=indent)

    def __str__(self):
        return table.text_of(self)


def gate_of(max_accuracy_drop=None, metric=None, per_class_drop=None):
    """Returns the `Gate` of `check`, whose bound is half a point by default."""
    if max_accuracy_drop is None and per_class_drop is None:
        max_accuracy_drop = 0.5
    return Gate(max_accuracy_drop, metric, per_class_drop)


class Verifications(dict):
    """A `Verification` for each output of a student of several.

    `print` shows what the files answer in each, and once what they cost.
    """

    def check(self, *args: Any, **kwargs: Any) -> "Verifications":
        """Checks every output that has such a bound, see `Verification.check`.

        Outputs without labels have none, and numbers have none of classes. For
        bounds of one output: `verifications["output"].check(...)`.
        """
        labelled = [v for v in self.values() if v.data_fingerprint is not None]
        gate_of(*args, **kwargs).check_all(labelled or list(self.values()))
        return self

    def as_dict(self) -> dict[str, Any]:
        """Returns everything as dicts, lists, numbers and strings."""
        return {output: v.as_dict() for output, v in self.items()}

    def to_json(self, indent: int | None = 2) -> str:
        """Returns `as_dict()` as JSON text."""
        return json.dumps(self.as_dict(), indent=indent)

    def __str__(self):
        return table.text_of_all(self)
