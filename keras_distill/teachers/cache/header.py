"""The header of a cache: what it holds, and of whom."""

import hashlib
import json
import os
import pathlib

HEADER = "header.json"
INPUTS = "inputs.crc32"
FORMAT = "keras_distill.TeacherCache"
VERSION = 1
# Names of files that are being written begin so. What a killed run left of
# them is removed by the next one.
UNFINISHED = ".writing-"


def read(path):
    """The header of the cache at `path`, finished or not.

    Args:
        path: A `pathlib.Path`.

    Returns:
        A dict.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: for a folder that is no cache, a damaged header, or one of
            another format version.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"There is no teacher cache at '{path}'. Write one with "
            "kd.TeacherCache.build(teacher, dataset, path)."
        )
    file = path / HEADER
    if not file.is_file():
        raise ValueError(
            f"'{path}' is no teacher cache: it has no {HEADER}. Give the "
            "folder that kd.TeacherCache.build wrote."
        )
    try:
        header = json.loads(file.read_text())
        is_ours = header.get("format") == FORMAT
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"The header of the teacher cache '{path}' is damaged ({error}). "
            "Build the cache again, with overwrite=True."
        ) from error
    if not is_ours:
        raise ValueError(
            f"'{path}' is no teacher cache: {HEADER} says format="
            f"{header.get('format')!r}, expected {FORMAT!r}."
        )
    if header.get("version") != VERSION:
        raise ValueError(
            f"The teacher cache '{path}' has format version "
            f"{header.get('version')}; this keras_distill reads version "
            f"{VERSION}. Build the cache again, with overwrite=True, or use "
            "the keras_distill that wrote it."
        )
    checksum = header.pop("checksum", None)
    if checksum != _checksum(header):
        raise ValueError(
            f"The header of the teacher cache '{path}' is damaged: its "
            "checksum is not that of its content. Build the cache again, with "
            "overwrite=True."
        )
    return header


def write(path, header):
    """Replaces the header of the cache at `path`, whole or not at all."""
    content = {**header, "checksum": _checksum(header)}
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    write_whole(path / HEADER, text.encode())


def write_whole(file, content):
    """Writes bytes to a file that is there whole or not at all."""
    unfinished = file.with_name(UNFINISHED + file.name)
    with open(unfinished, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(unfinished, file)


def sha256(file):
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def samples_done(header, epoch):
    """Number of samples of an epoch that lie in whole shards."""
    return sum(s["samples"] for s in header["shards"] if s["epoch"] == epoch)


def check_files(path, header):
    """Raises `ValueError` if a file is missing or has another size."""
    for entry in files(header):
        file = path / entry["file"]
        size = file.stat().st_size if file.is_file() else None
        if size != entry["bytes"]:
            found = "missing" if size is None else f"{size} bytes long"
            raise _damaged(
                path, file, f"{found}, expected {entry['bytes']} bytes"
            )


def check_content(path, header, entries):
    """Raises `ValueError` if a file's content is not what was written.

    Args:
        path: A `pathlib.Path`.
        header: A dict.
        entries: Those of `files(header)` to look at.
    """
    check_files(path, header)
    for entry in entries:
        if sha256(path / entry["file"]) != entry["sha256"]:
            raise _damaged(
                path,
                pathlib.Path(entry["file"]),
                "of another content (sha256) than was written",
            )


def files(header):
    """The entries of all files but the header itself."""
    return [
        *header["shards"],
        *([header["inputs"]] if header["inputs"] else []),
    ]


def _checksum(header):
    text = json.dumps(header, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _damaged(path, file, how):
    return ValueError(
        f"The teacher cache '{path}' is damaged: '{file.name}' is {how}. "
        "Restore the file, or build the cache again, with overwrite=True."
    )
