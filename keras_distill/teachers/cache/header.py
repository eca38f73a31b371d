"""The header of a cache: written whole, and checked when it is read.

What is written under its checksum is what was meant. What the header says is
still checked: it names the files that are opened.
"""

import hashlib
import json

from keras_distill._arguments import is_number
from keras_distill._files import write_whole

HEADER = "header.json"
INPUTS = "inputs.crc32"
FORMAT = "keras_distill.TeacherCache"
VERSION = 1


def read_header(path):
    """Reads the header of the cache at `path`, finished or not.

    Args:
        path: A `pathlib.Path`.

    Returns:
        A dict.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder is not a cache, or the header is damaged or
            has another format version.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"There is no teacher cache at '{path}'. Write one with "
            "kd.TeacherCache.build(teacher, dataset, path)."
        )
    file = path / HEADER
    if not file.is_file():
        raise ValueError(
            f"'{path}' is not a teacher cache: it has no {HEADER}. Give the "
            "folder that kd.TeacherCache.build wrote."
        )
    try:
        header = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(path, f"it holds {type(header).__name__}, not a dict")
    if header.get("format") != FORMAT:
        raise ValueError(
            f"'{path}' is not a teacher cache: {HEADER} says format="
            f"{header.get('format')!r}, expected {FORMAT!r}. If it was one, "
            "build it again, with overwrite=True."
        )
    if header.get("version") != VERSION:
        raise ValueError(
            f"The teacher cache '{path}' has format version "
            f"{header.get('version')} in {HEADER}; this keras_distill reads "
            f"version {VERSION}. Build the cache again, with overwrite=True, "
            "or use the keras_distill that wrote it."
        )
    checksum = header.pop("checksum", None)
    if checksum != _checksum(header):
        raise _damaged(path, "its checksum is not that of its content")
    wrong = _wrong(header)
    if wrong:
        raise _damaged(path, f"'{wrong}' is missing or cannot be")
    return header


def write_header(path, header):
    """Replaces the header of the cache at `path` as a whole."""
    content = {**header, "checksum": _checksum(header)}
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    write_whole(path / HEADER, text.encode())


def shard_name(epoch, part):
    return f"epoch_{epoch:04d}_part_{part:04d}.tfrecord"


def samples_done(header, epoch):
    """Returns the number of samples of an epoch in whole shards."""
    return sum(s["samples"] for s in header["shards"] if s["epoch"] == epoch)


def files(header):
    """Returns the entries of all files but the header itself."""
    return [
        *header["shards"],
        *([header["inputs"]] if header["inputs"] else []),
    ]


def _damaged(path, how):
    return ValueError(
        f"The header of the teacher cache '{path}' is damaged: in {HEADER}, "
        f"{how}. Build the cache again, with overwrite=True."
    )


def _checksum(header):
    text = json.dumps(header, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _wrong(header):
    """Returns the first entry that is missing or cannot be, or `None`."""
    for name, is_right in _ENTRIES.items():
        if name not in header and name not in _MAY_LACK:
            return name
        if not is_right(header.get(name)):
            return name
    if header["epochs"] > 1 and not header["varies"]:
        return "varies"
    if header.get("streams") not in (None, header["batch_size"]):
        return "streams"
    if not _fits_top_k(header):
        return "top_k"
    if not _are_shards(header):
        return "shards"
    if header["complete"] and not _is_complete(header):
        return "complete"
    return None


def _is_count(value, least=1):
    return type(value) is int and value >= least


def _is_shape(value):
    return isinstance(value, list) and all(map(_is_count, value))


def _is_teacher(value):
    return (
        isinstance(value, dict)
        and isinstance(value.get("fingerprint"), str)
        and isinstance(value.get("head", ""), str | None)
        and isinstance(value.get("computation"), dict | None)
    )


def _is_views(value):
    return isinstance(value, dict) and (
        value.get("mixup_group_size") is None
        or _is_count(value["mixup_group_size"])
    )


def _are_outputs(value):
    return (
        isinstance(value, dict)
        and isinstance(value.get("taps"), dict)
        and all(map(_is_shape, value["taps"].values()))
        and ("output" not in value or _is_shape(value["output"]))
        and isinstance(value.get("in_float32", []), list)
    )


def _is_file(value):
    return (
        isinstance(value, dict)
        and isinstance(value.get("file"), str)
        and isinstance(value.get("sha256"), str)
        and _is_count(value.get("bytes"), least=0)
    )


# Not in old caches, or of stateful teachers only.
_MAY_LACK = ("teacher_dtype", "streams")
_ENTRIES = {
    "complete": lambda value: isinstance(value, bool),
    "teacher": _is_teacher,
    "teacher_dtype": lambda value: isinstance(value, str | None),
    "views": _is_views,
    "varies": lambda value: isinstance(value, bool),
    "samples": lambda value: value is None or _is_count(value),
    "epochs": _is_count,
    "batch_size": _is_count,
    "streams": lambda value: value is None or _is_count(value),
    "samples_per_shard": _is_count,
    "dtype": lambda value: value in ("float16", "float32"),
    "top_k": lambda value: value is None or _is_count(value),
    "temperature": lambda value: (
        value is None or (is_number(value) and value > 0)
    ),
    "outputs": _are_outputs,
    "inputs": lambda value: (
        value is None or (_is_file(value) and value["file"] == INPUTS)
    ),
    "shards": lambda value: isinstance(value, list),
}


def _fits_top_k(header):
    top_k, output = header["top_k"], header["outputs"].get("output")
    if top_k is None:
        return True
    return bool(output) and top_k < output[-1] and header["temperature"]


def _are_shards(header):
    """Whether shards have the names and the cuts that `build` gives them.

    A name with a folder in it would read outside of the cache.
    """
    cuts = [[] for _ in range(min(header["epochs"], 1 + len(header["shards"])))]
    for shard in header["shards"]:
        if not _is_file(shard) or not _is_count(shard.get("samples")):
            return False
        epoch = shard.get("epoch")
        if not _is_count(epoch, least=0) or epoch >= len(cuts):
            return False
        if shard["file"] != shard_name(epoch, len(cuts[epoch])):
            return False
        cuts[epoch].append(shard["samples"])
    return all(cut == cuts[0][: len(cut)] for cut in cuts)


def _is_complete(header):
    samples, inputs = header["samples"], header["inputs"]
    return (
        samples is not None
        and inputs is not None
        and inputs["bytes"] == 4 * samples
        and header["epochs"] <= len(header["shards"])
        and all(
            samples_done(header, epoch) == samples
            for epoch in range(header["epochs"])
        )
    )
