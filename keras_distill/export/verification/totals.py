"""Running totals of one network, one class per kind of task, in NumPy.

All of them get outputs `(batch, positions, units)` and weights
`(batch, positions)`. Outputs of weight 0 are finite.
"""

import numpy as np

from keras_distill.export.verification import labels
from keras_distill.metrics.decisions import DecisionCounts
from keras_distill.metrics.decisions import area_under_curve

# The area under the curve needs all scores in memory.
_MOST_SCORES = 5_000_000
# Of a step: what rounding adds to half a step.
_SLACK = 1e-3


class Differences:
    """How far the outputs of a network are from the student's.

    Args:
        step: The difference of two neighbouring values of an output. Defaults
            to `None`: differences are not counted in it.
    """

    def __init__(self, step=None):
        self._step = step
        self._equal = 0.0
        self._weight = self._sum = self._max = self._scale = 0.0

    def add(self, outputs, student, weights):
        """Adds positions."""
        difference = np.abs(outputs.astype("float64") - student)
        self._weight += weights.sum() * difference.shape[-1]
        self._sum += (weights * difference.sum(axis=-1)).sum()
        self._max = max(self._max, difference.max())
        if self._step is not None:
            equal = difference < (0.5 + _SLACK) * self._step
            self._equal += (weights * equal.sum(axis=-1)).sum()
        self._scale = max(self._scale, np.abs(student).max())

    def results(self):
        """Returns the differences of a row."""
        in_steps = {}
        if self._step is not None:
            in_steps = {
                "max_difference_steps": float(self._max / self._step),
                "equal_outputs": float(self._equal / self._weight),
            }
        return {
            **in_steps,
            "mean_absolute_difference": float(self._sum / self._weight),
            "max_absolute_difference": float(self._max),
            "max_relative_difference": float(
                self._max / self._scale if self._scale else self._max
            ),
        }


class ClassTotals:
    """One class per position.

    A head of one unit is counted under both thresholds (index 0: logits, 1:
    probabilities). Which one applies is known at the end of the data.

    Attributes:
        logits, teacher_logits: Whether the outputs (the teacher's) are logits:
            known before, or seen in their values.
    """

    # Whether a decision belongs to a pixel: how well areas overlap then counts.
    of_map = False
    logits = teacher_logits = False

    def __init__(self, units):
        self._units = units
        thresholds = 2 if self._binary else 1
        self._counts = [self._new_counts() for _ in range(thresholds)]
        self._agreeing = np.zeros(thresholds)
        self._agreeing_teacher = np.zeros((thresholds, thresholds))
        self._weight = self._scored = 0.0
        self._has_labels = self._has_teacher = False
        self._scores = []

    @property
    def _binary(self):
        """Whether every unit says yes or no."""
        return self._units == 1

    def _new_counts(self):
        return DecisionCounts(max(self._units, 2))

    def add(self, outputs, student, teacher, y, weights):
        """Adds positions.

        Args:
            outputs, student, teacher: The outputs of this network, of the
                Keras student and of the teacher (or `None`).
            y: The labels, or `None`.
            weights: How much each position counts.
        """
        decided = self._decisions(outputs)
        weights = np.broadcast_to(weights[..., None], decided[0].shape)
        self._weight += weights.sum()
        same = decided == self._decisions(student)
        self._agreeing += (same * weights).sum(axis=(1, 2, 3))
        self.logits |= _outside_unit_interval(student)
        if y is not None:
            self._has_labels = True
            self._count(outputs, decided, y.reshape(decided[0].shape), weights)
        if teacher is not None:
            self._has_teacher = True
            self.teacher_logits |= _outside_unit_interval(teacher)
            same = self._decisions(teacher)[:, None] == decided[None]
            self._agreeing_teacher += (same * weights).sum(axis=(2, 3, 4))

    def _decisions(self, outputs):
        """Returns `(thresholds, batch, positions, 1)` class numbers."""
        if self._binary:
            return np.stack([outputs > 0.0, outputs > 0.5]).astype(int)
        return outputs.argmax(axis=-1)[None, ..., None]

    def _count(self, outputs, decided, y, weights):
        for counts, decisions in zip(self._counts, decided):
            counts.add(y, decisions, weights)
        counted = weights != 0
        self._scored += counted.sum()
        if self._units > 2 or self._scored > _MOST_SCORES:
            self._scores = []
            return
        scores = outputs[..., -1:].astype("float64")
        if self._units == 2:
            scores -= outputs[..., :1]
        self._scores.append((y[counted], scores[counted], weights[counted]))

    def counts(self):
        """The `DecisionCounts` under the threshold that applies."""
        return self._counts[self._threshold(self.logits)]

    def _threshold(self, logits):
        return int(self._binary and not logits)

    def results(self):
        """Returns the shares of a row."""
        threshold = self._threshold(self.logits)
        row = {"agreement": self._agreeing[threshold] / self._weight}
        if self._has_teacher:
            teacher = self._threshold(self.teacher_logits)
            same = self._agreeing_teacher[teacher, threshold]
            row["teacher_agreement"] = same / self._weight
        row = {key: float(value) for key, value in row.items()}
        return {**row, **self._shares()} if self._has_labels else row

    def _shares(self):
        counts, area, matrix = self.counts(), None, None
        if self._scores:
            scores = (np.concatenate(part) for part in zip(*self._scores))
            area = area_under_curve(*scores)
        if counts.matrix is not None:
            matrix = counts.matrix.tolist()
        overlap = {}
        if self.of_map:
            overlap = {
                "mean_iou": counts.mean_intersection_over_union,
                "iou": _listed(counts.intersection_over_union),
            }
        return {
            **_shares_of(counts),
            **overlap,
            "recall": _listed(counts.recall),
            "precision": _listed(counts.precision),
            "confusion_matrix": matrix,
            "area_under_curve": None if area is None else _listed(area),
        }


