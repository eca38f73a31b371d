"""Charts as SVG: drawn here, coloured by the page's style sheet.

The letters of a chart are text and scale with it, so a chart is drawn at the
width of a phone and a wide page shows several side by side. Lines differ in
colour, in their mark and, training from validation, in their dashes. What a
chart shows stands in its description, for those who do not see it.
"""

import math

from keras_distill.report.html import element
from keras_distill.report.scales import Scale

WIDTH = 320


def legend(entries, dashes=()):
    """The key to line charts.

    Args:
        entries: Pairs `(style, name)`.
        dashes: Pairs `(is dashed, meaning)`.
    """
    marks = [(_sample(style, False), name, style) for style, name in entries]
    marks += [(_sample(None, d), name, "plain") for d, name in dashes]
    items = [
        element("li", sample, element("span", name), class_=style)
        for sample, name, style in marks
    ]
    return element("ul", items, class_="legend")


def line_chart(lines, description, logarithmic=False):
    """Curves by epoch.

    Args:
        lines: Dicts of `style`, `values`, `low`, `high` (by epoch, NaN where
            unknown) and `dashed`.
        description: What there is to see, in words.
        logarithmic: Whether the vertical axis is.
    """
    height, left, right, top, bottom = 200, 46, 12, 8, 36
    finite = [
        v
        for line in lines
        for key in ("values", "low", "high")
        for v in line[key]
        if math.isfinite(v)
    ]
    longest = max(len(line["values"]) for line in lines)
    x = Scale(1, max(longest, 2), left, WIDTH - right, ticks=5, round_out=False)
    y = Scale(min(finite), max(finite), height - bottom, top, logarithmic)
    epochs = sorted({1, *(t for t in x.ticks if t == int(t))})
    parts = [
        *_horizontal_grid(y, left, WIDTH - right),
        *_numbers_below(x, epochs, height - bottom, "{:g}".format),
        _text((left + WIDTH - right) / 2, height - 4, "epoch", "middle"),
    ]
    for line in lines:
        parts.append(_curve(line, x, y))
    return _svg(height, description, parts)


def reliability_diagram(found, style, description, few=10):
    """Accuracy by bin of confidence; below, how many samples there are.

    Args:
        found: A `Reliability` as a dict of lists, `None` for empty bins.
        style: Of the network.
        description: What there is to see, in words.
        few: Bins of fewer samples are paler: their accuracy is a guess.
    """
    left, right, top, side, below = 46, 18, 8, 220, 54
    height = top + side + 16 + below + 36
    x = Scale(0, 1, left, WIDTH - right)
    y = Scale(0, 1, top + side, top)
    percent = "{:.0%}".format
    base = top + side + 16 + below
    share = Scale(0, max(found["counts"]), base, base - below, round_out=False)
    bars = []
    for left_edge, right_edge, count, confidence, accuracy in zip(
        found["edges"],
        found["edges"][1:],
        found["counts"],
        found["confidence"],
        found["accuracy"],
    ):
        if not count:
            continue
        place = {"x": x(left_edge) + 1, "width": x(right_edge) - x(left_edge)}
        place["width"] = round(place["width"] - 2, 2)
        low, high = sorted((accuracy, confidence))
        bars += [
            element(
                "rect",
                **place,
                y=y(accuracy),
                height=round(y(0) - y(accuracy), 2),
                class_="bar few" if count < few else "bar",
            ),
            element(
                "rect",
                **place,
                y=y(high),
                height=round(y(low) - y(high), 2),
                class_="gap",
            ),
            element(
                "rect",
                **place,
                y=share(count),
                height=round(base - share(count), 2),
                class_="bar count",
            ),
        ]
    middle = (left + WIDTH - right) / 2
    parts = [
        *_horizontal_grid(y, left, WIDTH - right, percent),
        element("g", bars, class_=style),
        element("line", x1=x(0), y1=y(0), x2=x(1), y2=y(1), class_="diagonal"),
        element(
            "line", x1=left, y1=base, x2=WIDTH - right, y2=base, class_="axis"
        ),
        _text(left - 6, base - below + 8, f"{max(found['counts']):,}", "end"),
        _text(left - 6, base, "0", "end"),
        *_numbers_below(x, x.ticks, base, percent),
        _text(middle, height - 4, "confidence", "middle"),
    ]
    return _svg(height, description, parts)


