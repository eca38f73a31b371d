"""Running sums over the decisions that count: of a network, and of two."""

import collections

import numpy as np

from keras_distill.calibration import ReliabilitySums
from keras_distill.metrics.decisions import DecisionCounts
from keras_distill.metrics.decisions import area_under_curve
from keras_distill.metrics.decisions import mean_interval
from keras_distill.metrics.decisions import paired_interval
from keras_distill.report.provenance import to_json

BINS = 15
CONFUSIONS = 8
# A matrix of more classes is not for reading.
LARGEST_MATRIX = 50
# Of more decisions between two classes, the scores are not kept.
MOST_SCORES = 10_000_000


class Tally:
    """What one network decides, and how sure it is.

    Args:
        classes: The number of classes.

    Attributes:
        decisions: A `DecisionCounts`.
    """

    def __init__(self, classes):
        self.decisions = DecisionCounts(classes)
        self._pairs = Pairs(classes)
        self._reliability = ReliabilitySums(BINS)
        self._two_classes = classes == 2
        self._scores, self._kept = [], 0

    def add(self, labels, probabilities, weights):
        """Adds a batch; returns decisions and confidences.

        Args:
            labels: `(batch, ...)` class numbers.
            probabilities: `(batch, ..., classes)`.
            weights: `(batch, ...)`.
        """
        decided = probabilities.argmax(-1)
        confidence = probabilities.max(-1)
        self.decisions.add(labels, decided, weights)
        counted = weights > 0
        label, decision, weight = (
            labels[counted],
            decided[counted],
            weights[counted],
        )
        self._reliability.add(confidence[counted], label == decision, weight)
        wrong = label != decision
        self._pairs.add(label[wrong], decision[wrong], weight[wrong])
        if self._two_classes and self._kept <= MOST_SCORES:
            self._kept += len(label)
            self._scores.append((label, probabilities[counted][:, 1], weight))
        return decided, confidence

    def facts(self):
        """Accuracy, its interval, calibration and confusions, as JSON."""
        counts, bins = self.decisions, self._reliability.result()
        matrix = counts.matrix
        if len(counts.right) > LARGEST_MATRIX:
            matrix = None
        return to_json(
            {
                "accuracy": counts.accuracy,
                "accuracy_interval": counts.interval(),
                "balanced_accuracy": counts.balanced_accuracy,
                "balanced_accuracy_interval": counts.balanced_interval(),
                "area_under_curve": self._area_under_curve(),
                "agreement_with_teacher": None,
                "mean_confidence": self._reliability.mean_confidence,
                "expected_calibration_error": bins.error(),
                "reliability": bins._asdict(),
                "confusion_matrix": None if matrix is None else whole(matrix),
                "largest_confusions": [
                    {"label": label, "decided": decided, "samples": samples}
                    for (label, decided), (samples,) in self._pairs.largest(
                        CONFUSIONS
                    )
                ],
            }
        )

    def _area_under_curve(self):
        if not self._two_classes or self._kept > MOST_SCORES:
            return None
        return area_under_curve(*map(np.concatenate, zip(*self._scores)))


class Pairs:
    """Weights of pairs of class numbers, of which few kinds occur."""

    def __init__(self, classes):
        self._classes = classes
        self._sums = collections.defaultdict(float)

    def add(self, first, second, *weights):
        """Adds `(positions,)` class numbers and one weight or several."""
        pairs, place = np.unique(
            first * self._classes + second, return_inverse=True
        )
        sums = np.stack(
            [np.bincount(place, w, len(pairs)) for w in weights], -1
        )
        for pair, added in zip(pairs.tolist(), sums):
            self._sums[pair] = self._sums[pair] + added

    def largest(self, number):
        """Pairs of pair and weights, the largest first weight first."""
        ordered = sorted(
            self._sums.items(), key=lambda item: (-item[1][0], item[0])
        )
        return [
            (divmod(pair, self._classes), whole(sums))
            for pair, sums in ordered[:number]
        ]


class Comparison:
    """Two networks on the same decisions: is the first better?

    Args:
        classes: The number of classes.
    """

    def __init__(self, classes):
        self._only_first = np.zeros(classes)
        self._only_second = np.zeros(classes)

    def add(self, labels, first, second, weights):
        """Adds decisions of both networks, all of shape `(batch, ...)`."""
        first, second = first == labels, second == labels
        for sums, where in (
            (self._only_first, first & ~second),
            (self._only_second, second & ~first),
        ):
            where &= weights > 0
            sums += np.bincount(labels[where], weights[where], len(sums))

    def facts(self, counts):
        """The first minus the second, with 95 % intervals, as JSON.

        Args:
            counts: The `DecisionCounts` of either.

        Returns:
            A dict with `"accuracy"`, `"balanced_accuracy"` and
            `"lowest_recall"`: the class whose recall is lower by most, `None`
            if there is none. Classes of fewer than 5 samples only stand in
            for larger ones.
        """
        present = np.flatnonzero(counts.of_label)
        of_label, sizes = counts.of_label[present], counts.sizes[present]
        first, second = (
            sums[present] / of_label
            for sums in (self._only_first, self._only_second)
        )
        recalls = first - second
        intervals = [*map(paired_interval, first, second, sizes)]
        shares = of_label / counts.weight
        facts = {
            "accuracy": _difference(
                shares @ recalls,
                paired_interval(
                    shares @ first, shares @ second, counts.effective_size
                ),
            ),
            "balanced_accuracy": _difference(
                recalls.mean(), mean_interval(recalls, intervals)
            ),
            "lowest_recall": None,
        }
        enough = sizes >= min(5, sizes.max())
        lowest = int(np.where(enough, recalls, 1.0).argmin())
        if recalls[lowest] < 0:
            facts["lowest_recall"] = {
                "class": int(present[lowest]),
                **_difference(recalls[lowest], intervals[lowest]),
            }
        return facts


def _difference(difference, interval):
    low, high = interval
    return {"difference": float(difference), "low": low, "high": high}


def whole(numbers):
    """Weights as a list, of ints if all are whole."""
    numbers = np.asarray(numbers)
    if np.array_equal(numbers, np.round(numbers)):
        numbers = numbers.astype("int64")
    return numbers.tolist()
