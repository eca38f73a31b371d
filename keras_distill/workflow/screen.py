"""The screen of a run: a bar per step. All else is written to the log."""

import contextlib
import os
import sys
import textwrap
import time
import traceback

import tqdm

from keras_distill import _command
from keras_distill._progress import is_watched
from keras_distill._progress import reported_to

WIDTH = 80
# Columns of a step's name and of its time.
_NAME, _TIME = 9, 6


class Screen:
    """What the user sees, while standard output and error go to a file.

    They go there as file descriptors, so that native code and child processes
    write there too.

    Args:
        log: The path of the file, which is appended to.
        verbose: Whether to show anything.

    Example:

    ```python
    from keras_distill.workflow.screen import Screen

    with Screen("log.txt") as screen:
        print("into the log")
        with screen.step("train", seconds=60) as step:
            step.report(1, 2)
            step.note("90 % right")
    ```
    """

    def __init__(self, log, verbose=True):
        self.log, self.verbose = log, verbose
        self._exit = contextlib.ExitStack()

    def __enter__(self):
        self.watched = self.verbose and is_watched()
        self._stream = self._exit.enter_context(_screen())
        log = self._exit.enter_context(
            open(self.log, "a", buffering=1, encoding="utf-8")
        )
        for number in 1, 2:
            self._exit.enter_context(_redirected(number, log))
        self._exit.enter_context(contextlib.redirect_stdout(log))
        self._exit.enter_context(contextlib.redirect_stderr(log))
        print(_command.log)
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            with contextlib.suppress(OSError):  # The disk may be full.
                traceback.print_exception(kind, error, trace)
        return self._exit.__exit__(kind, error, trace)

    def line(self, text=""):
        """Shows a line, and writes it to the log too."""
        print(text)
        if self.verbose:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    @contextlib.contextmanager
    def step(self, name, seconds=None):
        """A context with the bar of one step, and a line at its end.

        Args:
            name: What the step is called.
            seconds: How long it is expected to take, if that is known.

        Yields:
            A `Step`.
        """
        print(f"===== {name}")
        bar = Step(name, seconds, self._stream, self.watched)
        began = time.perf_counter()
        try:
            with reported_to(bar.report):
                yield bar
        finally:
            bar.close()
        took = duration(time.perf_counter() - began)
        self.said(name, took, bar.text)

    def said(self, name, took, text):
        """Shows what came of a step."""
        indent = " " * (_NAME + _TIME + 2)
        lines = textwrap.wrap(
            text, WIDTH, initial_indent=indent, subsequent_indent=indent
        )
        first = lines[0].strip() if lines else ""
        self.line(f"{name:{_NAME}}{took:>{_TIME}}  {first}".rstrip())
        for line in lines[1:]:
            self.line(line)


class Step:
    """The bar of one step."""

    def __init__(self, name, seconds, stream, watched):
        about = f" (about {duration(seconds)})" if seconds else ""
        self.text = ""
        self._part, self._parts = 0, 1
        self._bar = tqdm.tqdm(
            total=1.0,
            desc=f"{name:{_NAME}}{about}",
            bar_format="{desc} {bar} {percentage:3.0f} % {elapsed}<{remaining}",
            ncols=WIDTH,
            file=stream,
            leave=False,
            disable=not watched,
        )

    def part(self, number, parts):
        """Says that what is reported from now on is a part of the step."""
        self._part, self._parts = number, parts
        self.report(0, 1)

    def report(self, done, total):
        """Moves the bar; `total` is `None` if it is not known."""
        if total:
            share = (self._part + min(1.0, done / total)) / self._parts
            self._bar.update(max(0.0, min(1.0, share) - self._bar.n))

    def note(self, text):
        """Sets the text of the line that is left of the step."""
        self.text = text

    def close(self):
        self._bar.close()


def duration(seconds):
    """`"4 s"`, `"12 min"` or `"1.5 h"`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 6000:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def _screen():
    """Yields a stream to the screen that redirections do not reach."""
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # A notebook, a test.
        yield sys.stdout
        return
    sys.stdout.flush()
    with open(
        os.dup(number), "w", encoding=sys.stdout.encoding, errors="replace"
    ) as stream:
        yield stream


@contextlib.contextmanager
def _redirected(number, log):
    """A context in which a file descriptor writes to a file."""
    with contextlib.suppress(Exception):
        (sys.stdout if number == 1 else sys.stderr).flush()
    try:
        before = os.dup(number)
    except OSError:  # A process without one.
        yield
        return
    os.dup2(log.fileno(), number)
    try:
        yield
    finally:
        os.dup2(before, number)
        os.close(before)
