"""Photographs on disk, decoded once into one array."""

import collections
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_size
from keras_distill._arguments import checked_strings
from keras_distill._arguments import one_of
from keras_distill.datasets import image_listing
from keras_distill.datasets import image_store
from keras_distill.datasets import image_tfds
from keras_distill.datasets.glyph_images import cache_directory

_DRAWINGS = pathlib.Path("/usr/share/openclipart/png")


class Images(NamedTuple):
    """What `read_images` returns.

    Attributes:
        x: Pixels, uint8 `(n, height, width, channels)`. Read-only on disk if
            a directory was given.
        y: Class numbers, int32 `(n,)`, or `None` without labels.
        class_names: The names of the classes, class 0 first, or `None`.
        files: The file of each image.
        skipped: Pairs of a file that was not read and why.
    """

    x: np.ndarray
    y: np.ndarray | None
    class_names: list[str] | None
    files: list[str]
    skipped: list[tuple[str, str]]


def read_images(
    source: str | os.PathLike,
    image_size: int | Sequence[int],
    *,
    channels: int | None = None,
    class_names: Sequence[str] | None = None,
    labels: str | None = "inferred",
    crop_to_aspect_ratio: bool = False,
    directory: str | os.PathLike | None = None,
    verbose: bool = True,
) -> Images:
    """Reads photographs and their labels into one array.

    `source` is one of

    - a folder with a folder per class, as `image_dataset_from_directory` of
      Keras takes it; images in deeper folders count, links are followed;
    - a folder of images without classes;
    - a `.csv` file of `path,label` or of paths, with or without a header;
      paths start at its folder. Labels that are whole numbers are ordered by
      their value;
    - a name of tensorflow-datasets, `"name"` for its training part or
      `"name:split"`.

    Broken and empty files are skipped, and so are files that are no image by
    their name; they are counted on the screen and listed in `skipped`. Hidden
    files are ignored. A photograph is turned as its EXIF entry says.
    Transparent pixels become white. 16 bits become 8 by division by 257, CMYK
    becomes RGB by Pillow's formula without a colour profile, and an animation
    is its first frame.

    Pillow resizes, bilinear with antialiasing. By default the image is
    stretched to the size, as Keras does; Keras does not antialias, so that the
    pixels of large photographs differ.

    Args:
        source: The folder, CSV file or name.
        image_size: The size in pixels, or (height, width).
        channels: 1 for grey, 3 for colour. Defaults to `None`: 1 if every
            image is grey, else 3.
        class_names: The names of the classes, class 0 first, such as the
            teacher's. Classes without images may be among them. Defaults to
            `None`: the names in the data, sorted.
        labels: `"inferred"`, or `None` to read a folder with all its
            subfolders, or a CSV file, without labels. Defaults to
            `"inferred"`. As in Keras.
        crop_to_aspect_ratio: Whether to cut the largest middle part of the
            size's aspect ratio out of the image, rather than to stretch it.
            Defaults to `False`. As in Keras.
        directory: A folder to keep the pixels in: `x` is then a read-only
            memory map, which need not fit memory, and the next call with the
            same files and settings reads nothing. Defaults to `None`: an array
            in memory.
        verbose: Whether to show progress and what was skipped. Defaults to
            `True`.

    Returns:
        `Images`: `x`, `y`, `class_names`, `files`, `skipped`.

    Raises:
        ValueError: If there is no image, one class only, or a class that is
            not among `class_names`; the message proposes which one is meant.
        OSError: If the disk is too small; the message says how many bytes are
            needed.

    Example:

    ```python
    for name in ("cat", "dog"):
        for index in range(3):
            image = np.random.default_rng(index).integers(0, 255, (9, 9, 3))
            keras.utils.save_img(f"{name}_{index}.png", image)
    with open("pets.csv", "w") as file:
        file.writelines(f"{n}_{i}.png,{n}\\n" for n in ("cat", "dog")
                        for i in range(3))
    images = kd.datasets.read_images("pets.csv", 8)
    print(images.class_names, images.x.shape)  # ['cat', 'dog'] (6, 8, 8, 3)
    ```
    """
    size = checked_size("`image_size`", image_size)
    one_of("`channels`", channels, (None, 1, 3))
    class_names = checked_strings("`class_names`", class_names, or_none=True)
    if class_names and len(set(class_names)) < max(2, len(class_names)):
        raise ValueError(
            "`class_names` must be 2 or more names, each once. Received: "
            f"{class_names}"
        )
    one_of("`labels`", labels, ("inferred", None))
    checked_boolean("`crop_to_aspect_ratio`", crop_to_aspect_ratio)
    checked_boolean("`verbose`", verbose)
    if directory is not None:
        directory = as_path("`directory`", directory)
    found = _listed(source, labels is not None, class_names)
    if not found.files:
        raise ValueError(
            f"There is no image in `source`, {os.fspath(source)!r}. Formats: "
            f"{', '.join(image_listing.FORMATS)}. {_summary(found.skipped)}"
        )
    if class_names and found.labels is None:
        raise image_listing.NoLabels(
            f"`class_names` needs labels, and `source`, {os.fspath(source)!r}, "
            "has none."
        )
    settings = image_store.Settings(size, channels, crop_to_aspect_ratio)
    if directory is None:
        stored = image_store.read(found, settings, None, verbose)
    else:
        name = [os.path.abspath(source), labels, class_names]
        stored = image_store.kept(found, settings, directory, name, verbose)
    images = Images(**stored)
    if not images.files:
        raise ValueError(
            f"No image in `source`, {os.fspath(source)!r}, could be read. "
            + _summary(images.skipped)
        )
    if verbose and images.skipped:
        print(f"{len(images.files)} images. {_summary(images.skipped)}")
    return images


