"""Progress of long work: Keras's bar, or one line where nobody looks on."""

import builtins
import os
import sys

import keras


class ProgressBar(keras.utils.Progbar):
    """Keras's progress bar, for a terminal or a notebook.

    Output that goes to a file gets one line at the end.

    Args:
        total: The number of steps, `None` if it is unknown.
        unit: What a step is called. Defaults to `"step"`, as in Keras.
        verbose: Whether to show anything. Defaults to `True`.
    """

    def __init__(self, total, unit="step", verbose=True):
        style = (1 if _is_watched() else 2) if verbose else 0
        super().__init__(total, verbose=style, unit_name=unit)
        self.current = 0

    def update(self, current, values=None, finalize=None):
        self.current = current
        super().update(current, values, finalize)

    def finish(self):
        """Ends the bar where it is, if it did not reach its total."""
        if self.current and self.current != self.target:
            self.target = self.current
            self.update(self.current)


def _is_watched():
    return (
        (hasattr(sys.stdout, "isatty") and sys.stdout.isatty())
        or hasattr(builtins, "get_ipython")
        or "PYCHARM_HOSTED" in os.environ
    )
