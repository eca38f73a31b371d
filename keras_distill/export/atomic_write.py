"""Files and folders that are there whole or not at all."""

import contextlib
import os
import pathlib
import tempfile


def check_free(filepath, overwrite, folder):
    """Raises `FileExistsError` if `filepath` may not be written to.

    Args:
        filepath: A `pathlib.Path`.
        overwrite: Whether what exists may be replaced: a file by a file, a
            SavedModel (or an empty folder) by a folder, nothing else.
        folder: Whether a folder is to be written.
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
            f"overwrite=True replaces a {'folder' if folder else 'file'} only."
        )
    if (
        is_folder
        and any(filepath.iterdir())
        and not (filepath / "saved_model.pb").is_file()
    ):
        raise FileExistsError(
            f"The folder '{filepath}' holds something else than a SavedModel; "
            "overwrite=True does not replace it. Choose another path."
        )


@contextlib.contextmanager
def written_whole(filepath, overwrite):
    """Gives a path to write to; what is there at the end moves to `filepath`.

    The path lies in a temporary folder beside `filepath`, on the same disk, so
    that moving is a rename. After an error nothing is left of it. Companion
    files (OpenVINO's `.bin`) move along.
    """
    parent = filepath.parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=parent) as folder:
        yield pathlib.Path(folder) / filepath.name
        written = sorted(pathlib.Path(folder).iterdir())
        for path in written:
            check_free(parent / path.name, overwrite, folder=path.is_dir())
        for path in written:
            destination = parent / path.name
            if destination.is_dir():  # folders cannot be renamed over
                os.replace(destination, pathlib.Path(folder) / ".replaced")
            os.replace(path, destination)
