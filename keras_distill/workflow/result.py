"""What a run returns, and the five lines that it ends with."""

import dataclasses
import pathlib
from typing import Any

import keras

from keras_distill.workflow import shipping
from keras_distill.workflow.screen import duration


@dataclasses.dataclass(frozen=True)
class Distilled:
    """What came of `kd.distill`; `print` shows it in five lines.

    Attributes:
        student: The `keras.Model` that ships, trained.
        shipped: `"distilled"`, or `"alone"` if distilling did not pay.
        output: The folder of the run.
        files: A dict from quantization to the path of its TFLite file.
        best: The quantization of the file to ship, or `None`.
        measured: Accuracies on images that nothing was chosen on, the gain
            over training alone and its 95 % interval; `None` without labels.
        settings: A dict from name to `{"value", "why"}`.
        lines: The five lines, a list of texts.
    """

    student: keras.Model
    shipped: str
    output: pathlib.Path
    files: dict[str, pathlib.Path]
    best: str | None
    measured: dict[str, Any] | None
    settings: dict[str, dict[str, Any]]
    lines: list[str]

    def __str__(self):
        return "\n".join(self.lines)


def result_of(run):
    """The `Distilled` of a run that is over."""
    folder = run.folder
    exported = folder.done("export") or {"files": {}}
    verified = folder.done("verify")
    measured = folder.done("measure")
    return Distilled(
        student=shipping.student(run),
        shipped=shipping.shipped(run)[0],
        output=folder.path,
        files={
            kind: folder.path / name for kind, name in exported["files"].items()
        },
        best=None if verified is None else verified["best"],
        measured=measured,
        settings=run.settings.entries,
        lines=_lines(run, verified, measured),
    )


def _lines(run, verified, measured):
    folder, which = run.folder, shipping.shipped(run)[0]
    what = "the student distilled from the teacher"
    if which == "alone":
        what = "the student trained alone: distilling did not pay here"
    if measured is not None:
        low, high = measured["interval"]
        what += f", right on {measured['accuracy'][which]:.1%} ({low:.0%}-{high:.0%})"
    name = "student.keras"
    costs = f"{run.settings.facts['student_parameters']:,} parameters"
    if verified is not None:
        name = shipping.file_name(verified["best"])
        costs = (
            f"{verified['kib']:.1f} KiB, {verified['milliseconds']:.2f} ms on "
            f"one thread here (not a phone), {costs}"
        )
    elif folder.done("export") is not None:
        name = "student.keras and the .tflite files, not verified"
    return [
        f"What:  {what}",
        f"Where: {folder.path / name}",
        f"Costs: {costs}; the run took {duration(folder.seconds())}",
        f"Gain:  {_gain(measured)}",
        f"Next:  {_next(run, measured)}",
    ]


def _gain(measured):
    if measured is None:
        return "not known: no labelled image was held out"
    if "gain" not in measured:
        return "not known: the student was not trained alone (compare)"
    gain = measured["gain"]
    low, middle, high = (100 * gain[k] for k in ("low", "difference", "high"))
    sure = "sure" if low > 0 else "surely a loss" if high < 0 else "not sure"
    words = (
        f"{middle:+.1f} points by distilling ({low:+.1f} to {high:+.1f}), {sure} "
        f"on {measured['images']:,} images"
    )
    closed = gain["gap_closed"]
    if closed is not None and gain["difference"] > 0:
        words += f"; {closed:.0%} of the gap"
    return words


def _next(run, measured):
    folder = run.folder
    report = folder.path / "report.html"
    look = f"look at {report}" if report.exists() else "skip fewer steps"
    gain = (measured or {}).get("gain")
    if gain is not None and gain["gap"] <= 0:
        return f"{look}; a better teacher: this one is not better than alone"
    if gain is not None and gain["low"] <= 0 and run.data.unlabelled is None:
        return f"{look}; more images, without labels too (unlabelled)"
    return f"{look}, then try the file on the phone"
