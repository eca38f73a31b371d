"""Several runs of the same training: accuracies and curves."""

import keras
import numpy as np

from keras_distill._arguments import is_number
from keras_distill.report.statistics import interval

NETWORKS = ("teacher", "alone", "distilled")


def checked_shares(shares, argument):
    """-> a dict network -> list of shares, one a run.

    Args:
        shares: A dict of `"teacher"`, `"alone"`, `"distilled"` -> a number or
            several, in [0, 1]; or `None`.
        argument: What the user calls it, for messages.
    """
    if shares is None:
        return {}
    if not isinstance(shares, dict) or set(shares) - set(NETWORKS):
        raise ValueError(
            f"`{argument}` must be a dict with the keys {list(NETWORKS)} (some "
            f"of them) and a number, or one a run, each. Received: {shares!r}"
        )
    checked = {}
    for key in NETWORKS:
        if key not in shares:
            continue
        values = np.atleast_1d(shares[key]).tolist()
        wrong = [v for v in values if not is_number(v) or not 0 <= v <= 1]
        if wrong or not values:
            raise ValueError(
                f"`{argument}['{key}']` must be shares in [0, 1], such as 0.93 "
                f"for 93 %, one a run. Received: {shares[key]!r}"
            )
        checked[key] = values
    return checked


def of_runs(accuracies, agreements):
    """Means and intervals of what `checked_shares` let through.

    Returns:
        A dict, or `None` without accuracies and agreements. `"gain"` is
        distilled minus alone, paired by run; `"gap_closed"` its share of the
        way from alone to the teacher.
    """
    if not accuracies and not agreements:
        return None
    found = {
        "accuracy": {key: interval(v) for key, v in accuracies.items()},
        "agreement_with_teacher": {
            key: interval(v) for key, v in agreements.items()
        },
        "gain": None,
        "gap_closed": None,
    }
    distilled, alone = accuracies.get("distilled"), accuracies.get("alone")
    if distilled and alone and len(distilled) == len(alone):
        found["gain"] = interval(np.subtract(distilled, alone))
    if distilled and alone and "teacher" in accuracies:
        means = [found["accuracy"][key]["mean"] for key in NETWORKS]
        gap = means[0] - means[1]
        # A gap of nothing, or a teacher that is worse, is not closed by any.
        if gap > 0:
            found["gap_closed"] = (means[2] - means[1]) / gap
    return found


def checked_histories(history):
    """-> a dict run -> list of dicts term -> values by epoch.

    Args:
        history: A `keras.callbacks.History`, its `.history`, a list of these
            (repetitions of one run), a dict run -> any of these, or `None`.
    """
    if history is None:
        return {}
    one = _of_one_run(history)
    if one is not None:
        return {"training": one}
    if isinstance(history, dict) and history:
        runs = {str(name): _of_one_run(h) for name, h in history.items()}
        if None not in runs.values():
            return runs
    raise TypeError(
        "`history` must be what fit() returns (a keras History or its "
        ".history), a list of these, or a dict name -> any of these. "
        f"Received: {history!r} of type {type(history).__name__}"
    )


def _of_one_run(history):
    """-> a list of dicts, or `None`: this is no run."""
    if not isinstance(history, (list, tuple)):
        history = [history]
    runs = []
    for one in history:
        if isinstance(one, keras.callbacks.History):
            one = one.history
        elif not isinstance(one, dict):
            return None
        # Metrics of several numbers, one a class, have no curve.
        curves = {str(k): _curve(v) for k, v in one.items()}
        curves = {k: v for k, v in curves.items() if v is not None}
        if one and not curves:
            return None
        runs.append(curves)
    return runs or None


def _curve(values):
    """-> a list of floats, `None` for anything else than numbers."""
    if not isinstance(values, (list, tuple, np.ndarray)):
        return None
    if any(np.ndim(v) or isinstance(v, (str, dict)) for v in values):
        return None
    try:
        return [float(v) for v in values]
    except (TypeError, ValueError):
        return None


def mean_and_range(curves):
    """Curves of several runs, of possibly different length.

    Returns:
        Mean, smallest and largest value by epoch, NaN left aside.
    """
    longest = max(map(len, curves))
    values = np.full((len(curves), longest), np.nan)
    for row, curve in zip(values, curves):
        row[: len(curve)] = curve
    values[~np.isfinite(values)] = np.nan
    known = ~np.isnan(values)
    number = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0.0).sum(0) / number
    low = np.where(known, values, np.inf).min(0)
    high = np.where(known, values, -np.inf).max(0)
    nothing = ~known.any(0)
    for curve in (mean, low, high):
        curve[nothing] = np.nan
    return mean, low, high
