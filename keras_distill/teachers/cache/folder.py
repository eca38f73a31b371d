"""The folder of a cache before the pass: new, gone on with, or refused."""

import os
import re
import shutil

import numpy as np

from keras_distill.teachers.cache import header as headers
from keras_distill.teachers.cache.computation import hash_here

_OURS = re.compile(
    rf"{headers.HEADER}|{headers.INPUTS}|{headers.UNFINISHED}.*"
    r"|epoch_\d+_part_\d+\.tfrecord"
)

_COMPUTATION = "teacher's configuration (same weights, other layers)"
_KNOWN_OR_NOT = ("number of samples", _COMPUTATION)


def started(path, header, parts, overwrite):
    """Makes the folder ready to be written to.

    Args:
        path: A `pathlib.Path`.
        header: What the header of a new cache says.
        parts: A function of the header that is there, which gives pairs
            `(start, checksums)` of samples to compare.
        overwrite: Whether to begin anew if there is a cache.

    Returns:
        The header to go on from: of a run that was killed, or a new one.

    Raises:
        ValueError: for a folder that holds something else, or the cache of
            something else.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"'{path}' is a file. Choose another path.")
    path.mkdir(parents=True, exist_ok=True)
    others = [p.name for p in path.iterdir() if not _OURS.fullmatch(p.name)]
    if others:
        raise ValueError(
            f"The folder '{path}' is no teacher cache and not empty (it holds "
            f"'{others[0]}'). Choose another path."
        )
    if overwrite:
        # Moved away first: a cache without its header could not be told.
        old = path.with_name(f".{path.name}.replaced")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
        path.mkdir()
        shutil.rmtree(old)
    for left in path.glob(headers.UNFINISHED + "*"):
        left.unlink()
    if not (path / headers.HEADER).is_file():
        if any(p.name != headers.INPUTS for p in path.iterdir()):
            raise ValueError(
                f"The teacher cache '{path}' has lost its {headers.HEADER}. "
                "Choose another path, or pass overwrite=True."
            )
        (path / headers.INPUTS).write_bytes(b"")
        headers.write(path, header)
        return header
    found = headers.read(path)
    check_same(path, header, found)
    headers.check_files(path, found)
    _check_same_samples(path, found, parts(found))
    if header["epochs"] > found["epochs"]:
        found.update(epochs=header["epochs"], complete=False, inputs=None)
    return found


def check_same(path, wanted, found):
    """Raises if a cache is not what is asked for, and says in what.

    Args:
        path: The cache's folder.
        wanted: A header, or the part of it to compare.
        found: The cache's header.
    """
    wanted, found = _compared(wanted), _compared(found)
    for name, value in wanted.items():
        if found[name] != value:
            # The number of samples may not be known yet, nor what a teacher
            # without configuration, or that of an old cache, computes.
            if name in _KNOWN_OR_NOT and None in (value, found[name]):
                continue
            raise _another(path, name, f"{found[name]}, not {value}")


def _check_same_samples(path, found, parts):
    done = headers.samples_done(found, 0)
    seen = np.fromfile(path / headers.INPUTS, "<u4")[:done]
    for start, checksums in parts:
        known = seen[start : start + len(checksums)]
        wrong = np.flatnonzero(known != checksums[: len(known)])
        if len(wrong):
            raise _another(
                path,
                "data set",
                f"sample {start + wrong[0]} is not the one it was built of",
            )


def _compared(header):
    """What must be equal, under the name that a user knows it by."""
    compared = {}
    if "teacher" in header:
        teacher = header["teacher"]
        compared["teacher"] = teacher["fingerprint"][:12]
        compared["teacher's head"] = teacher["head"]
        computes = hash_here(teacher.get("computation"))
        compared[_COMPUTATION] = computes and computes[:12]
    if "format" in header:  # The whole of it; old ones do not say.
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
