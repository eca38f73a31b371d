"""Which image files there are, and of which class each is."""

import csv
import difflib
import os
from typing import Any
from typing import NamedTuple

import numpy as np

FORMATS = (
    ".avif .bmp .gif .jfif .jpeg .jpg .png .pgm .ppm .tif .tiff .webp"
).split()
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


class NoLabels(ValueError):
    """There are no labels, and they are needed."""


class OneClass(ValueError):
    """There is one class only."""


class UnknownClasses(ValueError):
    """Classes that are not among `class_names`.

    Attributes:
        proposal: Which is meant, for messages.
    """

    def __init__(self, message, proposal):
        super().__init__(message)
        self.proposal = proposal


class Listing(NamedTuple):
    """Files in their order, labels or `None`, and what was passed over.

    `tfds` is where the images are if they are not files.
    """

    files: list
    labels: np.ndarray | None
    class_names: list | None
    skipped: list
    tfds: Any = None


def list_folder(folder: str, labelled: bool, class_names: list | None):
    """Lists a folder: one subfolder per class, or all images without labels.

    A folder whose subfolders hold no image is one without classes.
    """
    skipped: list = []
    if not labelled:
        files = sorted(_walk(folder, skipped, set()))
        return Listing(files, None, None, skipped)
    top, subfolders = _scan(folder, skipped)
    by_class = {}
    for name in sorted(subfolders):
        path = os.path.join(folder, name)
        files = sorted(_walk(path, skipped, set()))
        if files:
            by_class[name] = files
        else:
            skipped.append((path, "a folder without images"))
    top = sorted(top)
    if not by_class:
        return Listing(top, None, None, skipped)
    skipped.extend((file, "beside the folders of the classes") for file in top)
    if len(by_class) > 1 and {name.lower() for name in by_class} <= _SPLITS:
        raise ValueError(
            f"The folders of `source` are splits of a data set: "
            f"{', '.join(map(repr, by_class))}. Pass one of them, such as "
            f"{os.path.join(folder, next(iter(by_class)))!r}."
        )
    names = ordered_classes(list(by_class), class_names)
    place = {name: index for index, name in enumerate(names)}
    files = [file for found in by_class.values() for file in found]
    labels = np.repeat(
        [place[name] for name in by_class],
        [len(found) for found in by_class.values()],
    )
    return Listing(files, labels.astype("int32"), names, skipped)


def list_csv(file: str, labelled: bool, class_names: list | None):
    """Lists a CSV of path,label; relative paths start at its folder."""
    folder = os.path.dirname(file)
    with open(file, newline="", encoding="utf-8-sig") as stream:
        rows = [row for row in csv.reader(stream) if any(map(str.strip, row))]
    if rows and _is_header(folder, rows[0]):
        rows = rows[1:]
    skipped, files, labels = [], [], []
    for row in rows:
        path = os.path.join(folder, row[0].strip())
        label = row[1].strip() if len(row) > 1 else ""
        if labelled and not label and len(rows[0]) > 1:
            skipped.append((path, f"no label in '{os.path.basename(file)}'"))
        else:
            files.append(path)
            labels.append(label)
    if not labelled or not any(labels):
        return Listing(files, None, None, skipped)
    try:  # Numbers by their value: "10" comes after "9".
        found = sorted(set(labels), key=int)
    except ValueError:
        found = sorted(set(labels))
    names = ordered_classes(found, class_names)
    place = {name: index for index, name in enumerate(names)}
    numbers = np.array([place[label] for label in labels], "int32")
    return Listing(files, numbers, names, skipped)


def ordered_classes(found: list, class_names: list | None) -> list:
    """Returns the names of the classes, class 0 first.

    Args:
        found: The names in the data, sorted.
        class_names: The order to take, or `None`.

    Raises:
        ValueError: If there is one class only, or a name of the data is not
            among `class_names`; the message proposes which is meant.
    """
    if len(found) < 2:
        raise OneClass(
            f"`source` has one class only, {found[0]!r}: a classifier needs "
            "two or more. If these are images without labels, pass "
            "labels=None."
        )
    if class_names is None:
        return found
    unknown = [name for name in found if name not in class_names]
    if not unknown:
        return list(class_names)
    free = [name for name in class_names if name not in found]
    matches = _matches(unknown, free)
    proposal = ", ".join(
        f"{name!r} is {matches[name]!r}"
        if name in matches
        else f"{name!r} is ?"
        for name in unknown[:20]
    )
    message = (
        f"`class_names` has not all classes of the data: {len(unknown)} of "
        f"{len(found)} are not among its {len(class_names)} names. Proposed: "
        f"{proposal}. "
    )
    if len(matches) == len(unknown):
        back = {new: old for old, new in matches.items()}
        message += (
            "If that is right, pass class_names="
            f"{[back.get(name, name) for name in class_names]}"
        )
    else:
        message += (
            "Rename them in the data, or leave them out. `class_names` "
            f"without data: {free[:20]}"
        )
    raise UnknownClasses(message, proposal)


def _matches(unknown, free):
    """Pairs of names that are alike, the closest first, each name once."""
    plain = {
        name: "".join(c for c in name.casefold() if c.isalnum())
        for name in (*unknown, *free)
    }
    pairs = sorted(
        (difflib.SequenceMatcher(None, plain[a], plain[b]).ratio(), a, b)
        for a in unknown
        for b in free
    )
    matches = {}
    for score, name, candidate in reversed(pairs):
        free_still = candidate not in matches.values()
        if score >= 0.6 and name not in matches and free_still:
            matches[name] = candidate
    return matches


def _is_header(folder, row):
    """Whether the first row names columns, and no image."""
    first = row[0].strip()
    return os.path.splitext(first)[1].lower() not in FORMATS and (
        not os.path.isfile(os.path.join(folder, first))
    )


def _walk(folder, skipped, visited):
    """Yields the images in a folder and its subfolders, each folder once."""
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    files, subfolders = _scan(folder, skipped)
    yield from files
    for name in sorted(subfolders):
        yield from _walk(os.path.join(folder, name), skipped, visited)


def _scan(folder, skipped):
    """Returns the image files of a folder, and the names of its folders.

    Links are followed. Hidden files and folders are not there.
    """
    files, subfolders = [], []
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        skipped.append((folder, str(error.strerror)))
        return files, subfolders
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            subfolders.append(entry.name)
        elif suffix not in FORMATS:
            skipped.append((entry.path, f"no image by its name ({suffix})"))
        else:
            files.append(entry.path)
    return files, subfolders
