"""Charts: what is drawn, where, and that it belongs into a page."""

import re

import matplotlib
import numpy as np
import pytest

from keras_distill.calibration import reliability
from keras_distill.report import charts
from keras_distill.report.provenance import to_json
from keras_distill.report.runs import interval


def line(values, **options):
    values = np.asarray(values, float)
    return {
        "style": "student",
        "dashed": False,
        "values": values,
        "low": values,
        "high": values,
        **options,
    }


def intervals(values):
    return charts.interval_chart(
        [("student", "student", interval(values))], "unit", "runs"
    )


def points(path):
    return [
        tuple(map(float, pair))
        for pair in re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", path)
    ]


def bars(made, style):
    """Heights of the rectangles with something in their style."""
    paths = re.findall(r'<path d="([^"]*)" style="([^"]*)"', made)
    heights = []
    for path, its_style in paths:
        if style in its_style:
            y = [y for _, y in points(path)]
            heights.append(max(y) - min(y))
    return heights


def labels(made):
    """The numbers beside the axes."""
    texts = re.findall(r">([^<>]+)</text>", made)
    return [float(t.replace("−", "-")) for t in texts if t[0] in "0123456789−"]


BINS = to_json(
    reliability([0.9] * 12 + [0.3], [True] * 12 + [False], bins=2)._asdict()
)
EVERY_KIND = {
    "line": lambda: charts.line_chart([line([1.0, 2.0])], 'a <"> b'),
    "band": lambda: charts.line_chart(
        [line([1.0, 2.0], low=np.array([0.5, 1.0]), dashed=True)], "band"
    ),
    "reliability": lambda: charts.reliability_diagram(BINS, "alone", "bins"),
    "interval": lambda: intervals([0.1, 0.2]),
    "dots": lambda: charts.class_dots([("alone", 0.9)], 0.5, "dots"),
    "mark": lambda: charts.legend_mark("teacher", dashed=True),
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_chart_belongs_into_any_page(kind):
    made = EVERY_KIND[kind]()
    assert made.startswith("<svg ") and made.endswith("</svg>")
    # Nothing that comes from elsewhere or changes the rest of the page.
    for foreign in "http <style <! <? url( font-family id= href".split():
        assert foreign not in made
    # Colours are those of the style sheet, in the light and in the dark.
    assert "var(--" in made
    assert not re.search(r"(fill|stroke): (#|rgb)", made)
    assert EVERY_KIND[kind]() == made


def test_the_description_is_escaped():
    made = EVERY_KIND["line"]()
    assert 'role="img" aria-label="a &lt;&#34;&gt; b"' in made


def test_settings_of_matplotlib_neither_matter_nor_change():
    expected = EVERY_KIND["line"]()
    settings = {"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}
    with matplotlib.rc_context(settings):
        before = dict(matplotlib.rcParams)
        assert EVERY_KIND["line"]() == expected
        assert dict(matplotlib.rcParams) == before


def test_a_line_goes_where_its_values_are():
    made = charts.line_chart([line([0.0, 1.0])], "rises")
    (path,) = re.findall(
        r'd="([^"]*)" style="fill: none; stroke: var\(--student\)', made
    )
    (x0, y0), (x1, y1) = points(path)
    assert x0 < x1 and y0 > y1  # down is larger


def test_validation_is_dashed():
    assert "dasharray" in charts.line_chart([line([1, 2], dashed=True)], "")
    assert "dasharray" not in charts.line_chart([line([1, 2])], "")


def test_a_band_is_drawn_if_runs_differ():
    assert "fill-opacity: 0.16" in EVERY_KIND["band"]()
    assert "fill-opacity" not in EVERY_KIND["line"]()


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-3])
def test_a_single_value_has_an_axis_too(value):
    numbers = labels(charts.line_chart([line([value])], ""))
    assert len(set(numbers)) > 2 and min(numbers) <= value <= max(numbers)


@pytest.mark.parametrize(
    ("low", "high"), [(0.2, 6.0), (1.0, 25.0), (0.01, 1.0), (1e-8, 1e8)]
)
def test_logarithmic_axes_have_numbers(low, high):
    made = charts.line_chart([line([low, high])], "", logarithmic=True)
    numbers = labels(made)[2:]  # after those of two epochs
    assert 2 <= len(numbers) <= 8
    assert all(low <= number <= high for number in numbers)
    # Equal factors are equally far.
    heights = [float(y) for y in re.findall(r'end;[^>]* y="([\d.]+)"', made)]
    slopes = np.diff(heights) / np.diff(np.log(numbers))
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-2)


def test_reliability_bars():
    made = charts.reliability_diagram(BINS, "student", "")
    assert bars(made, "opacity: 0.3") == [0.0]  # one sample: pale
    assert bars(made, "opacity: 0.75") == [pytest.approx(220.0, abs=0.02)]
    gaps = bars(made, "stroke: var(--ink)")
    # 0.3 and 0.1 of 220.
    assert gaps == [pytest.approx(66, abs=0.02), pytest.approx(22, abs=0.02)]
    counts = bars(made, "opacity: 0.45")
    assert counts[0] / counts[1] == pytest.approx(1 / 12, rel=1e-2)
    assert ">12<" in made


@pytest.mark.slow
def test_intervals_and_runs():
    made = intervals([0.01, 0.02, 0.03])
    assert made.count("fill-opacity: 0;") == 3  # rings
    assert made.count("stroke-width: 3") == 1
    assert "stroke-width: 3" not in intervals([0.01])


def test_networks_differ_in_shape_and_not_in_colour_alone():
    shapes = {
        re.search(r'd="([^"]*)" transform', charts.legend_mark(style))[1]
        for style in charts.MARKERS
    }
    assert len(shapes) == len(charts.MARKERS)
