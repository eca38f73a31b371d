"""Labelled glyphs, rendered from the fonts that are installed."""

import hashlib
import io
import json
import os
import pathlib

import numpy as np

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_seed
from keras_distill._files import write_whole
from keras_distill._progress import ProgressBar
from keras_distill.datasets import glyph_fonts
from keras_distill.datasets.loaders import Split

# Part of a cached file's name: raise it when the images change.
_VERSION = 1


def glyphs(
    classes: int | str = 62,
    samples: int = 20_000,
    *,
    test_samples: int = 10_000,
    size: int = 32,
    test_fonts: float = 0.2,
    seed: int = 0,
    font_directory: str | os.PathLike = "/usr/share/fonts",
    directory: str | os.PathLike | None = None,
    verbose: bool = True,
) -> Split:
    """Renders labelled characters in Debian's free fonts: no download.

    Each image is one character, turned, sheared, scaled, shifted and
    sometimes bold, in a random contrast on a background with a gradient and
    noise. Whole font packages are in either the training or the test part: a
    network must read fonts that it never saw. The classes are balanced. Within
    a class each package is equally likely, then each of its fonts.

    The fonts come from up to 82 packages of Debian main. The tables `LATIN`
    and `JAPANESE` in `keras_distill/datasets/glyph_fonts.py` name them with
    their licences: mostly OFL-1.1, and GPL-2+ with the font exception (FE),
    Apache-2.0, public domain and a few more. What is installed is used, so
    two machines get the same images only if the same fonts, Pillow and
    FreeType are there. More fonts make a better data set.

    The images are kept on disk, and the next call with the same arguments
    reads them.

    Args:
        classes: The number of classes, or a string of the characters
            themselves, class 0 first. A number takes the first ones of:
            digits, capitals, small letters (62), then Greek and Cyrillic
            letters that look like no Latin one, accented letters (167), and
            kanji (3132), which need the Japanese packages. Defaults to 62.
        samples: The number of training images. Defaults to 20000.
        test_samples: The number of test images. Defaults to 10000.
        size: The height and width in pixels, at least 8. Defaults to 32.
        test_fonts: The share of the packages that is in the test part, in
            (0, 1). Defaults to 0.2.
        seed: Decides the packages of the test part and every random number.
            Defaults to 0.
        font_directory: The folder of the system's fonts. Defaults to
            `"/usr/share/fonts"`.
        directory: Where the images are kept. Defaults to
            `$XDG_CACHE_HOME/keras_distill`, or `~/.cache/keras_distill`.
        verbose: Whether to show progress. Defaults to `True`.

    Returns:
        A `Split` with images of shape `(n, size, size, 1)`.

    Raises:
        FileNotFoundError: If none of the packages is installed; the message
            holds the `apt-get` line.
        ValueError: If fewer than two of the installed packages draw one of
            the classes, or an argument is wrong.

    Example:

    ```python
    data = kd.datasets.glyphs("0123456789", 200, test_samples=100)
    print(data.x_train.shape)  # (200, 32, 32, 1)
    ```
    """
    names = _checked_classes(classes)
    checked_integer("`samples`", samples, least=len(names))
    checked_integer("`test_samples`", test_samples, least=len(names))
    checked_integer("`size`", size, least=8, most=512)
    checked_number("`test_fonts`", test_fonts, "(0, 1)")
    checked_seed(seed, "`seed`")
    checked_boolean("`verbose`", verbose)
    font_directory = as_path("`font_directory`", font_directory)
    directory = cache_directory("`directory`", directory)
    tables = [
        glyph_fonts.installed(font_directory, table)
        for table in (glyph_fonts.LATIN, glyph_fonts.JAPANESE)
    ]
    if not any(tables):
        raise FileNotFoundError(
            f"None of the font packages is in '{font_directory}'. Install "
            f"them with: apt-get install {_missing(tables[:1])}"
        )
    settings = (names, samples, test_samples, size, test_fonts, seed)
    file = directory / f"glyphs-{_key(settings, tables)}.npz"
    if not file.is_file():
        parts = _fonts_of_parts(tables, names, test_fonts, seed)
        progress = ProgressBar(samples + test_samples, "image", verbose)
        arrays = []
        for part, count in enumerate((samples, test_samples)):
            arrays += _render(
                parts[part],
                len(names),
                names,
                count,
                size,
                np.random.default_rng([seed, part]),
                progress,
            )
        content = io.BytesIO()
        np.savez(content, *arrays)
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(file, content.getvalue())
    with np.load(file) as stored:
        x_train, y_train, x_test, y_test = stored.values()
    return Split(_unit(x_train), y_train, _unit(x_test), y_test)


