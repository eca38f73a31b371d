"""Decisions counted against labels, and the numbers that follow, in NumPy.

`verify`, `write_report` and `diagnose` count here, so that they agree about
which positions count and what a balanced accuracy is.
"""

import functools
import hashlib

import numpy as np

# A matrix of more classes is neither printed nor affordable.
LARGEST_MATRIX = 1000
# The normal quantile of a 95 % interval.
_Z = 1.959964


def position_weights(
    shape, *, labels=None, mask=None, sample_weight=None, ignore_class=None
):
    """Returns how much each decision counts; 0 if it does not count.

    Args:
        shape: The shape of the decisions, `(batch, ...)`.
        labels: Class numbers of this shape.
        mask: Booleans of this shape or of its first axes: false for padding.
        sample_weight: Numbers of this shape or of its first axes.
        ignore_class: The label of positions without a class.

    Returns:
        A float64 array of `shape`.
    """
    weights = np.ones(shape)
    for factor in mask, sample_weight:
        if factor is not None:
            weights *= _broadcast(factor, shape)
    if ignore_class is not None and labels is not None:
        weights *= np.asarray(labels) != ignore_class
    return weights


def _broadcast(values, shape):
    values = np.asarray(values, "float64")
    if values.ndim == len(shape) + 1 and values.shape[-1] == 1:
        values = values[..., 0]
    values = values.reshape(values.shape + (1,) * (len(shape) - values.ndim))
    return np.broadcast_to(values, shape)


class DecisionCounts:
    """Running counts of labels and decisions.

    Args:
        classes: The number of classes.

    Attributes:
        of_label: `(classes,)`: the weight of the positions with each label.
        decided: `(classes,)`: of those decided as each class.
        right: `(classes,)`: of those that are both.
        matrix: `(classes, classes)`: weights by label (rows) and decision
            (columns); `None` with more than 1000 classes.
    """

    def __init__(self, classes: int):
        self.of_label = np.zeros(classes)
        self.decided = np.zeros(classes)
        self.right = np.zeros(classes)
        small = classes <= LARGEST_MATRIX
        self.matrix = np.zeros((classes, classes)) if small else None
        self._squares = np.zeros(classes)
        self._all_squares = 0.0

    def add(self, labels, decisions, weights=None):
        """Adds decisions.

        Args:
            labels: Class numbers of shape `(samples, ...)`.
            decisions: Class numbers of the same shape.
            weights: How much each counts; defaults to 1. Labels and decisions
                of weight 0 may be anything.
        """
        labels = np.asarray(labels)
        samples = np.arange(labels.size) // max(1, labels[:1].size)
        labels = labels.reshape(-1).astype("int64")
        decisions = np.asarray(decisions).reshape(-1).astype("int64")
        weights = np.ones(len(labels)) if weights is None else np.ravel(weights)
        counted = weights != 0
        labels, decisions, weights, samples = (
            values[counted] for values in (labels, decisions, weights, samples)
        )
        classes = len(self.right)
        count = functools.partial(np.bincount, minlength=classes)
        right = labels == decisions
        self.of_label += count(labels, weights)
        self.decided += count(decisions, weights)
        self.right += count(labels[right], weights[right])
        pairs, place = np.unique(
            samples * classes + labels, return_inverse=True
        )
        of_sample = np.bincount(place, weights)
        self._squares += count(pairs % classes, np.square(of_sample))
        of_sample = np.bincount(samples, weights)
        self._all_squares += np.sum(np.square(of_sample))
        if self.matrix is not None:
            pairs = np.bincount(
                labels * classes + decisions, weights, classes**2
            )
            self.matrix += pairs.reshape(classes, classes)

    @property
    def weight(self) -> float:
        """The weight of all positions."""
        return float(self.of_label.sum())

    @property
    def accuracy(self) -> float:
        """The share of right decisions, NaN if nothing counts."""
        return _quotient(self.right.sum(), self.weight)

    @property
    def recall(self) -> np.ndarray:
        """`(classes,)`: the share of each label's positions that was found.

        NaN for a class without positions.
        """
        return _quotient(self.right, self.of_label)

    @property
    def precision(self) -> np.ndarray:
        """`(classes,)`: the share of each class's decisions that was right.

        NaN for a class that was never decided.
        """
        return _quotient(self.right, self.decided)

    @property
    def intersection_over_union(self) -> np.ndarray:
        """`(classes,)`: of the positions with a class as label or decision, the
        share with both.

        NaN for a class without either.
        """
        union = self.of_label + self.decided - self.right
        return _quotient(self.right, union)

    @property
    def mean_intersection_over_union(self) -> float:
        """Its mean over the classes that occur, as `keras.metrics.MeanIoU`."""
        shares = self.intersection_over_union
        shares = shares[~np.isnan(shares)]
        return float(shares.mean()) if len(shares) else float("nan")

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have positions."""
        recall = self.recall[self.of_label > 0]
        return float(recall.mean()) if len(recall) else float("nan")

    @property
    def majority_accuracy(self) -> float:
        """What always deciding for the most frequent class would reach."""
        return _quotient(self.of_label.max(), self.weight)

    @property
    def effective_size(self) -> float:
        """The number of samples of weight 1 that are worth as much.

        (sum w)^2 / sum w^2 over the samples (Kish 1965, "Survey Sampling").
        The positions of a sample, such as its tokens or pixels, are not
        independent: w is their sum.
        """
        return _quotient(self.weight**2, self._all_squares)

    @property
    def sizes(self) -> np.ndarray:
        """`(classes,)`: the same for the positions with each label."""
        return np.nan_to_num(_quotient(self.of_label**2, self._squares))

    def interval(self) -> tuple[float, float]:
        """Returns the 95 % interval of the accuracy that its size allows."""
        return accuracy_interval(self.accuracy, self.effective_size)

    def balanced_interval(self) -> tuple[float, float]:
        """Returns the same of the balanced accuracy."""
        present = self.of_label > 0
        recall = self.recall[present]
        sizes = self.sizes[present]
        return mean_interval(
            recall, list(map(accuracy_interval, recall, sizes))
        )


def accuracy_interval(accuracy: float, size: float) -> tuple[float, float]:
    """Returns the 95 % interval of a share of `size` independent samples.

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical
    Inference". Tokens of a sentence and pixels of an image are not
    independent: if `size` counts them all, the interval is too narrow.
    """
    if not size > 0:
        return float("nan"), float("nan")
    square = _Z**2
    center = (accuracy + square / (2 * size)) / (1 + square / size)
    half = (
        _Z
        * np.sqrt(accuracy * (1 - accuracy) / size + square / (4 * size**2))
        / (1 + square / size)
    )
    return max(0.0, float(center - half)), min(1.0, float(center + half))


def mean_interval(estimates, intervals) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of independent estimates.

    Zou and Donner 2008, "Construction of Confidence Limits About Effect
    Measures: A General Approach".

    Args:
        estimates: `(n,)` numbers.
        intervals: `(n, 2)`: the 95 % interval of each.
    """
    estimates = np.asarray(estimates)
    if not len(estimates):
        return float("nan"), float("nan")
    below, above = np.linalg.norm(np.transpose(intervals) - estimates, axis=1)
    mean, number = estimates.mean(), len(estimates)
    return float(mean - below / number), float(mean + above / number)


