"""The charts of the page: drawn by matplotlib, coloured by the style sheet.

The text of a chart is text, so that the page's font applies. It scales with
the chart: a chart is drawn at the width of a phone, and a wide page shows
several side by side. Networks differ in colour and in the shape of their
marks; validation differs from training by its dashes. Each chart has a
description for people who do not see it.
"""

import io
import re

import matplotlib.style
import numpy as np
from markupsafe import Markup
from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

WIDTH = 320
MARKERS = {
    "teacher": "s",
    "alone": "^",
    "student": "o",
    "other-1": "D",
    "other-2": "v",
}
# Placeholders: each becomes the variable of the style sheet after drawing,
# so that a chart follows the page into the dark.
_COLORS = {
    name: f"#0000{number:02x}"
    for number, name in enumerate(
        ("ink", "quiet", "rule", "ground", *MARKERS), start=1
    )
}
_DASHES = (0, (5, 3.5))
_page_style = matplotlib.style.context(
    [
        "default",
        {
            "svg.fonttype": "none",
            "font.size": 11,
            "text.color": _COLORS["quiet"],
            "text.parse_math": False,
            "axes.edgecolor": _COLORS["quiet"],
            "axes.labelcolor": _COLORS["quiet"],
            "axes.labelsize": 11,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "axes.axisbelow": True,
            "axes.spines.left": False,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.spines.bottom": False,
            "axes.autolimit_mode": "round_numbers",
            "axes.xmargin": 0,
            "axes.ymargin": 0,
            "axes.formatter.useoffset": False,
            "grid.color": _COLORS["rule"],
            "grid.linewidth": 1,
            "xtick.color": _COLORS["quiet"],
            "xtick.major.pad": 6,
            "xtick.major.size": 0,
            "xtick.minor.size": 0,
            "ytick.color": _COLORS["quiet"],
            "ytick.major.size": 0,
            "ytick.minor.size": 0,
            "lines.linewidth": 1.75,
            "lines.scale_dashes": False,
            "lines.markeredgecolor": _COLORS["ground"],
            "lines.markeredgewidth": 1,
        },
    ]
)
# What an SVG file needs and an SVG element inside a page does not.
_NOT_IN_A_PAGE = re.compile(
    r"<defs>.*?</defs>"
    r'| clip-path="[^"]*"'
    r'|(?<=<g) id="[^"]*"'
    r'| transform="rotate\(-0 [^"]*"'
    r"| font-family: [^;]*;"
    r"|(?<=\.\d\d)\d+(?=[^<>]*>)",
    re.DOTALL,
)


@_page_style
def legend_mark(style=None, dashed=False):
    """A short line with the network's mark, for the key to the charts."""
    figure = _figure(28, 14)
    figure.add_artist(
        Line2D(
            [1 / 28, 27 / 28],
            [0.5, 0.5],
            color=_COLORS[style or "quiet"],
            linestyle=_line_style(dashed),
        )
    )
    if style is not None:
        figure.add_artist(_mark(style, 0.5, 0.5, 9))
    return _svg(figure, kind="mark")


@_page_style
def line_chart(lines, description, logarithmic=False):
    """Curves by epoch.

    Args:
        lines: Dicts of `style`, `values`, `low`, `high` (by epoch, NaN for
            unknown values) and `dashed`.
        description: What there is to see, in words.
        logarithmic: Whether the vertical axis is logarithmic.
    """
    figure = _figure(WIDTH, 200)
    axes = _axes(figure, top=8, height=156)
    axes.yaxis.set_major_locator(_round_numbers())
    bounds = []
    for line in lines:
        color = _COLORS[line["style"]]
        known = np.flatnonzero(np.isfinite(line["values"]))
        epochs = known + 1
        mean, low, high = (
            line[key][known] for key in ("values", "low", "high")
        )
        if np.any(low < high):
            axes.fill_between(
                epochs, low, high, color=color, alpha=0.16, linewidth=0
            )
        axes.plot(
            epochs, mean, color=color, linestyle=_line_style(line["dashed"])
        )
        axes.add_line(_mark(line["style"], epochs[-1], mean[-1], 7))
        bounds += [*low, *high]
    last = max(2, *(len(line["values"]) for line in lines))
    axes.set_xlim(1, last)
    whole = ticker.MaxNLocator(4, integer=True, steps=[1, 2, 5, 10])
    ticks = whole.tick_values(1, last)
    axes.set_xticks([1, *(t for t in ticks if 1 < t <= last)])
    axes.set_xlabel("epoch")
    if logarithmic:
        low, high = min(bounds), max(bounds)
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        subs = (1,) if high / low > 1000 else (1, 3)
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=subs, numticks=6))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    return _svg(figure, description)