class MultiLabelTotals(ClassTotals):
    """A yes or no per unit. `recall` and `precision` are those of the yes."""

    _binary = True

    def __init__(self, units):
        super().__init__(units)
        # Of the positions of each unit: with a yes as label, decided as yes
        # (under each threshold), and both.
        self._yes = np.zeros(units)
        self._decided, self._right = np.zeros((2, 2, units))

    def _new_counts(self):
        return DecisionCounts(2)

    def _decisions(self, outputs):
        return np.stack([outputs > 0.0, outputs > 0.5]).astype(int)

    def _count(self, outputs, decided, y, weights):
        for counts, decisions in zip(self._counts, decided):
            counts.add(y, decisions, weights)
        self._yes += (y * weights).sum(axis=(0, 1))
        self._decided += (decided * weights).sum(axis=(1, 2))
        self._right += (decided * y * weights).sum(axis=(1, 2))

    def _shares(self):
        threshold = self._threshold(self.logits)
        right, decided = self._right[threshold], self._decided[threshold]
        with np.errstate(invalid="ignore"):
            recall, precision = right / self._yes, right / decided
        return {
            **_shares_of(self.counts()),
            "recall": _listed(recall),
            "precision": _listed(precision),
        }


class NumberTotals:
    """Targets that are numbers."""

    def __init__(self, units):
        self._weight = self._absolute = self._square = 0.0

    def add(self, outputs, student, teacher, y, weights):
        """Adds positions, see `ClassTotals.add`."""
        if y is None:
            return
        error = outputs.astype("float64") - y.reshape(outputs.shape)
        self._weight += weights.sum() * error.shape[-1]
        self._absolute += (weights * np.abs(error).sum(axis=-1)).sum()
        self._square += (weights * np.square(error).sum(axis=-1)).sum()

    def results(self):
        """Returns the errors of a row."""
        if not self._weight:
            return {}
        return {
            "mean_absolute_error": float(self._absolute / self._weight),
            "root_mean_squared_error": float(
                np.sqrt(self._square / self._weight)
            ),
        }


OF_TASK = {
    labels.CLASSES: ClassTotals,
    labels.LABELS: MultiLabelTotals,
    labels.NUMBERS: NumberTotals,
}


def _shares_of(counts):
    return {
        "accuracy": counts.accuracy,
        "accuracy_interval": list(counts.interval()),
        "balanced_accuracy": counts.balanced_accuracy,
    }


def _listed(values):
    """Floats for JSON, which has no NaN: `None` for what does not apply."""
    values = np.asarray(values)
    if values.ndim == 0:
        return None if np.isnan(values) else float(values)
    return [_listed(value) for value in values]


def _outside_unit_interval(outputs):
    return bool(outputs.min() < 0.0 or outputs.max() > 1.0)
