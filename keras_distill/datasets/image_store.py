"""Many images decoded into one array, in memory or in a file."""

import collections
import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from keras_distill._files import UNFINISHED
from keras_distill._files import write_whole
from keras_distill._progress import ProgressBar
from keras_distill.datasets import image_decoding

_CHUNK = 32
_SECONDS_OF_A_DAY = 86400


class Settings(NamedTuple):
    """How images are read: (height, width), 1, 3 or `None`, and cropping."""

    size: tuple[int, int]
    channels: int | None
    crop: bool


def kept(found, settings, directory, name, verbose) -> dict:
    """Returns what `read` returns, from the directory if it is there.

    Args:
        found: A `Listing`.
        settings: `Settings`.
        directory: A `pathlib.Path`.
        name: A list of what else tells these images from others.
        verbose: Whether to show progress.
    """
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps([*name, *settings])
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    pixels = directory / f"images-{key}.npy"
    index = directory / f"images-{key}.json"
    signature = _signature(found)
    if pixels.is_file() and index.is_file():
        stored = json.loads(index.read_text())
        if stored.pop("signature") == signature:
            stored["skipped"] = [tuple(pair) for pair in stored["skipped"]]
            if stored["y"] is not None:
                stored["y"] = np.array(stored["y"], "int32")
            return {"x": np.load(pixels, mmap_mode="r"), **stored}
    index.unlink(missing_ok=True)  # It is of the pixels that are replaced.
    stored = read(found, settings, pixels, verbose)
    if stored["files"]:
        y = stored["y"]
        content = stored | {"y": None if y is None else y.tolist()}
        content["signature"] = signature
        del content["x"]
        write_whole(index, json.dumps(content).encode())
    return stored


def read(found, settings, file, verbose) -> dict:
    """Decodes all images.

    Args:
        found: A `Listing`.
        settings: `Settings`.
        file: The `.npy` file to write, or `None` for an array.
        verbose: Whether to show progress.

    Returns:
        A dict of the fields of `Images`.
    """
    channels = settings.channels or _channels(found)
    only_grey = channels == 1 and settings.channels is None
    try:
        x, reasons = _collect(
            found, settings, channels, only_grey, file, verbose
        )
    except image_decoding.Colour:
        x, reasons = _collect(found, settings, 3, False, file, verbose)
    good = [index for index, reason in enumerate(reasons) if not reason]
    skipped = [pair for pair in zip(found.files, reasons) if pair[1]]
    return {
        "x": x,
        "y": None if found.labels is None else found.labels[good],
        "class_names": found.class_names,
        "files": [found.files[index] for index in good],
        "skipped": found.skipped + skipped,
    }


def _channels(found):
    """1 if a sample of the files is grey; a colour one may come later."""
    if found.tfds is not None:
        return found.tfds.channels
    sample = found.files[:: max(1, len(found.files) // 100)]
    return 1 if all(map(image_decoding.is_grey, sample)) else 3


def _collect(found, settings, channels, only_grey, file, verbose):
    """Returns the array, and for each file why it is not in there."""
    count = len(found.files)
    shape = (*settings.size, channels)
    if found.tfds is not None:
        rows = found.tfds.rows(settings.size, channels, settings.crop)
    else:
        rows = _decoded(found.files, settings, channels, only_grey)
    progress = ProgressBar(count, "image", verbose)
    reasons = []
    with contextlib.closing(rows), _Array(count, shape, file) as array:
        for row in rows:
            reasons.append(row if isinstance(row, str) else None)
            if reasons[-1] is None:
                array.append(row)
            if len(reasons) % _CHUNK == 0 or len(reasons) == count:
                progress.update(len(reasons))
        return array.finished(), reasons


def _decoded(files, settings, channels, only_grey):
    """Yields the pixels of each file, or why there are none, in order."""

    def chunk(start):
        return [
            image_decoding.read(
                file, settings.size, channels, settings.crop, only_grey
            )
            for file in files[start : start + _CHUNK]
        ]

    threads = min(16, 2 * (os.cpu_count() or 1))
    starts = iter(range(0, len(files), _CHUNK))
    with ThreadPoolExecutor(threads) as pool:
        # So many at a time that all threads are busy and memory is not full.
        running = collections.deque(
            pool.submit(chunk, start)
            for start in itertools.islice(starts, 2 * threads)
        )
        try:
            while running:
                yield from running.popleft().result()
                for start in itertools.islice(starts, 1):
                    running.append(pool.submit(chunk, start))
        finally:
            for future in running:
                future.cancel()


class _Array:
    """Rows one after the other, in memory or in a file that is then whole."""

    def __init__(self, count, shape, file):
        self.count = count
        self.shape = shape
        self.file = file
        self.length = 0
        if file is None:
            self.rows = np.empty((count, *shape), "uint8")
            return
        for left in file.parent.glob(f"{UNFINISHED}{file.stem}*"):
            if time.time() - left.stat().st_mtime > _SECONDS_OF_A_DAY:
                left.unlink(missing_ok=True)
        needed = count * math.prod(shape)
        if shutil.disk_usage(file.parent).free < needed:
            raise self._disk_full()
        number, self.unfinished = tempfile.mkstemp(
            prefix=f"{UNFINISHED}{file.stem}", dir=file.parent
        )
        self.stream = os.fdopen(number, "wb")
        self._write_header()

    def __enter__(self):
        return self

    def append(self, row):
        if self.file is None:
            self.rows[self.length] = row
        else:
            with self._clear_errors():
                self.stream.write(row.data)
        self.length += 1

    def finished(self):
        """The array of all rows."""
        if self.file is None:
            return self.rows[: self.length]
        if not self.length:
            return np.empty((0, *self.shape), "uint8")
        with self._clear_errors():
            self.stream.seek(0)
            self._write_header()  # NumPy leaves room for another length.
            self.stream.flush()
            os.fsync(self.stream.fileno())
        os.chmod(self.unfinished, 0o644)
        os.replace(self.unfinished, self.file)
        return np.load(self.file, mmap_mode="r")

    def __exit__(self, *error):
        if self.file is not None:
            with contextlib.suppress(OSError):  # What it could not write.
                self.stream.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.unfinished)

    def _write_header(self):
        header = {
            "descr": "|u1",
            "fortran_order": False,
            "shape": (self.length, *self.shape),
        }
        np.lib.format.write_array_header_1_0(self.stream, header)

    @contextlib.contextmanager
    def _clear_errors(self):
        try:
            yield
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise self._disk_full() from error
            raise

    def _disk_full(self):
        needed = self.count * math.prod(self.shape)
        free = shutil.disk_usage(self.file.parent).free
        height, width, channels = self.shape
        return OSError(
            errno.ENOSPC,
            f"The disk of `directory` is too small: {self.count} images of "
            f"{height}x{width}x{channels} need {needed} bytes, and {free} are "
            "free. Nothing was kept. Choose another `directory` or a smaller "
            "`image_size`",
            str(self.file.parent),
        )


def _signature(found):
    """Changes when a file is added, removed or written, or gets a label."""
    digest = hashlib.sha256()
    for file in found.files:
        try:
            status = os.stat(file)
            digest.update(f"{status.st_size} {status.st_mtime_ns} ".encode())
        except OSError:
            digest.update(b"none ")
        digest.update(os.fsencode(file) + b"\0")
    if found.labels is not None:
        digest.update(found.labels.tobytes())
    digest.update(json.dumps([found.class_names, found.skipped]).encode())
    return digest.hexdigest()
