"""Means over several runs, and how sure they are."""

import math

import numpy as np


def student_t_quantile(degrees):
    """Where Student's t distribution holds 95 % between -t and t.

    By the finite series for whole degrees of freedom, and bisection.

    Args:
        degrees: Degrees of freedom, an integer >= 1.

    Reference: Abramowitz and Stegun 1964, "Handbook of Mathematical
    Functions", eqs. 26.7.3 and 26.7.4.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        if _share_between(angle, degrees) < 0.95:
            low = angle
        else:
            high = angle
    return math.tan(low) * math.sqrt(degrees)


def _share_between(angle, degrees):
    """P(|T| < t) with `t = tan(angle) * sqrt(degrees)`."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine**2 * (k - 1) / k
    if odd:
        return 2 / math.pi * (angle + sine * total)
    return sine * total


def interval(values):
    """Mean and 95 % confidence interval of the mean (Student's t).

    Args:
        values: Numbers, one a run.

    Returns:
        A dict `"mean"`, `"half_width"`, `"low"`, `"high"`, `"values"`; of one
        run the width and the bounds are `None`.
    """
    values = np.asarray(values, "float64")
    mean, half = float(values.mean()), None
    if len(values) > 1:
        error = values.std(ddof=1) / math.sqrt(len(values))
        half = float(student_t_quantile(len(values) - 1) * error)
    return {
        "mean": mean,
        "half_width": half,
        "low": None if half is None else mean - half,
        "high": None if half is None else mean + half,
        "values": values.tolist(),
    }
