"""Which format a path names, and whether it may be written."""

import pathlib

from keras_distill.export.atomic_write import check_free

# Format of `Model.export` (and "keras") -> how its path ends.
_SUFFIXES = {
    "litert": ".tflite",
    "keras": ".keras",
    "onnx": ".onnx",
    "openvino": ".xml",
    "tf_saved_model": "",
}


def chosen_format(filepath, format):
    """-> the name of the format that a path or `format` asks for."""
    suffix = pathlib.Path(filepath).suffix
    if format is None:
        found = [f for f, ending in _SUFFIXES.items() if ending == suffix]
        if not found:
            known = [ending for ending in _SUFFIXES.values() if ending]
            raise ValueError(
                f"The path '{filepath}' does not say its format: its suffix "
                f"'{suffix}' is none of {known}. "
                f"Give `format=`, one of {list(_SUFFIXES)}."
            )
        return found[0]
    format = "litert" if format == "tflite" else format
    if format not in _SUFFIXES:
        raise ValueError(
            f"`format` must be one of {list(_SUFFIXES)}, or None. Received: "
            f"{format!r}"
        )
    return format


def checked_path(filepath, format, overwrite):
    """-> `pathlib.Path`, if it may be written to."""
    filepath = pathlib.Path(filepath)
    suffix = _SUFFIXES[format]
    foreign = filepath.suffix in set(_SUFFIXES.values()) - {""}
    if filepath.suffix != suffix if suffix else foreign:
        rule = f"end in '{suffix}'" if suffix else "be a folder's"
        raise ValueError(
            f"A path for the format '{format}' must {rule}. Received: "
            f"'{filepath}'"
        )
    check_free(filepath, overwrite, folder=not suffix)
    return filepath
