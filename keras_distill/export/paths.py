"""Where an export goes: the format of a path, and writing it whole.

What is exported is there whole or not at all.
"""

import contextlib
import os
import pathlib

from keras_distill.export.temporary import temporary_folder

# Format of `Model.export` (and "keras") -> how its path ends.
_SUFFIXES = {
    "litert": ".tflite",
    "keras": ".keras",
    "onnx": ".onnx",
    "openvino": ".xml",
    "tf_saved_model": "",
}


def chosen_format(filepath, format):
    """Returns the name of the format that a path or `format` asks for."""
    suffix = pathlib.Path(filepath).suffix
    if format is None:
        for name, ending in _SUFFIXES.items():
            if ending == suffix:
                return name
        known = [ending for ending in _SUFFIXES.values() if ending]
        raise ValueError(
            f"The path '{filepath}' does not say its format: its suffix "
            f"'{suffix}' is none of {known}. "
            f"Give `format=`, one of {list(_SUFFIXES)}."
        )
    format = "litert" if format == "tflite" else format
    if format not in _SUFFIXES:
        raise ValueError(
            f"`format` must be one of {list(_SUFFIXES)}, or None. Received: "
            f"{format!r}"
        )
    return format


def checked_path(filepath, format, overwrite):
    """Returns a `pathlib.Path` that fits the format and may be written to."""
    filepath = pathlib.Path(filepath)
    suffix = _SUFFIXES[format]
    foreign = filepath.suffix in set(_SUFFIXES.values()) - {""}
    if filepath.suffix != suffix if suffix else foreign:
        rule = f"end in '{suffix}'" if suffix else "name a folder"
        raise ValueError(
            f"A path for the format '{format}' must {rule}. Received: "
            f"'{filepath}'"
        )
    check_free(filepath, overwrite, folder=not suffix)
    return filepath


def check_free(filepath, overwrite, folder):
    """Raises `FileExistsError` if `filepath` may not be written to.

    Args:
        filepath: A `pathlib.Path`.
        overwrite: Whether to replace what exists. A file replaces a file, a
            folder replaces a SavedModel or an empty folder.
        folder: Whether a folder is going to be written.
    """
    if not os.path.lexists(filepath):
        return
    if not overwrite:
        raise FileExistsError(
            f"'{filepath}' exists. Pass overwrite=True to replace it, or "
            "choose another path."
        )
    is_folder = filepath.is_dir()
    if is_folder != folder:
        raise FileExistsError(
            f"'{filepath}' is a {'folder' if is_folder else 'file'}; "
            f"overwrite=True replaces only a {'folder' if folder else 'file'}."
        )
    if (
        is_folder
        and any(filepath.iterdir())
        and not (filepath / "saved_model.pb").is_file()
    ):
        raise FileExistsError(
            f"The folder '{filepath}' holds something other than a SavedModel; "
            "overwrite=True does not replace it. Choose another path."
        )


@contextlib.contextmanager
def written_whole(filepath, overwrite):
    """Yields a path to write to, and moves it to `filepath` at the end.

    The path is in a temporary folder beside `filepath`, on the same disk, so
    that the move is a rename. Nothing is left of it after an error, and of a
    killed process nothing after the next export. Companion files (OpenVINO's
    `.bin`) move along.
    """
    parent = filepath.parent
    parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(".export-", parent) as folder:
        yield folder / filepath.name
        written = sorted(folder.iterdir())
        for path in written:
            check_free(parent / path.name, overwrite, folder=path.is_dir())
        for path in written:
            destination = parent / path.name
            if destination.is_dir():  # folders cannot be renamed over
                os.replace(destination, folder / ".replaced")
            os.replace(path, destination)
