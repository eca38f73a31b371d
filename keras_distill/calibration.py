"""Is a network right as often as it says? In pure NumPy."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from keras_distill._arguments import checked_integer

__all__ = ["Reliability", "expected_calibration_error", "reliability"]


class Reliability(NamedTuple):
    """Confidence against accuracy, by bin of confidence.

    Attributes:
        edges: `(bins + 1,)`, from 0 to 1; bin `m` is `(edges[m], edges[m+1]]`.
        counts: `(bins,)` samples in each bin.
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
    confidence: ArrayLike, correct: ArrayLike, bins: int = 15
) -> Reliability:
    """Sorts samples into equal-width bins of confidence.

    Args:
        confidence: The probability of the predicted class, in [0, 1].
        correct: Whether the predicted class is the label.
        bins: Number of bins. Defaults to 15, as in the paper.

    Input shapes:
        `(samples,)` for both.

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
    confidence = np.asarray(confidence, "float64")
    correct = np.asarray(correct, "float64")
    if confidence.ndim != 1 or confidence.shape != correct.shape:
        raise ValueError(
            "confidence and correct must both have the shape (samples,). "
            f"Received: {confidence.shape} and {correct.shape}"
        )
    if not len(confidence):
        raise ValueError("There are no samples: confidence is empty.")
    bins = checked_integer("bins", bins)
    # A softmax in float32 may sum to a little more than 1.
    if not np.all((confidence >= 0.0) & (confidence <= 1.0 + 1e-5)):
        raise ValueError(
            "confidence must be probabilities in [0, 1]: the softmax of "
            f"logits. Received: {confidence.min():g} to {confidence.max():g}"
        )
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(index, minlength=bins)
    means = []
    for values in (confidence, correct):
        sums = np.bincount(index, weights=values, minlength=bins)
        empty = np.full(bins, np.nan)
        means.append(np.divide(sums, counts, out=empty, where=counts > 0))
    return Reliability(edges, counts, *means)


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 15
) -> float:
    """How far confidence and accuracy are apart, on average.

        ECE = sum_m |B_m| / n * |accuracy(B_m) - confidence(B_m)|

    over equal-width bins `B_m = ((m - 1) / bins, m / bins]` of the confidence
    of `n` samples.

    Args:
        confidence: As in `reliability`.
        correct: As in `reliability`.
        bins: As in `reliability`.

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
    return reliability(confidence, correct, bins).error()
