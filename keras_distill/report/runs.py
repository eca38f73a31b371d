"""Means over several runs of the same training, and how certain they are."""

import math

import numpy as np


def exported_run(evidence, seeds, accuracy):
    """Which of several runs is the student of the report.

    Args:
        evidence: An `Evidence`.
        seeds: The seeds of the runs, if they are known.
        accuracy: The student's accuracy on the test data.

    Returns:
        A dict with `"run"`, counted from 0, its `"seed"` and `"accuracy"`
        (`None` if they are not known) and `"is_best"`; or `None` with one
        run.
    """
    accuracies = evidence.accuracies.get("distilled", ())
    if len(accuracies) < 2:
        return None
    run = evidence.exported_run
    if run is None:
        alike = [
            run
            for run, value in enumerate(accuracies)
            if math.isclose(value, accuracy, abs_tol=1e-6)
        ]
        run = alike[0] if len(alike) == 1 else None
    if run is None:
        return {"run": None, "seed": None, "accuracy": None, "is_best": None}
    known = isinstance(seeds, (list, tuple, range, np.ndarray))
    known = known and len(seeds) == len(accuracies)
    return {
        "run": run,
        "seed": seeds[run] if known else None,
        "accuracy": accuracies[run],
        "is_best": accuracies[run] == max(accuracies),
    }


def summarize_runs(accuracies, agreements, exported=None):
    """Means and intervals over runs.

    Args:
        accuracies: A dict from `"teacher"`, `"alone"`, `"distilled"` to a list
            of shares, one per run.
        agreements: The same for the agreement with the teacher.
        exported: As `exported_run` returns it.

    Returns:
        A dict, or `None` without accuracies and agreements. `"gain"` is
        distilled minus alone, paired by run. `"gap_closed"` is the gain as a
        share of the way from alone to the teacher.
    """
    if not accuracies and not agreements:
        return None
    runs = {
        "accuracy": {key: interval(v) for key, v in accuracies.items()},
        "agreement_with_teacher": {
            key: interval(v) for key, v in agreements.items()
        },
        "gain": None,
        "gap_closed": None,
        "exported": exported,
    }
    distilled, alone = accuracies.get("distilled"), accuracies.get("alone")
    if distilled and alone and len(distilled) == len(alone):
        runs["gain"] = interval(np.subtract(distilled, alone))
    if distilled and alone and "teacher" in accuracies:
        means = {key: row["mean"] for key, row in runs["accuracy"].items()}
        gap = means["teacher"] - means["alone"]
        # Without a better teacher there is no gap to close.
        if gap > 0:
            runs["gap_closed"] = (means["distilled"] - means["alone"]) / gap
    return runs


def interval(values):
    """Mean and 95 % confidence interval of the mean (Student's t).

    Args:
        values: Numbers, one per run.

    Returns:
        A dict with `"mean"`, `"half_width"`, `"low"`, `"high"` and `"values"`.
        For a single run, the width and the bounds are `None`.
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


def student_t_quantile(degrees):
    """The t for which Student's t distribution has 95 % between -t and t.

    The finite series for whole degrees of freedom, solved by bisection.

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
