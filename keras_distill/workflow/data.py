"""The images of a run: what was given, as arrays, in three parts."""

import math
import os
import pathlib
import re
import zlib
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from keras_distill._data.labels import class_indices
from keras_distill._data.labels import is_wide
from keras_distill._data.sources import are_arrays
from keras_distill._data.sources import to_arrays
from keras_distill._data.sources import weighted_batches
from keras_distill.datasets import image_listing
from keras_distill.datasets import subset

# The part of the labelled images that chooses, and the part that tests.
HELD_OUT = 0.1
FEWEST_IMAGES = 20
_NO_LABELS = (
    "validation_data has no labels: they measure what a network is worth. Give "
    "labelled images, or none."
)


class Source(NamedTuple):
    """Images, and their labels if there are any.

    Attributes:
        x: `(n, ...)`: an array or a memory map.
        y: `(n,)` class numbers, or `None`.
        class_names: The names of the classes, or `None`.
        skipped: A list of `(file, reason)`.
        classes: The number of columns of one-hot labels; else `None`.
    """

    x: Any
    y: Any = None
    class_names: Any = None
    skipped: Any = ()
    classes: int | None = None


class Data(NamedTuple):
    """All images of a run.

    Attributes:
        train, validation, test: `(x, y)` each; `y` is `None` without labels.
        unlabelled: `(n, ...)` images, or `None`.
        class_names: A list of names.
        where: How the parts came about, a sentence.
        skipped: A list of `(file, reason)`.
        classes: The number of columns of one-hot labels; else `None`. There
            may be classes without an image.
    """

    train: tuple
    validation: tuple
    test: tuple
    unlabelled: Any
    class_names: list
    where: str
    skipped: list
    classes: int | None


def is_path(data):
    """Whether images have to be read: a folder, a CSV file, a TFDS name."""
    return isinstance(data, (str, os.PathLike))


def in_memory(data, argument):
    """Data from Python as a `Source`; paths as they are.

    Args:
        data: Arrays `x` or `(x, y)`, a `tf.data.Dataset` or another iterable
            of batches, a path, or `None`.
        argument: The name of the user's argument.
    """
    if data is None or is_path(data) or isinstance(data, Source):
        return data
    if are_arrays(data) and not isinstance(data, dict):
        arrays = to_arrays(data, argument)
        arrays = arrays if isinstance(arrays, tuple) else (arrays,)
        if len(arrays) > 2:
            raise _weighted(argument)
        x, y = (*arrays, None)[:2]
    else:
        x, y = _in_one_order(*_all_batches(data, argument))
    if (
        not isinstance(x, np.ndarray)
        or x.ndim != 4
        or x.dtype.kind not in "uif"
    ):
        shape = f"of shape {x.shape}" if hasattr(x, "shape") else repr(x)[:80]
        raise ValueError(
            f"{argument} must hold images, one array (n, height, width, "
            f"channels) of numbers. Received: x {shape}. For other inputs "
            "compose kd.choose, kd.Distiller and kd.export yourself."
        )
    if not len(x):
        raise ValueError(f"{argument} has no image.")
    if x.dtype != "uint8":
        x = x.astype("float32")
    if y is None:
        return Source(x)
    numbers = class_indices(y, None, argument, "distill").astype("int32")
    # Those of keras.utils.image_dataset_from_directory have them.
    names = getattr(data, "class_names", None)
    classes = np.shape(y)[1] if is_wide(y) else None
    return Source(x, numbers, names, classes=classes)


def read(source, argument, *, image_size, channels, class_names, directory):
    """Reads the images of a path, and returns those in memory as they are."""
    if source is None or isinstance(source, Source):
        return source
    from keras_distill import datasets

    try:
        images = datasets.read_images(
            source,
            image_size,
            channels=channels,
            class_names=class_names,
            labels=None if argument == "unlabelled" else "inferred",
            directory=directory,
        )
    except ValueError as error:
        raise ValueError(_in_terms_of(argument, source, error)) from error
    size, most = images.x.nbytes, _memory()
    if size > most:
        raise _too_large(
            f"{argument}='{source}'",
            most,
            "Give fewer, or have them read smaller, settings={'image_size': "
            "96} (--set image_size=96), if the teacher takes any size.",
        )
    return Source(images.x, images.y, images.class_names, list(images.skipped))


def _in_terms_of(argument, source, error):
    """The text of an error of `read_images`, without its arguments."""
    if isinstance(error, image_listing.NoLabels):
        return _NO_LABELS
    if isinstance(error, image_listing.OneClass):
        text = (
            f"{argument}='{source}' has one class only: there is nothing to "
            "tell apart. Give a folder with a folder of images for each class."
        )
        if argument == "data":
            text += " Images without labels: give the folder of their files."
        return text
    if isinstance(error, image_listing.UnknownClasses):
        return (
            f"{argument}='{source}' must have the classes of data. Others are "
            f"there. Proposed: {error.proposal}. Give the classes the same "
            "names in both."
        )
    return str(error).replace("`source`", argument)


def checksum(source):
    """What tells one data set from another: a path, or the bytes."""
    if source is None or is_path(source):
        return None if source is None else os.fspath(source)
    sums = _sums((source.x, source.y))
    return f"{source.x.dtype}{list(source.x.shape)} CRC-32 {sums}"