def interval_chart(rows, unit, description):
    """Runs as dots, their mean as a mark, its interval as a bar; one row each.

    Args:
        rows: Pairs `(style, name, found)`, `found` from
            `statistics.interval`, in the unit of the axis.
        unit: Name of the axis.
        description: What there is to see, in words.
    """
    left, right, top, step = 116, 16, 10, 34
    base = top + step * len(rows)
    height = base + 38
    shown = [
        v
        for *_, found in rows
        for v in (*found["values"], found["low"], found["high"])
        if v is not None
    ]
    x = Scale(min(shown), max(shown), left, WIDTH - right)
    parts = [
        element("line", x1=x(t), y1=top, x2=x(t), y2=base, class_="grid")
        for t in x.ticks
    ]
    for number, (style, name, found) in enumerate(rows):
        y = top + step * (number + 0.5)
        inside = [
            element("circle", cx=x(v), cy=y + 8, r=2.5, class_="run")
            for v in found["values"]
        ]
        if found["low"] is not None:
            inside.append(
                element(
                    "line",
                    x1=x(found["low"]),
                    x2=x(found["high"]),
                    y1=y - 3,
                    y2=y - 3,
                    class_="line thick",
                )
            )
        inside.append(_mark(style, x(found["mean"]), y - 3, 5))
        parts.append(element("g", inside, class_=style))
        parts.append(_text(left - 10, y + 4, name, "end", "name"))
    parts += _numbers_below(x, x.ticks, base, x.label)
    parts.append(_text((left + WIDTH - right) / 2, height - 4, unit, "middle"))
    return _svg(height, description, parts)


def class_dots(networks, low, description):
    """One row of a table: every network's accuracy on a line from low to 1.

    Args:
        networks: Pairs `(style, share)`.
        low: Share at the left end.
        description: What there is to see, in words.
    """
    width, height = 160, 18
    x = Scale(low, 1, 8, width - 8, round_out=False)
    places = [x(share) for _, share in networks]
    parts = [
        element("line", x1=8, x2=width - 8, y1=9, y2=9, class_="grid"),
        element(
            "line",
            x1=min(places),
            x2=max(places),
            y1=9,
            y2=9,
            class_="between",
        ),
    ]
    # The last is the smallest: marks in one place do not hide each other.
    for size, (style, _), place in zip((6.5, 6, 4), networks, places):
        parts.append(element("g", _mark(style, place, 9, size), class_=style))
    return _svg(height, description, parts, width, "dots")


def _curve(line, x, y):
    """Band, line and the mark at its end."""
    places = [
        (x(epoch), y(value))
        for epoch, value in enumerate(line["values"], 1)
        if math.isfinite(value)
    ]
    band = [
        (x(epoch), y(low), y(high))
        for epoch, (low, high) in enumerate(zip(line["low"], line["high"]), 1)
        if math.isfinite(low)
    ]
    inside = []
    if any(low != high for _, low, high in band):
        outline = [(e, high) for e, _, high in band]
        outline += [(e, low) for e, low, _ in reversed(band)]
        inside.append(
            element("polygon", points=_points(outline), class_="band")
        )
    dashed = " dashed" if line["dashed"] else ""
    inside.append(
        element("polyline", points=_points(places), class_=f"line{dashed}")
    )
    inside.append(_mark(line["style"], *places[-1], 3.5))
    return element("g", inside, class_=line["style"])


def _mark(style, x, y, r):
    """Every style has a shape of its own."""
    if style == "teacher":
        return element(
            "rect", x=x - r + 0.5, y=y - r + 0.5, width=2 * r - 1,
            height=2 * r - 1, class_="mark",
        )  # fmt: skip
    corners = {
        "alone": [(0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        "other-1": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
        "other-2": [(-1.1, -0.8), (1.1, -0.8), (0, 1.2)],
    }.get(style)
    if corners is None:
        return element("circle", cx=x, cy=y, r=r, class_="mark")
    shape = [(x + r * dx, y + r * dy) for dx, dy in corners]
    return element("polygon", points=_points(shape), class_="mark")


def _sample(style, dashed):
    parts = [
        element(
            "line",
            x1=1,
            x2=27,
            y1=7,
            y2=7,
            class_="line dashed" if dashed else "line",
        )
    ]
    if style is not None:
        parts.append(_mark(style, 14, 7, 4.5))
    return element(
        "svg", parts, viewBox="0 0 28 14", width=28, height=14,
        aria_hidden="true",
    )  # fmt: skip


def _horizontal_grid(y, start, stop, label=None):
    for tick in y.ticks:
        yield element(
            "line", x1=start, x2=stop, y1=y(tick), y2=y(tick), class_="grid"
        )
        yield _text(start - 6, y(tick) + 4, (label or y.label)(tick), "end")


def _numbers_below(x, ticks, base, label):
    return [_text(x(t), base + 16, label(t), "middle") for t in ticks]


def _text(x, y, text, anchor, class_=None):
    return element(
        "text", text, x=round(x, 1), y=round(y, 1), text_anchor=anchor,
        class_=class_,
    )  # fmt: skip


def _points(places):
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _svg(height, description, parts, width=WIDTH, class_="chart"):
    return element(
        "svg",
        parts,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=description,
        class_=class_,
        width=width,
        height=height,
    )
