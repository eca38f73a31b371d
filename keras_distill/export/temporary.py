"""Temporary folders that do not outlive their process for long.

A process that is killed cannot remove its folder. So each folder holds a file
that its process has locked. The system gives the lock back when the process
ends, and the next export removes every folder whose lock it can get.
"""

import contextlib
import pathlib
import shutil
import tempfile

try:
    import fcntl
except ImportError:  # Windows: a killed process leaves its folder.
    fcntl = None  # type: ignore[assignment]

_OWNER = "owner"


@contextlib.contextmanager
def temporary_folder(prefix, parent=None):
    """Yields the path of an empty folder, and removes it at the end.

    Args:
        prefix: How its name begins. Folders of the same prefix whose process
            was killed are removed.
        parent: Where. Defaults to the system's folder for temporary files.
    """
    parent = pathlib.Path(parent or tempfile.gettempdir())
    _remove_abandoned(prefix, parent)
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as root,
        _locked(pathlib.Path(root)),
    ):
        folder = pathlib.Path(root) / "files"
        folder.mkdir()
        yield folder


@contextlib.contextmanager
def _locked(root):
    if fcntl is None:
        yield
        return
    # It gets its name when it is locked: nobody sees it unlocked.
    unnamed = root / "unnamed"
    with open(unnamed, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        unnamed.rename(root / _OWNER)
        yield


def _remove_abandoned(prefix, parent):
    if fcntl is None:
        return
    for root in parent.glob(f"{prefix}*"):
        # Somebody else may remove it at the same time, or own it.
        with (
            contextlib.suppress(OSError),
            open(root / _OWNER, "rb+") as file,
        ):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(root, ignore_errors=True)