def checksum_of_parts(data):
    """What tells the parts of a `Data`, as they were read, from others."""
    parts = data.train, data.validation, data.test, data.unlabelled
    return f"CRC-32 {_sums(parts)}"


def _sums(arrays):
    return [
        zlib.crc32(np.ascontiguousarray(array))
        for array in keras.tree.flatten(arrays)
        if array is not None
    ]


def divided(labelled, validation, unlabelled, seed):
    """Divides images into those that train, that choose and that test.

    Args:
        labelled: The `Source` of the training images.
        validation: The `Source` of others, or `None`.
        unlabelled: The `Source` of images without labels, or `None`.
        seed: The seed of the division.

    Returns:
        A `Data`.
    """
    names = labelled.class_names
    if labelled.y is None:
        train, others = (labelled.x, None), validation
        where = "all images of data, which have no labels, train"
    elif validation is None:
        _check_number(labelled)
        parts = _parts(labelled.y, [HELD_OUT, HELD_OUT], seed)
        train, chosen, tested = (
            (labelled.x[part], labelled.y[part]) for part in parts
        )
        where = (
            f"of the images, {1 - 2 * HELD_OUT:.0%} train, {HELD_OUT:.0%} "
            f"choose and {HELD_OUT:.0%} test, stratified, seed {seed}"
        )
        others = None
    else:
        train, others = (labelled.x, labelled.y), validation
        where = "all images of data train"
    if others is not None:
        if others.y is None:
            raise ValueError(_NO_LABELS)
        tested, chosen = (
            (others.x[part], others.y[part])
            for part in _parts(others.y, [0.5], seed)
        )
        where += (
            ", and one half of validation_data chooses, the other half tests "
            f"(stratified, seed {seed})"
        )
        theirs = others.class_names
        if names and theirs and list(names) != list(theirs):
            raise ValueError(
                f"validation_data must have the classes of data, {list(names)}."
                f" Received: {list(theirs)}"
            )
        names = names or theirs
    elif labelled.y is None:
        chosen = tested = (labelled.x[:0], None)
    sources = [s for s in (labelled, validation, unlabelled) if s is not None]
    skipped = [file for source in sources for file in source.skipped]
    widths = [s.classes for s in sources if s.classes and s is not unlabelled]
    return Data(
        train,
        chosen,
        tested,
        None if unlabelled is None else unlabelled.x,
        names,
        where,
        skipped,
        max(widths, default=None),
    )


def _parts(y, shares, seed):
    """Indices of the rest and of stratified shares, which do not overlap."""
    rest, parts = np.arange(len(y)), []
    for share in shares:
        number = max(1, round(share * len(y)))
        chosen, _ = subset(rest, y[rest], number, seed)
        parts.append(chosen)
        rest = np.setdiff1d(rest, chosen)
    return [rest, *parts]


def _check_number(labelled):
    if len(labelled.y) < FEWEST_IMAGES:
        raise ValueError(
            f"data has {len(labelled.y)} labelled images; {FEWEST_IMAGES} are "
            "the fewest of which a part may be held out. Give more, or "
            "validation_data."
        )


def _all_batches(data, argument):
    """Takes a pipeline into memory, once."""
    import tensorflow as tf

    if isinstance(data, tf.data.Dataset):
        specs = keras.tree.flatten(data.element_spec)
        if specs[0].shape.rank == 3:
            data = data.batch(128)
        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                f"{argument} never ends, and it is taken into memory once. "
                f"Give one pass: {argument}.take(batches), without .repeat()."
            )
    most, size, parts = _memory(), 0, []
    for *batch, weights in weighted_batches(data, argument):
        if weights is not None:
            raise _weighted(argument)
        parts.append(batch)
        size += sum(a.nbytes for a in batch if hasattr(a, "nbytes"))
        if size > most:
            raise _too_large(
                argument,
                most,
                f"Give fewer, {argument}.take(batches), or smaller ones. Bytes "
                "(uint8) take a quarter of what float32 takes.",
            )
    if not parts:
        raise ValueError(f"{argument} has no image.")
    x, y = zip(*parts)
    del parts, batch
    if keras.tree.is_nested(x[0]):
        return x[0], None
    return np.concatenate(x), None if y[0] is None else np.concatenate(y)


def _in_one_order(x, y):
    """The samples in an order that does not depend on how they are shuffled.

    A run that goes on knows the images of a shuffled pipeline by that.
    """
    if not isinstance(x, np.ndarray) or x.dtype == object:
        return x, y
    keys = [
        [zlib.crc32(np.ascontiguousarray(sample)) for sample in part]
        for part in (y, x)
        if part is not None
    ]
    order = np.lexsort(keys)
    return x[order], None if y is None else np.asarray(y)[order]


def _too_large(what, most, advice):
    return ValueError(
        f"{what} takes more than {most / 1e9:.1f} GB, half of the free "
        f"memory, and all images have to fit into it. {advice}"
    )


def _memory():
    """Half of the free memory in bytes; infinite where Linux does not say."""
    file = pathlib.Path("/proc/meminfo")
    text = file.read_text() if file.exists() else ""
    found = re.search(r"MemAvailable:\s*(\d+) kB", text)
    return 1024 * int(found[1]) / 2 if found else math.inf


def _weighted(argument):
    return ValueError(
        f"{argument} must be x or (x, y): distill takes no sample weights. "
        "Received: (x, y, sample_weight)"
    )
