"""Charts: what is drawn, and where."""

import re

import numpy as np

from keras_distill.calibration import reliability
from keras_distill.report import charts
from keras_distill.report.provenance import plain
from keras_distill.report.statistics import interval


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


def test_a_line_goes_where_its_values_are():
    made = charts.line_chart([line([0.0, 1.0])], "rises")
    (points,) = re.findall(r'polyline points="([^"]*)"', made)
    (x0, y0), (x1, y1) = [map(float, p.split(",")) for p in points.split()]
    assert x0 < x1 and y0 > y1  # down is larger
    assert 'aria-label="rises"' in made


def test_validation_is_dashed():
    made = charts.line_chart([line([1.0, 2.0], dashed=True)], "")
    assert 'class="line dashed"' in made


def test_reliability_bars():
    found = plain(
        reliability([0.9] * 12 + [0.3], [True] * 12 + [False], bins=2)._asdict()
    )
    made = charts.reliability_diagram(found, "student", "")
    bars = re.findall(
        r'y="([\d.]+)" height="([\d.]+)" class="(bar[^"]*)"', made
    )
    heights = {name: float(height) for _, height, name in bars[::2]}
    assert heights == {"bar few": 0.0, "bar": 220.0}
    assert len(re.findall('class="gap"', made)) == 2
    gaps = re.findall(r'height="([\d.]+)" class="gap"', made)
    assert [float(g) for g in gaps] == [66.0, 22.0]  # 0.3 and 0.1 of 220
    assert ">12<" in made


def test_intervals_and_runs():
    made = charts.interval_chart(
        [("student", "student", interval([1.0, 2.0, 3.0]))], "unit", "three"
    )
    assert made.count('class="run"') == 3
    assert made.count("line thick") == 1
    one = charts.interval_chart(
        [("student", "student", interval([1.0]))], "unit", "one"
    )
    assert "line thick" not in one


def test_networks_differ_in_shape_and_not_in_colour_alone():
    styles = ("teacher", "alone", "student", "other-1", "other-2")
    shapes = {
        re.sub(r' class="[a-z0-9-]+"', "", str(charts.legend([(style, "")])))
        for style in styles
    }
    assert len(shapes) == len(styles)