@_page_style
def reliability_diagram(bins, style, description, few=10):
    """Accuracy by bin of confidence; below, how many samples each bin has.

    Args:
        bins: A `Reliability` as a dict of lists, `None` for empty bins.
        style: The network's style, a key of `MARKERS`.
        description: What there is to see, in words.
        few: Bins of fewer samples are paler: their accuracy is a guess.
    """
    figure = _figure(WIDTH, 334)
    above = _axes(figure, top=8, height=220)
    below = _axes(figure, top=244, height=54)
    counts = np.array(bins["counts"])
    filled = counts > 0
    edges, counts = np.array(bins["edges"]), counts[filled]
    accuracy, confidence = (
        np.array(bins[key], "float64")[filled]
        for key in ("accuracy", "confidence")
    )
    centers = (edges[:-1] + edges[1:])[filled] / 2
    width = 0.88 / len(edges[1:])
    color = _COLORS[style]
    for bars, alpha in ((counts >= few, 0.75), (counts < few, 0.3)):
        above.bar(
            centers[bars], accuracy[bars], width, color=color, alpha=alpha
        )
    above.bar(
        centers,
        np.abs(accuracy - confidence),
        width,
        np.minimum(accuracy, confidence),
        fill=False,
        edgecolor=_COLORS["ink"],
        linestyle=(0, (2.5, 2)),
    )
    above.plot([0, 1], [0, 1], color=_COLORS["quiet"], linestyle=_DASHES, lw=1)
    above.set_ylim(0, 1)
    above.set_xticks([])
    below.bar(centers, counts, width, color=color, alpha=0.45)
    below.set_ylim(0, counts.max())
    below.set_yticks([0, counts.max()])
    below.yaxis.set_major_formatter("{x:,.0f}")
    below.grid(False)
    below.spines["bottom"].set_visible(True)
    below.set_xlabel("confidence")
    for axes in (above, below):
        axes.set_xlim(0, 1)
    for axis in (above.yaxis, below.xaxis):
        axis.set_major_locator(ticker.MultipleLocator(0.25))
        axis.set_major_formatter(ticker.PercentFormatter(1, 0))
    return _svg(figure, description)


@_page_style
def interval_chart(rows, unit, description):
    """One row per network: runs as rings, their mean, its interval as a bar.

    Args:
        rows: Triples `(style, name, interval)`, see `runs.interval`.
        unit: Name of the axis; the chart is in percent.
        description: What there is to see, in words.
    """
    figure = _figure(WIDTH, 48 + 34 * len(rows))
    axes = _axes(figure, top=10, height=34 * len(rows), left=104)
    axes.xaxis.set_major_locator(_round_numbers())
    for number, (style, _, interval) in enumerate(rows):
        color = _COLORS[style]
        runs = 100 * np.array(interval["values"])
        axes.plot(
            runs,
            np.full(len(runs), number + 0.24),
            "o",
            markersize=5,
            markerfacecolor="none",
            markeredgecolor=color,
            markeredgewidth=1.25,
        )
        y = number - 0.09
        if interval["low"] is not None:
            bounds = [100 * interval["low"], 100 * interval["high"]]
            axes.plot(bounds, [y, y], color=color, linewidth=3)
        axes.add_line(_mark(style, 100 * interval["mean"], y, 10))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(
        range(len(rows)),
        [name for _, name, _ in rows],
        color=_COLORS["ink"],
        size=12,
    )
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.set_xlabel(unit)
    return _svg(figure, description)


@_page_style
def class_dots(shares, low, description):
    """The accuracy of every network on one line that goes from `low` to 1.

    Args:
        shares: Pairs `(style, share)`.
        low: The share at the left end.
        description: What there is to see, in words.
    """
    figure = _figure(160, 18)
    places = [(8 + 144 * (s - low) / (1 - low)) / 160 for _, s in shares]
    for ends, color, width in (
        ([0.05, 0.95], "rule", 1),
        ([min(places), max(places)], "quiet", 1.5),
    ):
        line = Line2D(ends, [0.5, 0.5], color=_COLORS[color], linewidth=width)
        figure.add_artist(line)
    # The last is the smallest: marks in one place do not hide each other.
    for (style, _), place, size in zip(shares, places, (13, 12, 8)):
        figure.add_artist(_mark(style, place, 0.5, size))
    return _svg(figure, description, kind="dots")


def _figure(width, height):
    return Figure(figsize=(width / 72, height / 72))


def _axes(figure, top, height, left=46, right=12):
    """Axes at a place in pixels, the same in each chart of a kind."""
    total = 72 * figure.get_figheight()
    return figure.add_axes(
        (
            left / WIDTH,
            1 - (top + height) / total,
            1 - (left + right) / WIDTH,
            height / total,
        )
    )


def _mark(style, x, y, size):
    return Line2D(
        [x],
        [y],
        linestyle="",
        marker=MARKERS[style],
        color=_COLORS[style],
        markersize=size,
    )


def _line_style(dashed):
    return _DASHES if dashed else "solid"


def _round_numbers():
    return ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])


def _svg(figure, description=None, kind="chart"):
    """The drawing as an element of the page.

    Args:
        figure: A matplotlib figure.
        description: What there is to see; `None` for decoration.
        kind: The element's class.
    """
    for part in (figure, *figure.axes):
        part.patch.set_visible(False)
    file = io.StringIO()
    figure.savefig(
        file,
        format="svg",
        metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
    )
    width, height = (round(72 * side) for side in figure.get_size_inches())
    drawing = re.sub(r"^.*?<svg[^>]*>", "", file.getvalue(), flags=re.DOTALL)
    # Marks refer to shapes by identifiers that are unique in a file only.
    shapes = dict(re.findall(r'<path id="(\w+)" d="([^"]*)"', drawing))
    drawing = re.sub(
        r'<use xlink:href="#(\w+)" x="([^"]*)" y="([^"]*)"',
        lambda use: '<path d="{}" transform="translate({} {})"'.format(
            shapes[use[1]], use[2], use[3]
        ),
        drawing,
    )
    drawing = _NOT_IN_A_PAGE.sub("", drawing)
    drawing = re.sub(r"\s+", " ", drawing).replace("> <", "><").strip()
    for name, color in _COLORS.items():
        drawing = drawing.replace(color, f"var(--{name})")
    role = Markup('aria-hidden="true"')
    if description is not None:
        role = Markup('role="img" aria-label="{}"').format(description)
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" class="{kind}" {role}>{drawing}'
    )
