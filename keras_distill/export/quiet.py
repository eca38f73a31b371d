"""Keeps the logs of converters from the terminal, and nothing else.

They log every file that they read, on standard error, from native code and
from Python. What is wrong they raise.
"""

import contextlib
import logging
import os
import pathlib
import re
import sys
import tempfile
import threading

import keras
import tensorflow as tf

# Lines of TensorFlow's, MLIR's and LiteRT's native logs.
_LOGGED = re.compile(
    rb"[IWE]\d{4} \d\d:\d\d:|\d{4}-\d\d-\d\d [\d:.]+: [IWE] |"
    rb"WARNING: All log messages before absl|fully_quantize: |"
    rb"INFO: (Created|Initialized|Applying|Replacing) "
)
_PACKAGES = tuple(
    f"{pathlib.Path(package.__file__).parent}{os.sep}"
    for package in (tf, keras)
)
# Standard error is one for the whole process.
_ALONE = threading.RLock()


@contextlib.contextmanager
def without_native_log():
    """A context in which native code does not log.

    What else goes to standard error meanwhile appears at the end.
    """
    with _ALONE, tempfile.TemporaryFile() as log:
        try:
            stderr = os.dup(2)
        except OSError:  # a process without one
            yield
            return
        _flush()
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            log.seek(0)
            for line in log:
                if not _LOGGED.match(line):
                    os.write(2, line)


@contextlib.contextmanager
def without_python_log():
    """A context in which TensorFlow and Keras log errors only."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    for logger in loggers:
        logger.addFilter(_matters)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_matters)


def _matters(record):
    return record.levelno >= logging.ERROR or not record.pathname.startswith(
        _PACKAGES
    )


def _flush():
    with contextlib.suppress(Exception):  # `None`, closed, or of a notebook
        sys.stderr.flush()
