"""What the examples share: intervals, tables and pictures."""

import contextlib
import math

import numpy as np


def interval(values):
    """Mean and half width of its 95 % confidence interval (Student's t)."""
    from scipy import stats

    values = np.asarray(values, float)
    if len(values) < 2:
        return float(values.mean()), math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(values.mean()), float(half)


def percent(values, sign=""):
    """`[0.91, 0.93]` -> `"92.0 ± 12.7"`; `sign="+"` for differences."""
    mean, half = interval(100 * np.asarray(values, float))
    text = f"{mean:{sign}.1f}"
    return text if math.isnan(half) else f"{text} ± {half:.1f}"


def table(rows):
    """A Markdown table of dicts with the same keys."""
    columns = list(rows[0])
    cells = [columns, *([str(row[c]) for c in columns] for row in rows)]
    width = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, width)) + " |"
        for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in width) + "|")
    return "\n".join(lines)


def gap_closed(teacher, alone, distilled):
    """Share of the distance from alone to the teacher that was covered, as
    text; empty where the teacher is not the better one."""
    gap = np.mean(teacher) - np.mean(alone)
    if gap <= 0:
        return ""
    return f"{100 * (np.mean(distilled) - np.mean(alone)) / gap:.0f} %"


def comparison(networks, accuracies, agreements):
    """Rows of the table teacher / student alone / student distilled.

    Args:
        networks: A dict name -> model, for `"teacher"` and `"student"`.
        accuracies: A dict `"teacher"`, `"alone"`, `"distilled"` -> list.
        agreements: A dict `"alone"`, `"distilled"` -> list, with the teacher.
    """
    from keras_distill.cost import multiply_accumulates

    names = {
        "teacher": "teacher",
        "alone": "student alone",
        "distilled": "student distilled",
    }
    closed = gap_closed(*(accuracies[key] for key in names))
    rows = []
    for key, name in names.items():
        network = networks["teacher" if key == "teacher" else "student"]
        agreement = agreements.get(key)
        rows.append(
            {
                "network": name,
                "parameters": f"{network.count_params():,}",
                "multiply-accumulates": f"{multiply_accumulates(network):,}",
                "test accuracy %": percent(accuracies[key]),
                "agreement with teacher %": percent(agreement)
                if agreement
                else "",
                "gap closed": closed if key == "distilled" else "",
            }
        )
    return rows


@contextlib.contextmanager
def picture(path, *shape, **options):
    """Gives axes as `pyplot.subplots(*shape, **options)`, and saves them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(*shape, layout="constrained", **options)
    yield axes
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def line(axes, x, seeds, colour, **options):
    """Draws `seeds`, (seeds, points): their mean, and a band of their range."""
    seeds = np.asarray(seeds)
    axes.plot(x, seeds.mean(0), color=colour, **options)
    axes.fill_between(
        x, seeds.min(0), seeds.max(0), color=colour, alpha=0.15, linewidth=0
    )


def curves(path, histories, title):
    """Saves accuracy and loss terms by epoch as a picture.

    Args:
        path: Where to write the PNG file.
        histories: A dict run -> list of `History.history` dicts (one a seed);
            lines are means, bands the range over seeds.
        title: Title of the picture.
    """
    with picture(path, 1, 2, figsize=(10, 4)) as (left, right):
        for index, (run, seeds) in enumerate(histories.items()):
            colour = f"C{index}"
            values = 100 * np.array([h["val_accuracy"] for h in seeds])
            epochs = np.arange(1, values.shape[1] + 1)
            line(left, epochs, values, colour, label=run)
            for name, style in (
                ("loss", "-"),
                ("soft_targets_loss", "--"),
                ("student_loss", ":"),
            ):
                alike = (
                    name != "loss" and seeds[0].get(name) == seeds[0]["loss"]
                )
                if name in seeds[0] and not alike:
                    values = np.mean([h[name] for h in seeds], axis=0)
                    label = f"{run}: {name.replace('_', ' ')}"
                    right.plot(
                        epochs, values, colour, linestyle=style, label=label
                    )
        left.set(xlabel="epoch", ylabel="test accuracy %", title=title)
        right.set(
            xlabel="epoch",
            ylabel="training loss",
            yscale="log",
            title="objective",
        )
        for axes in (left, right):
            axes.grid(alpha=0.3)
            axes.legend(frameon=False)
