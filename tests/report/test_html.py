"""Markup: what is escaped, and the numbers as they are printed."""

import pytest

from keras_distill.report.html import Markup
from keras_distill.report.html import count
from keras_distill.report.html import element
from keras_distill.report.html import percent
from keras_distill.report.html import plus_minus
from keras_distill.report.html import size
from keras_distill.report.html import table


def test_texts_and_attributes_are_escaped():
    made = element("p", "<b>&", title='"<', class_="a", hidden=None)
    assert made == '<p title="&quot;&lt;" class="a">&lt;b&gt;&amp;</p>'
    assert isinstance(made, Markup)


def test_markup_is_not_escaped_again():
    inner = element("b", "a < b")
    assert element("p", [inner, " & ", None, 3]) == (
        "<p><b>a &lt; b</b> &amp; 3</p>"
    )


def test_void_elements():
    assert element("img", src="x") == '<img src="x"/>'


def test_a_table_names_its_columns_and_rows():
    made = table(["class", "right"], [["<cat>", "90 %"]], "By class")
    assert '<th scope="col">class</th>' in made
    assert '<th scope="col" class="number">right</th>' in made
    assert '<th scope="row">&lt;cat&gt;</th>' in made
    assert '<td class="number">90 %</td>' in made
    assert "<figcaption>By class</figcaption>" in made
    assert '<table aria-label="By class">' in made


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (percent(0.96439), "96.4\u00a0%"),
        (percent(0.96439, 2), "96.44\u00a0%"),
        (percent(None), "–"),
        (count(56778), "56,778"),
        (size(10034), "9.8\u00a0KiB"),
        (size(3 * 1024**2), "3.0\u00a0MiB"),
        (
            plus_minus({"mean": 0.956, "half_width": 0.011}),
            "95.6\u00a0±\u00a01.1",
        ),
        (plus_minus({"mean": 0.5, "half_width": None}, sign="+"), "+50.0"),
    ],
)
def test_numbers(made, expected):
    assert made == expected
