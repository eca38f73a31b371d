"""The progress bar: on a terminal, and where output is redirected."""

import io
import sys

import pytest

from keras_distill import _progress
from keras_distill._progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("total", [7, 9, None])
def test_redirected_output_gets_one_line(total, capsys):
    bar = ProgressBar(total, "batch")
    for step in range(7):
        bar.update(step + 1, [("loss", 0.5)])
    bar.finish()
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and "\r" not in printed
    assert printed.startswith("7/7 - ")
    assert "/batch" in printed and "loss: 0.5" in printed


def test_a_terminal_sees_every_step(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    bar = ProgressBar(3)
    bar.interval = 0
    for step in range(3):
        bar.add(1)
    bar.finish()
    for step in ("1/3", "2/3", "3/3"):
        assert terminal.getvalue().count(step) == 1
    # No line of its own for any of them.
    assert terminal.getvalue().count("\n") == 1


def test_a_silent_bar_and_one_without_steps(capsys, monkeypatch):
    for bar in ProgressBar(1, verbose=False), ProgressBar(None):
        bar.finish()
    silent = ProgressBar(1, verbose=False)
    silent.update(1)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert _progress.is_watched()
