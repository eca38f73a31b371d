"""Progress of long work: Keras's bar, or one line where nobody looks on."""

import builtins
import contextlib
import contextvars
import os
import sys
from collections.abc import Callable
from collections.abc import Iterator

import keras

_Report = Callable[[int, int | None], None]
_REPORT: contextvars.ContextVar[_Report | None] = contextvars.ContextVar(
    "report", default=None
)


@contextlib.contextmanager
def reported_to(report: _Report) -> Iterator[None]:
    """A context in which progress bars call a function and print nothing.

    Args:
        report: Called with the steps done and their total, `None` if that is
            unknown.
    """
    token = _REPORT.set(report)
    try:
        yield
    finally:
        _REPORT.reset(token)


class ProgressBar(keras.utils.Progbar):
    """Keras's progress bar, for a terminal or a notebook.

    Output that goes to a file gets one line at the end.

    Args:
        total: The number of steps, `None` if it is unknown.
        unit: What a step is called. Defaults to `"step"`, as in Keras.
        verbose: Whether to show anything. Defaults to `True`.
    """

    def __init__(self, total, unit="step", verbose=True):
        self._report = _REPORT.get()
        shown = verbose and self._report is None
        style = (1 if is_watched() else 2) if shown else 0
        super().__init__(total, verbose=style, unit_name=unit)
        self.current = 0

    def update(self, current, values=None, finalize=None):
        self.current = current
        if self._report is not None:
            self._report(current, self.target)
        super().update(current, values, finalize)

    def finish(self):
        """Ends the bar where it is, if it did not reach its total."""
        if self.current and self.current != self.target:
            self.target = self.current
            self.update(self.current)


def is_watched() -> bool:
    """Whether standard output is a terminal or a notebook."""
    return (
        (hasattr(sys.stdout, "isatty") and sys.stdout.isatty())
        or hasattr(builtins, "get_ipython")
        or "PYCHARM_HOSTED" in os.environ
    )
