"""The section of training curves: one small chart a term."""

import numpy as np

from keras_distill.report.charts import legend
from keras_distill.report.charts import line_chart
from keras_distill.report.html import element
from keras_distill.report.html import figure
from keras_distill.report.runs import mean_and_range
from keras_distill.report.sections import section

_FIRST = ("loss", "student_loss", "distillation_loss")
_OTHERS = ("other-1", "other-2")


def training(facts):
    """Every term of every run, mean and range over its repetitions."""
    runs = facts.get("curves") or {}
    charts = _charts(runs)
    if not charts:
        return None
    styles = _styles(list(runs))
    dashed = any("validation" in lines for lines in _all_lines(charts))
    number = max(map(len, runs.values()))
    text = "Mean over the runs; the band goes from the lowest to the highest."
    return section(
        "training",
        "Training",
        element("p", text) if number > 1 else None,
        legend(
            [(styles[run], run) for run in runs],
            [(False, "training"), (True, "validation")] if dashed else (),
        ),
        element(
            "div",
            [_figure(names, lines, styles) for names, lines in charts],
            class_="charts",
        ),
    )


def _charts(runs):
    """-> pairs of the names of equal terms, and run -> part -> curves."""
    terms = {}
    for run, repetitions in runs.items():
        for name in dict.fromkeys(k for h in repetitions for k in h):
            curves = [_numbers(h[name]) for h in repetitions if h.get(name)]
            if not any(np.isfinite(c).any() for c in curves):
                continue
            term, part = _term(name, repetitions)
            # Without a task loss Keras still reports one, of nothing.
            if term == "student_loss" and not np.any(np.concatenate(curves)):
                continue
            terms.setdefault(term, {}).setdefault(run, {})[part] = curves
    order = sorted(
        terms, key=lambda t: _FIRST.index(t) if t in _FIRST else len(_FIRST)
    )
    merged = []
    for term in order:
        for names, lines in merged:
            if _equal(lines, terms[term]):
                names.append(term)
                break
        else:
            merged.append(([term], terms[term]))
    return merged


def _term(name, repetitions):
    """A key of a History -> the term's name, `"training"` or `"validation"`."""
    if not name.startswith("val_"):
        return name, "training"
    # What a Distiller reports in evaluation is the task loss alone.
    if name == "val_loss" and "distillation_loss" in repetitions[0]:
        return "student_loss", "validation"
    return name.removeprefix("val_"), "validation"


def _numbers(values):
    return np.array([np.nan if v is None else v for v in values], "float64")


def _equal(one, other):
    """Whether two terms are the same numbers: one term with weight 1 is."""
    return one.keys() == other.keys() and all(
        one[run].keys() == other[run].keys()
        and all(
            len(one[run][part]) == len(other[run][part])
            and all(
                np.array_equal(a, b, equal_nan=True)
                for a, b in zip(one[run][part], other[run][part])
            )
            for part in one[run]
        )
        for run in one
    )


def _all_lines(charts):
    return [parts for _, lines in charts for parts in lines.values()]


def _styles(runs):
    """Run -> style: the networks' own where the name says whose run it is."""
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


def _figure(names, lines, styles):
    share = _is_share(names, lines)
    drawn, ends = [], []
    for run, parts in lines.items():
        for part, curves in parts.items():
            mean, low, high = mean_and_range(curves)
            scale = 100.0 if share else 1.0
            drawn.append(
                {
                    "style": styles[run],
                    "dashed": part == "validation",
                    "values": scale * mean,
                    "low": scale * low,
                    "high": scale * high,
                }
            )
            known = scale * mean[np.isfinite(mean)]
            ends.append(f"{run}, {part}: {known[0]:.4g} to {known[-1]:.4g}")
    low = min(np.nanmin(line["low"]) for line in drawn)
    high = max(np.nanmax(line["high"]) for line in drawn)
    logarithmic = bool(not share and low > 0 and high / low > 20)
    title = " = ".join(name.replace("_", " ") for name in names)
    notes = " %" if share else ", logarithmic" if logarithmic else ""
    return figure(
        line_chart(
            drawn,
            f"{title}{notes} by epoch. {'; '.join(ends)}.",
            logarithmic,
        ),
        [element("b", title), notes],
    )


def _is_share(names, lines):
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
