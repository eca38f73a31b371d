"""Is a network right as often as it says? In pure NumPy."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from keras_distill._arguments import checked_integer
from keras_distill._data.values import check_sample_weight

__all__ = ["Reliability", "expected_calibration_error", "reliability"]


class Reliability(NamedTuple):
    """Confidence against accuracy, by bin of confidence.

    Attributes:
        edges: `(bins + 1,)`, from 0 to 1; bin `m` is `(edges[m], edges[m+1]]`.
        counts: `(bins,)` samples in each bin, or the sum of their weights.
        confidence: `(bins,)` their mean confidence; NaN in an empty bin.
        accuracy: `(bins,)` their share that is right; NaN in an empty bin.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    def error(self) -> float:
        """The expected calibration error, a share in [0, 1]."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(self.counts * gaps) / self.counts.sum())


def reliability(
    confidence: ArrayLike,
    correct: ArrayLike,
    bins: int = 15,
    sample_weight: ArrayLike | None = None,
) -> Reliability:
    """Sorts samples into equal-width bins of confidence.

    Args:
        confidence: The probability of the predicted class, in [0, 1].
        correct: Whether the predicted class is the label.
        bins: Number of bins. Defaults to 15, as in the paper.
        sample_weight: How much each sample counts. Defaults to 1.

    Input shapes:
        `(samples,)` for each.

    Returns:
        A `Reliability`.

    Raises:
        ValueError: If the shapes differ, there are no samples, a confidence
            lies outside [0, 1] or `bins` is not a positive integer.

    Example:

    ```python
    bins = kd.calibration.reliability([0.9, 0.8], [True, False], bins=2)
    bins.accuracy  # [nan, 0.5]
    ```

    Reference: Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern
    Neural Networks", section 2 (reliability diagrams).
    """
    if not np.size(confidence):
        raise ValueError("There are no samples: confidence is empty.")
    if sample_weight is not None:
        sample_weight = np.asarray(sample_weight)
        shape, kind = sample_weight.shape, sample_weight.dtype.kind
        if shape != np.shape(confidence) or kind not in "iuf":
            raise ValueError(
                "sample_weight must hold one number per sample, the shape "
                f"{np.shape(confidence)}. Received: shape {shape}, dtype "
                f"{sample_weight.dtype}"
            )
        check_sample_weight(sample_weight)
    sums = ReliabilitySums(checked_integer("bins", bins))
    sums.add(confidence, correct, sample_weight)
    return sums.result()


class ReliabilitySums:
    """A `Reliability` of samples that come in parts.

    Args:
        bins: Number of bins.
    """

    def __init__(self, bins: int = 15):
        self._edges = np.linspace(0.0, 1.0, bins + 1)
        self._sums = np.zeros((3, bins))

    def add(self, confidence, correct, sample_weight=None):
        """Adds samples; the arguments are those of `reliability`."""
        confidence = np.asarray(confidence, "float64")
        correct = np.asarray(correct, "float64")
        if confidence.ndim != 1 or confidence.shape != correct.shape:
            raise ValueError(
                "confidence and correct must both have the shape (samples,). "
                f"Received: {confidence.shape} and {correct.shape}"
            )
        # A softmax in float32 may sum to a little more than 1.
        if not np.all((confidence >= 0.0) & (confidence <= 1.0 + 1e-5)):
            raise ValueError(
                "confidence must be probabilities in [0, 1]: the softmax of "
                f"logits. Received: {confidence.min():g} to "
                f"{confidence.max():g}"
            )
        weight = np.ones(len(confidence))
        if sample_weight is not None:
            weight = np.asarray(sample_weight, "float64")
        index = np.searchsorted(self._edges[1:-1], confidence, side="left")
        # In order, so that the parts do not change the last bits.
        for sums, values in zip(self._sums, (1.0, confidence, correct)):
            np.add.at(sums, index, weight * values)

    @property
    def mean_confidence(self) -> float:
        """The mean confidence of all samples."""
        return float(self._sums[1].sum() / self._sums[0].sum())

    def result(self) -> Reliability:
        """Returns the `Reliability` of all samples so far."""
        counts, confidence, correct = self._sums
        if np.array_equal(counts, np.round(counts)):
            counts = counts.astype("int64")
        with np.errstate(invalid="ignore"):
            return Reliability(
                self._edges, counts, confidence / counts, correct / counts
            )


def expected_calibration_error(
    confidence: ArrayLike,
    correct: ArrayLike,
    bins: int = 15,
    sample_weight: ArrayLike | None = None,
) -> float:
    """How far confidence and accuracy are apart, on average.

        ECE = sum_m |B_m| / n * |accuracy(B_m) - confidence(B_m)|

    over equal-width bins `B_m = ((m - 1) / bins, m / bins]` of the confidence
    of `n` samples.

    Args:
        confidence: As in `reliability`.
        correct: As in `reliability`.
        bins: As in `reliability`.
        sample_weight: As in `reliability`.

    Input shapes:
        `(samples,)` for both.

    Returns:
        A share in [0, 1]; 0 is perfectly calibrated.

    Raises:
        ValueError: As in `reliability`.

    Example:

    ```python
    kd.calibration.expected_calibration_error(
        [0.9, 0.8, 0.7, 0.6], [True, True, False, True], bins=2
    )  # |0.75 - 0.75| = 0
    ```

    Reference: Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern
    Neural Networks", eq. 3 (after Naeini et al. 2015).
    """
    return reliability(confidence, correct, bins, sample_weight).error()
