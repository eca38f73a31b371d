"""How much a file may lose against the Keras student."""

import dataclasses
from typing import Any

from keras_distill._arguments import checked_number
from keras_distill.export.verification.labels import NUMBERS
from keras_distill.export.verification.metric import SHARES
from keras_distill.export.verification.metric import checked_metric

# Covers the rounding of a difference of two quotients.
_SLACK = 1e-9


class VerificationError(AssertionError):
    """An exported file lost more accuracy than was allowed, or is broken."""


@dataclasses.dataclass
class Gate:
    """Bounds for `verify` and `Verification.check`; `None`: no bound.

    Args:
        max_accuracy_drop, metric, per_class_drop: As in `verify`.
    """

    max_accuracy_drop: Any = None
    metric: Any = None
    per_class_drop: Any = None

    def __post_init__(self):
        checked_metric(self.metric)
        for argument in "max_accuracy_drop", "per_class_drop":
            checked_number(
                argument,
                getattr(self, argument),
                "[0, inf)",
                or_none=True,
                hint="percentage points that a file may lose",
            )

    @property
    def is_open(self):
        """Whether it lets everything pass."""
        return self.max_accuracy_drop is None and self.per_class_drop is None

    def check_task(self, task, has_labels, measured=None):
        """Raises if labels of this kind have no such bounds.

        Args:
            task: The kind of labels.
            has_labels: Whether there are any.
            measured: The metric if this gate does not name one.
        """
        metric = self.metric or measured
        for argument in "max_accuracy_drop", "per_class_drop":
            if getattr(self, argument) is None:
                continue
            if not has_labels:
                raise ValueError(
                    f"`{argument}` needs labels, but the dataset has none: "
                    f"give batches (x, y), or leave {argument} out."
                )
            of_classes = argument == "per_class_drop" or (
                metric in (None, *SHARES)
            )
            if task == NUMBERS and of_classes:
                raise ValueError(
                    f"`{argument}` needs classes, but the labels are numbers "
                    "(a regression): give a metric of them, "
                    "verify(max_accuracy_drop=..., "
                    "metric=keras.metrics.MeanAbsoluteError()). The allowed "
                    "loss is then in its unit."
                )

    def is_for(self, task):
        """Whether labels of this kind have such bounds."""
        of_classes = self.per_class_drop is not None or (
            self.metric in (None, *SHARES)
        )
        return task != NUMBERS or not of_classes

    def check_all(self, verifications):
        """Checks every output that has such a bound."""
        judged = [
            v
            for v in verifications
            if self.is_for(v.task)
            and (
                self.metric not in SHARES
                or v.rows[0].get(self.metric) is not None
            )
        ]
        for verification in judged or verifications:
            try:
                self.check(verification)
            except (ValueError, VerificationError) as error:
                raise type(error)(
                    f"Output '{verification.output}': {error}"
                ) from error

    def check(self, verification):
        """Raises a `VerificationError` if a file lost too much."""
        student = verification.rows[0]
        has_labels = any(
            student.get(key) is not None
            for key in ("accuracy", "mean_absolute_error")
        )
        self.check_task(verification.task, has_labels, verification.metric)
        lost = []
        if self.max_accuracy_drop is not None:
            lost += self._lost_of_metric(verification)
        if self.per_class_drop is not None:
            lost += self._lost_of_classes(verification)
        if lost:
            raise VerificationError("; ".join(lost) + ".")

    def _lost_of_metric(self, verification):
        name, in_points, pairs = verification.measured(self.metric)
        allowed = self.max_accuracy_drop
        unit = " points" if in_points else ""
        lost = [
            f"'{row['file']}' lost {drop:.{2 if in_points else 4}f}{unit} "
            f"({_text(value, in_points)})"
            for row, (value, drop) in zip(verification.rows, pairs)
            # NaN passes no comparison.
            if not drop <= allowed + _SLACK
        ]
        if not lost:
            return []
        of_metric = "" if name == "accuracy" else f" of {name}"
        return [
            f"{'; '.join(lost)}: more than the {allowed:g}"
            f"{' percentage' + unit if in_points else ''}{of_metric} allowed "
            f"against the Keras student ({_text(pairs[0][0], in_points)} on "
            f"{verification.samples} samples)"
        ]

    def _lost_of_classes(self, verification):
        student = verification.rows[0]
        lost = []
        for row in verification.rows[1:]:
            worst, drop = verification.worst_class(row)
            if worst is not None and not drop <= self.per_class_drop + _SLACK:
                lost.append(
                    f"'{row['file']}' lost {drop:.2f} points of the recall of "
                    f"class {verification.class_name(worst)} "
                    f"({student['recall'][worst]:.2%} to "
                    f"{row['recall'][worst]:.2%}): more than the "
                    f"{self.per_class_drop:g} points allowed per class"
                )
        return lost


def _text(value, points):
    if isinstance(value, list):
        return ", ".join(_text(v, points) for v in value)
    return f"{value:.2%}" if points else f"{value:.4g}"
