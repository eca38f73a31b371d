"""The folder of a cache: what it holds, and whether its files are as written.

A file is either there whole or not at all: it is written under another name and
then renamed. What belongs to the cache is what the header lists.
"""

import hashlib
import os
import pathlib
import re
import shutil

import numpy as np

from keras_distill._files import UNFINISHED
from keras_distill.teachers.cache.header import HEADER
from keras_distill.teachers.cache.header import INPUTS
from keras_distill.teachers.cache.header import files
from keras_distill.teachers.cache.header import read_header
from keras_distill.teachers.cache.header import samples_done
from keras_distill.teachers.cache.header import write_header
from keras_distill.teachers.cache.origin import hash_here

_OURS = re.compile(
    rf"{HEADER}|{INPUTS}|{UNFINISHED}.*"
    r"|epoch_\d+_part_\d+\.tfrecord"
)

_COMPUTATION = "teacher's configuration (same weights, other layers)"
_KNOWN_OR_NOT = ("number of samples", _COMPUTATION)


def sha256(file):
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_files(path, header):
    """Raises `ValueError` if a file is missing or has another size."""
    if not header["inputs"]:  # Not whole yet: a killed run may have added.
        _check_checksums_done(path, samples_done(header, 0))
    for entry in files(header):
        file = path / entry["file"]
        size = file.stat().st_size if file.is_file() else None
        if size != entry["bytes"]:
            is_now = "missing" if size is None else f"{size} bytes long"
            raise _damaged(
                path, file, f"{is_now}, expected {entry['bytes']} bytes"
            )


def _check_checksums_done(path, samples):
    file = path / INPUTS
    size = file.stat().st_size if file.is_file() else -1
    if size < 4 * samples:
        is_now = "missing" if size < 0 else f"{size} bytes long"
        raise _damaged(
            path, file, f"{is_now}, expected {4 * samples} bytes or more"
        )


def check_content(path, header, entries):
    """Raises `ValueError` if a file's content is not what was written.

    Args:
        path: A `pathlib.Path`.
        header: A dict.
        entries: The entries of `files(header)` to check.
    """
    check_files(path, header)
    for entry in entries:
        if sha256(path / entry["file"]) != entry["sha256"]:
            raise _damaged(
                path,
                pathlib.Path(entry["file"]),
                "of another content (sha256) than was written",
            )


def _damaged(path, file, how):
    return ValueError(
        f"The teacher cache '{path}' is damaged: '{file.name}' is {how}. "
        "Restore the file, or build the cache again, with overwrite=True."
    )


def started(path, header, parts, overwrite):
    """Prepares the folder: a new one, or one to continue.

    Args:
        path: A `pathlib.Path`.
        header: The header of a new cache.
        parts: A function from an existing header to pairs `(start, checksums)`
            of samples to compare.
        overwrite: Whether to start anew if there is a cache.

    Returns:
        The header to continue from: that of a killed run, or the new one.

    Raises:
        ValueError: If the folder holds something else, or the cache of
            something else.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"'{path}' is a file. Choose another path.")
    path.mkdir(parents=True, exist_ok=True)
    others = [name for name in _names(path) if not _OURS.fullmatch(name)]
    if others:
        raise ValueError(
            f"The folder '{path}' is not a teacher cache and not empty (it "
            f"holds '{others[0]}'). Choose another path."
        )
    if overwrite:
        # Moved away first: without its header a cache is not known as one.
        old = path.with_name(f".{path.name}.replaced")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
        path.mkdir()
        shutil.rmtree(old)
    for left in path.glob(UNFINISHED + "*"):
        left.unlink()
    if not (path / HEADER).is_file():
        if any(name != INPUTS for name in _names(path)):
            raise ValueError(
                f"The teacher cache '{path}' has lost its {HEADER}. "
                "Choose another path, or pass overwrite=True."
            )
        (path / INPUTS).write_bytes(b"")
        write_header(path, header)
        return header
    existing = read_header(path)
    check_same(path, header, existing)
    check_files(path, existing)
    _check_same_samples(path, existing, parts(existing))
    if header["epochs"] > existing["epochs"]:
        existing.update(epochs=header["epochs"], complete=False, inputs=None)
    return existing


def _names(path):
    """The names of the files in a folder, without that of the Mac's Finder."""
    return [p.name for p in path.iterdir() if p.name != ".DS_Store"]


def check_same(path, wanted, existing):
    """Raises if a cache is not what is asked for, and says what differs.

    Args:
        path: The folder of the cache.
        wanted: A header, or the part of it to compare.
        existing: The header of the cache.
    """
    wanted, existing = _compared(wanted), _compared(existing)
    for name, value in wanted.items():
        if existing[name] != value:
            # Not known yet, or for a teacher without configuration, or in an
            # old cache.
            if name in _KNOWN_OR_NOT and None in (value, existing[name]):
                continue
            raise _another(path, name, f"{existing[name]}, not {value}")


def _check_same_samples(path, header, parts):
    done = samples_done(header, 0)
    before = np.fromfile(path / INPUTS, "<u4")[:done]
    for start, checksums in parts:
        known = before[start : start + len(checksums)]
        wrong = np.flatnonzero(known != checksums[: len(known)])
        if len(wrong):
            raise _another(
                path,
                "data set",
                f"sample {start + wrong[0]} is not the one it was built from",
            )


def _compared(header):
    """Returns what must be equal, under the names that a user knows."""
    compared = {}
    if "teacher" in header:
        teacher = header["teacher"]
        compared["teacher"] = teacher["fingerprint"][:12]
        compared["teacher's head"] = teacher["head"]
        computes = hash_here(teacher.get("computation"))
        compared[_COMPUTATION] = computes and computes[:12]
    if "format" in header:  # A whole header; old ones have no such entry.
        compared["teacher_dtype"] = header.get("teacher_dtype")
    if "views" in header:
        views = dict(header["views"])
        seed = views.pop("seed", None)
        compared["views"] = views
        compared["seed"] = seed
    for key, name in {
        "samples": "number of samples",
        "outputs": "outputs",
        "dtype": "dtype",
        "top_k": "top_k",
        "temperature": "temperature",
        "batch_size": "batch_size",
        "samples_per_shard": "samples_per_shard",
    }.items():
        if key in header:
            compared[name] = header[key]
    return compared


def _another(path, name, how):
    return ValueError(
        f"The teacher cache '{path}' is of another {name}: {how}. Choose "
        "another path for this one, or build with overwrite=True."
    )
