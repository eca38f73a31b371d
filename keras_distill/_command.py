"""Keeps what TensorFlow logs when it is imported from the command's screen.

It writes to standard error before anything can be asked of it, whatever
`TF_CPP_MIN_LOG_LEVEL` says. So the package imports this first of all: in the
command `keras-distill`, standard error is held back until `release`.
"""

import os
import sys
import tempfile

# What was written meanwhile.
log = ""
_held = None


def is_command():
    """Whether this process is `keras-distill` or `python -m keras_distill`."""
    program = os.path.basename(sys.argv[0]) if sys.argv else ""
    if program == "-m":
        return "keras_distill" in sys.orig_argv
    return program in ("keras-distill", "keras-distill.exe")


def hold():
    """Holds standard error back from now on."""
    global _held
    _held = os.dup(2), tempfile.TemporaryFile(), sys.excepthook
    os.dup2(_held[1].fileno(), 2)
    sys.excepthook = _released_hook


def release():
    """Gives standard error back. What was written meanwhile is `log`."""
    global _held, log
    if _held is None:
        return
    stderr, file, sys.excepthook = _held
    _held = None
    os.dup2(stderr, 2)
    os.close(stderr)
    with file:
        file.seek(0)
        log = file.read().decode(errors="replace")


def _released_hook(*error):
    release()
    sys.stderr.write(log)
    sys.excepthook(*error)


if is_command():
    hold()