def cache_directory(argument, directory) -> pathlib.Path:
    """Checks the folder of kept files; `None` is that of XDG."""
    if directory is not None:
        return as_path(argument, directory)
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home, "keras_distill")


def _checked_classes(classes):
    if isinstance(classes, str):
        if len(classes) < 2 or len(set(classes)) < len(classes):
            raise ValueError(
                "`classes` must be a number of classes, or a string of at "
                f"least 2 characters, each once. Received: {classes!r}"
            )
        return classes
    every = glyph_fonts.characters()
    hint = "or a string of characters"
    checked_integer("`classes`", classes, 2, len(every), hint=hint)
    return every[:classes]


def _key(settings, tables):
    """What the images are a function of, as a text for a file's name."""
    import PIL
    from PIL import features

    versions = (_VERSION, PIL.__version__, features.version("freetype2"))
    files = [
        (str(file), file.stat().st_size)
        for table in tables
        for of_package in table.values()
        for file in of_package
    ]
    text = json.dumps([settings, versions, files])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fonts_of_parts(tables, names, share, seed):
    """Returns, for training and test, package -> [(file, `Drawn`)]."""
    tables = [
        {
            package: fonts
            for package, files in table.items()
            if (fonts := _with_coverage(files, names))
        }
        for table in tables
    ]
    for attempt in range(100):
        rng = np.random.default_rng([seed, 2, attempt])
        parts = {}, {}
        for table in tables:
            packages = rng.permutation(sorted(table))
            count = max(1, round(share * len(packages)))
            # One of them is for training.
            count = min(count, max(1, len(packages) - 1))
            for position, package in enumerate(packages):
                parts[position < count][package] = table[package]
        counts = [_packages_per_class(part, len(names)) for part in parts]
        if np.min(counts) >= 1:
            return parts
    few = [n for n, count in zip(names, np.sum(counts, 0)) if count < 2]
    few = few or [n for n, c in zip(names, np.min(counts, 0)) if not c]
    missing = _missing(tables)
    raise ValueError(
        "Each of the `classes` must be drawn by 2 font packages or more, one "
        "of them for the test part. Too few of those installed draw "
        f"{''.join(few)[:50]!r}. "
        + (
            f"Install more: apt-get install {missing}"
            if missing
            else "All packages are installed: leave these characters out."
        )
    )


def _with_coverage(files, names):
    pairs = ((file, glyph_fonts.drawn(file, names)) for file in files)
    return [(file, drawn) for file, drawn in pairs if drawn]


def _packages_per_class(part, classes):
    counts = np.zeros(classes, int)
    for fonts in part.values():
        counts[np.unique(np.concatenate([d.classes for _, d in fonts]))] += 1
    return counts


def _missing(tables):
    """The packages of the lists that are not installed, for `apt-get`."""
    lists = (glyph_fonts.LATIN, glyph_fonts.JAPANESE)
    return " ".join(
        package.name
        for listed, table in zip(lists, tables)
        for package in listed
        if package.name not in table
    )


def _render(part, classes, names, count, size, rng, progress):
    """Returns images, uint8, and labels."""
    labels = rng.permutation(np.arange(count) % classes).astype("int32")
    fonts = [font for fonts in part.values() for font in fonts]
    chosen = _chosen_fonts(part, labels, rng)
    draws = rng.uniform(-1, 1, (count, 12)).astype("float32")
    images = np.empty((count, size, size, 1), "uint8")
    done = progress.current
    for index in np.unique(chosen):
        rows = np.flatnonzero(chosen == index)
        _render_font(*fonts[index], names, labels, draws, images, rows)
        done += len(rows)
        progress.update(done)
    return images, labels


