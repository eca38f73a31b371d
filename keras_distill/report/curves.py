"""The section of training curves: one small chart per term of the loss."""

import numpy as np

from keras_distill.report.charts import legend_mark
from keras_distill.report.charts import line_chart

_FIRST = ("loss", "student_loss", "distillation_loss")
_OTHERS = ("other-1", "other-2")


def training(facts):
    """Every term of every run, as mean and range over its repetitions.

    Returns:
        What the template shows, or `None` without curves.
    """
    runs = facts.get("curves") or {}
    charts = _charts(runs)
    if not charts:
        return None
    styles = _styles(runs)
    legend = [(legend_mark(styles[run]), run) for run in runs]
    if any("validation" in p for _, lines in charts for p in lines.values()):
        legend += [
            (legend_mark(), "training"),
            (legend_mark(dashed=True), "validation"),
        ]
    return {
        "repeated": max(map(len, runs.values())) > 1,
        "legend": legend,
        "charts": [_chart(names, lines, styles) for names, lines in charts],
    }


def _charts(runs):
    """Pairs of the names of equal terms, and their curves by run and part."""
    terms = {}
    for run, repetitions in runs.items():
        for name in dict.fromkeys(k for h in repetitions for k in h):
            curves = [_numbers(h[name]) for h in repetitions if h.get(name)]
            if not any(np.isfinite(c).any() for c in curves):
                continue
            term, part = _term(name, repetitions)
            # Without a task loss Keras still reports one, which is 0.
            if term == "student_loss" and not np.any(np.concatenate(curves)):
                continue
            terms.setdefault(term, {}).setdefault(run, {})[part] = curves
    order = sorted(
        terms, key=lambda t: _FIRST.index(t) if t in _FIRST else len(_FIRST)
    )
    merged = {}
    for term in order:
        # The total of one term with weight 1 is that term: one chart for both.
        numbers = {
            run: {
                part: [c.tolist() for c in curves] for part, curves in p.items()
            }
            for run, p in terms[term].items()
        }
        merged.setdefault(repr(numbers), ([], terms[term]))[0].append(term)
    return list(merged.values())


def _term(name, repetitions):
    """The term, and `"training"` or `"validation"`, of a key of a History."""
    if not name.startswith("val_"):
        return name, "training"
    # In evaluation a Distiller reports the task loss alone.
    if name == "val_loss" and "distillation_loss" in repetitions[0]:
        return "student_loss", "validation"
    return name.removeprefix("val_"), "validation"


def _numbers(values):
    return np.array([np.nan if v is None else v for v in values], "float64")


def _styles(runs):
    """Each run's style: that of a network if the run's name mentions it."""
    styles, others = {}, 0
    for run in runs:
        words = run.lower()
        if "teacher" in words:
            style = "teacher"
        elif "alone" in words:
            style = "alone"
        else:
            style = "student"
        if style in styles.values():
            style = _OTHERS[others % len(_OTHERS)]
            others += 1
        styles[run] = style
    return styles


def _chart(names, lines, styles):
    """Title, notes and drawing of one chart."""
    scale = 100.0 if _are_shares(names, lines) else 1.0
    drawn, ends = [], []
    for run, parts in lines.items():
        for part, curves in parts.items():
            mean, low, high = (scale * c for c in mean_and_range(curves))
            drawn.append(
                {
                    "style": styles[run],
                    "dashed": part == "validation",
                    "values": mean,
                    "low": low,
                    "high": high,
                }
            )
            known = mean[np.isfinite(mean)]
            ends.append(f"{run}, {part}: {known[0]:.4g} to {known[-1]:.4g}")
    low = min(np.nanmin(line["low"]) for line in drawn)
    high = max(np.nanmax(line["high"]) for line in drawn)
    logarithmic = bool(scale == 1 and low > 0 and high / low > 20)
    title = " = ".join(name.replace("_", " ") for name in names)
    notes = " %" if scale > 1 else ", logarithmic" if logarithmic else ""
    description = f"{title}{notes} by epoch. {'; '.join(ends)}."
    return title, notes, line_chart(drawn, description, logarithmic)


def _are_shares(names, lines):
    if not any("accuracy" in n or n == "agreement" for n in names):
        return False
    values = [
        curve
        for parts in lines.values()
        for curves in parts.values()
        for curve in curves
    ]
    known = np.concatenate(values)
    known = known[np.isfinite(known)]
    return bool(known.min() >= 0 and known.max() <= 1)


def mean_and_range(curves):
    """Mean, smallest and largest value by epoch, without NaN.

    Args:
        curves: Curves of several runs; their lengths may differ.
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
