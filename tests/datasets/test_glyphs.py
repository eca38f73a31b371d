"""Rendered characters: what the fonts draw, the split, the kept file."""

import pathlib

import numpy as np
import pytest

from keras_distill import datasets
from keras_distill.datasets import glyph_fonts
from keras_distill.datasets import glyph_images

FONTS = pathlib.Path("/usr/share/fonts")
INSTALLED = glyph_fonts.installed(FONTS, glyph_fonts.LATIN)
needs_fonts = pytest.mark.skipif(
    len(INSTALLED) < 4, reason="too few fonts-* packages are installed"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "keras_distill"


@pytest.fixture
def few_fonts(monkeypatch):
    """Four packages and one font of each: fast."""
    few = {name: files[:1] for name, files in list(INSTALLED.items())[:4]}
    monkeypatch.setattr(
        glyph_fonts,
        "installed",
        lambda folder, table: few if table is glyph_fonts.LATIN else {},
    )
    return few


def few_glyphs(classes="0Ag", samples=12, **options):
    options = {"test_samples": 6, "verbose": False, **options}
    return datasets.glyphs(classes, samples, **options)


def test_the_order_of_the_characters():
    every = glyph_fonts.characters()
    assert len(every) == len(set(every)) == 3132
    assert every[:3] + every[10:12] + every[36:38] == "012ABab"
    assert every[167] == "亜" and every[-1] == "腕"


def test_every_package_names_its_licence():
    rows = glyph_fonts.LATIN + glyph_fonts.JAPANESE
    assert len({row.name for row in rows}) == len(rows) == 82
    assert all(row.licence and row.files for row in rows)


@needs_fonts
def test_shapes_balance_and_seed(few_fonts):
    data = few_glyphs(size=16)
    assert data.x_train.shape == (12, 16, 16, 1)
    assert data.x_train.dtype == "float32" and data.y_train.dtype == "int32"
    assert 0 <= data.x_train.min() < 0.5 < data.x_train.max() <= 1
    assert np.bincount(data.y_train).tolist() == [4, 4, 4]
    assert np.bincount(data.y_test).tolist() == [2, 2, 2]
    other = few_glyphs(size=16, seed=1)
    assert not np.array_equal(data.x_train, other.x_train)


@needs_fonts
def test_the_second_call_reads_the_first_ones_file(
    few_fonts, cache, monkeypatch
):
    first = few_glyphs()
    (file,) = cache.iterdir()
    rendered = file.read_bytes()
    file.unlink()
    few_glyphs()
    assert file.read_bytes() == rendered
    monkeypatch.delattr(glyph_images, "_render")
    for one, other in zip(first, few_glyphs()):
        np.testing.assert_array_equal(one, other)


@needs_fonts
def test_no_package_is_in_both_parts(few_fonts):
    for seed in range(5):
        train, test = glyph_images._fonts_of_parts(
            [few_fonts, {}], "01", 0.25, seed
        )
        assert len(train) == 3 and len(test) == 1
        assert set(train) | set(test) == set(few_fonts)
        assert not set(train) & set(test)


@needs_fonts
def test_what_a_font_does_not_have_is_not_drawn():
    """Neither an empty box for it, nor a blank, nor another's glyph."""
    (file, *_) = next(iter(INSTALLED.values()))
    drawn = glyph_fonts.drawn(file, "A\U0001f600 B\u0e01")
    assert drawn.classes.tolist() == [0, 3]
    assert 0.5 < drawn.top < 1.2 and -0.3 < drawn.bottom < 0.1
    assert glyph_fonts.drawn(file, "\u0e01") is None


@needs_fonts
def test_a_capital_in_the_place_of_a_small_letter(monkeypatch):
    from matplotlib import ft2font
    from PIL import ImageFont

    class Capitals(ImageFont.FreeTypeFont):
        def getmask(self, text, *arguments, **options):
            return super().getmask(text.upper(), *arguments, **options)

    monkeypatch.setattr(ImageFont, "FreeTypeFont", Capitals)
    (file, *_) = next(iter(INSTALLED.values()))
    assert ft2font.FT2Font(str(file)).get_charmap()[ord("a")]
    assert glyph_fonts.drawn(file, "ABab").classes.tolist() == [0, 1]


@needs_fonts
def test_classes_that_too_few_fonts_draw(few_fonts):
    with pytest.raises(ValueError, match="draw '亜'.*apt-get install fonts-"):
        few_glyphs("A亜")


def test_no_fonts(tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get install fonts-3270"):
        few_glyphs(font_directory=tmp_path)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"classes": "A"}, "`classes` must be a number of classes, or"),
        ({"classes": "AA"}, "each once"),
        ({"classes": 5000}, "from 2 to 3132"),
        ({"samples": 2}, "`samples` must be an integer of at least 3"),
        ({"size": 7}, "`size` must be an integer from 8 to 512"),
        ({"test_fonts": 1.0}, "`test_fonts`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        few_glyphs(**arguments)