def drawings(
    image_size: int | Sequence[int] = 64,
    *,
    channels: int | None = 3,
    directory: str | os.PathLike | None = None,
    verbose: bool = True,
) -> Images:
    """Reads the 8000 drawings of Debian's `openclipart-png`, unlabelled.

    They are in the public domain: animals, people, tools, plants, signs and
    much more, on white. The first call takes minutes, and the next ones read
    what it kept.

    Args:
        image_size: The size in pixels, or (height, width). The drawing is
            cropped to this aspect ratio. Defaults to 64.
        channels: 1 for grey, 3 for colour. Defaults to 3.
        directory: The folder to keep the pixels in. Defaults to
            `$XDG_CACHE_HOME/keras_distill`, or `~/.cache/keras_distill`.
        verbose: Whether to show progress. Defaults to `True`.

    Returns:
        `Images` without labels; `x` is a read-only memory map.

    Raises:
        FileNotFoundError: If the package is not installed; the message holds
            the `apt-get` line.
    """
    checked_size("`image_size`", image_size)
    one_of("`channels`", channels, (None, 1, 3))
    checked_boolean("`verbose`", verbose)
    directory = cache_directory("`directory`", directory)
    if not _DRAWINGS.is_dir():
        raise FileNotFoundError(
            f"The drawings are not in '{_DRAWINGS}'. Install them with: "
            "apt-get install openclipart-png (131 MB)"
        )
    return read_images(
        _DRAWINGS,
        image_size,
        channels=channels,
        labels=None,
        crop_to_aspect_ratio=True,
        directory=directory,
        verbose=verbose,
    )


def _listed(source, labelled, class_names):
    """Lists what there is, whatever kind of source it is."""
    path = os.path.abspath(as_path("`source`", source))
    if os.path.isdir(path):
        return image_listing.list_folder(path, labelled, class_names)
    if os.path.isfile(path):
        if path.lower().endswith(".csv"):
            return image_listing.list_csv(path, labelled, class_names)
        raise ValueError(
            f"`source` must be a folder, a .csv file or a name of "
            f"tensorflow-datasets. Received the file: {path!r}"
        )
    return image_tfds.list_tfds(os.fspath(source), labelled, class_names)


def _summary(skipped):
    """How many files were passed over, why, and an example of each."""
    if not skipped:
        return ""
    reasons = collections.defaultdict(list)
    for file, reason in skipped:
        reasons[reason].append(file)
    common = sorted(reasons.items(), key=lambda item: -len(item[1]))
    texts = [
        f"{len(files)} {reason}, such as {os.path.basename(files[0])!r}"
        for reason, files in common[:5]
    ]
    more = f"; {len(common) - 5} other reasons" if len(common) > 5 else ""
    return f"{len(skipped)} skipped: {'; '.join(texts)}{more}."