def _chosen_fonts(part, labels, rng):
    """A font for each sample: a package that draws its class, then a font."""
    start, by_class = 0, {}
    for fonts in part.values():
        for label in set().union(*(d.classes.tolist() for _, d in fonts)):
            drawing = [
                start + index
                for index, (_, drawn) in enumerate(fonts)
                if label in drawn.classes
            ]
            by_class.setdefault(label, []).append(drawing)
        start += len(fonts)
    chosen = np.empty(len(labels), int)
    for sample, label in enumerate(labels.tolist()):
        packages = by_class[label]
        package = packages[rng.integers(len(packages))]
        chosen[sample] = package[rng.integers(len(package))]
    return chosen


def _render_font(file, drawn, names, labels, draws, images, rows):
    """Draws some samples of one font into `images`."""
    from PIL import ImageFont

    side = 2 * images.shape[1]
    # Most of what the font draws is 0.55 of the image high, and in its middle.
    height = max(drawn.top - drawn.bottom, 0.3)
    em = max(1, round(0.55 * side / height))
    baseline = side / 2 + em * (drawn.top + drawn.bottom) / 2
    font = ImageFont.truetype(
        str(file), em, layout_engine=ImageFont.Layout.BASIC
    )
    for row in rows.tolist():
        ink = _ink(font, names[labels[row]], side, baseline, draws[row])
        images[row, :, :, 0] = _on_background(ink, draws[row])


def _ink(font, character, side, baseline, draw):
    """The turned, sheared, scaled, shifted character; float32 in [0, 1]."""
    from PIL import Image
    from PIL import ImageDraw

    angle, shear, scale, aspect, right, down, bold = draw[:7].tolist()
    stroke = round(side / 64) if bold > 0.4 else 0
    canvas = Image.new("L", (side, side))
    # The mask is drawn around its own middle: wide glyphs are not cut off.
    left, top, end, bottom = font.getbbox(character, anchor="ls")
    ImageDraw.Draw(canvas).text(
        (side / 2 - (left + end) / 2, baseline),
        character,
        255,
        font,
        anchor="ls",
        stroke_width=stroke,
    )
    width = max(end - left, bottom - top) * 1.1 / side
    fitting = min(1, 1 / width) if width else 1
    angle, shear = angle * np.pi / 12, shear * 0.2
    scale, aspect = 1.2**scale * fitting, 1.15**aspect
    turned = np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    forward = turned @ [[aspect, shear], [0, 1 / aspect]] * scale
    back = np.linalg.inv(forward)
    middle = np.array([side / 2, side / 2])
    shift = np.array([right, down]) * 0.08 * side
    offset = middle - back @ (middle + shift)
    turned = canvas.transform(
        canvas.size,
        Image.Transform.AFFINE,
        [*back[0], offset[0], *back[1], offset[1]],
        Image.Resampling.BILINEAR,
    )
    return np.asarray(turned.reduce(2), "float32") / 255


def _on_background(ink, draw):
    """Contrast, a gradient and noise; uint8."""
    contrast, level, tilt, direction, noise = draw[7:12].tolist()
    contrast = 0.25 + 0.375 * (1 + contrast)
    level = (1 + level) / 2 * (1 - contrast)
    side = len(ink)
    ramp = np.linspace(-0.5, 0.5, side, dtype="float32")
    gradient = np.cos(np.pi * direction) * ramp[:, None]
    gradient = gradient + np.sin(np.pi * direction) * ramp
    # A seed of its own: an image does not depend on those drawn before it.
    rng = np.random.default_rng(draw.view("uint32"))
    noise = 0.06 * (1 + noise) * rng.standard_normal((side, side), "float32")
    image = level + contrast * ink + 0.2 * tilt * gradient + noise
    return np.round(np.clip(image, 0, 1) * 255).astype("uint8")


def _unit(images):
    return images.astype("float32") / 255