def paired_difference(first_right, second_right, weights=None):
    """Compares two networks on the same samples.

    Args:
        first_right: `(samples,)` booleans: where the first is right.
        second_right: The same of the second.
        weights: How much each sample counts; defaults to 1. They are scaled
            to sum to the `effective_size`.

    Returns:
        The accuracy of the first minus that of the second, and its 95 %
        interval `(low, high)`, see `paired_interval`.
    """
    first, second = np.asarray(first_right), np.asarray(second_right)
    weights = np.ones(len(first)) if weights is None else np.asarray(weights)
    total = weights.sum()
    only_first = _quotient(weights[first & ~second].sum(), total)
    only_second = _quotient(weights[second & ~first].sum(), total)
    size = _quotient(total**2, np.square(weights).sum())
    interval = paired_interval(only_first, only_second, size)
    return float(only_first - only_second), interval


def paired_interval(
    only_first: float, only_second: float, size: float
) -> tuple[float, float]:
    """Returns the 95 % interval of a difference on the same samples.

    Bonett and Price 2012, "Adjusted Wald Confidence Interval for a Difference
    of Binomial Proportions Based on Paired Data".

    Args:
        only_first: The share on which the first network alone is right.
        only_second: The same of the second.
        size: The number of independent samples.
    """
    p, q = (
        (share * size + 1) / (size + 2) for share in (only_first, only_second)
    )
    half = _Z * np.sqrt((p + q - (p - q) ** 2) / (size + 2))
    return max(-1.0, float(p - q - half)), min(1.0, float(p - q + half))


def area_under_curve(labels, scores, weights=None) -> float:
    """Returns the area under the ROC curve of two classes.

    The probability that a sample of class 1 has a larger score than one of
    class 0; equal scores count half.

    Args:
        labels: 0 or 1, of any shape.
        scores: Numbers of the same shape, larger for class 1.
        weights: How much each counts; defaults to 1.

    Returns:
        A share in [0, 1], NaN if one class is missing.
    """
    labels, scores = np.ravel(labels), np.ravel(scores)
    weights = np.ones(len(labels)) if weights is None else np.ravel(weights)
    _, place = np.unique(scores, return_inverse=True)
    positive = np.bincount(place, weights * (labels == 1))
    negative = np.bincount(place, weights * (labels != 1))
    below = np.cumsum(negative) - negative
    return _quotient(
        np.sum(positive * (below + negative / 2)),
        positive.sum() * negative.sum(),
    )


class LabelsFingerprint:
    """Tells whether two measurements saw the same labels in the same order.

    sha256 over the class numbers as int64, in C order. The parts in which the
    labels come do not matter.
    """

    def __init__(self):
        self._hash = hashlib.sha256()

    def add(self, labels):
        """Adds class numbers of any shape."""
        self._hash.update(np.asarray(labels).astype("int64").tobytes())

    def hexdigest(self) -> str:
        """Returns the fingerprint of all labels so far."""
        return self._hash.hexdigest()


def labels_fingerprint(labels) -> str:
    """Returns the `LabelsFingerprint` of class numbers, as hex digits."""
    fingerprint = LabelsFingerprint()
    fingerprint.add(labels)
    return fingerprint.hexdigest()


def _quotient(numerator, denominator):
    """Divides; 0 / 0 is NaN, without a warning."""
    with np.errstate(invalid="ignore"):
        quotient = np.divide(numerator, denominator)
    return quotient if quotient.ndim else float(quotient)
