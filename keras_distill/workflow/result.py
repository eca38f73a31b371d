"""What a run returns, and the five lines that it ends with."""

import dataclasses
import pathlib
from typing import Any

import keras

from keras_distill.metrics.decisions import accuracy_interval
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
        what = "the student alone (it was better so)"
    if measured is not None:
        right = measured["accuracy"][which]
        if verified is not None:
            right = verified["accuracy"]  # of the file
        low, high = accuracy_interval(right, measured["images"])
        what += f", {right:.1%} right ({100 * low:.0f}-{100 * high:.0f} %)"
    name = "student.keras"
    costs = f"{run.settings.facts['student_parameters']:,} parameters"
    if verified is not None:
        name = shipping.file_name(verified["best"])
        costs = (
            f"{verified['kib']:.1f} KiB, {verified['ms']:.2g} ms here (not on "
            f"a phone), {costs}"
        )
        if verified["over_budget"]:
            costs += f", over budget: {', '.join(verified['over_budget'])}"
    elif folder.done("export") is not None:
        costs += ", the .tflite files are not verified"
    return [
        f"What:  {what}",
        f"Where: {folder.path / name}",
        f"Costs: {costs}; {duration(folder.seconds())}",
        f"Gain:  {_gain(measured)}",
        f"Next:  {_next(run, verified, measured)}",
    ]


def _gain(measured):
    if measured is None:
        return "not known: there was no labelled image to test"
    if "distilled" not in measured["accuracy"]:
        return "none: training alone won the races on the images that choose"
    if "gain" not in measured:
        return "not known: the student was not trained alone (compare)"
    gain = measured["gain"]
    low, middle, high = (100 * gain[k] for k in ("low", "difference", "high"))
    sure = "sure" if low > 0 else "surely a loss" if high < 0 else "not sure"
    closed = gain["gap_closed"]
    of_gap = ""
    if closed is not None and gain["difference"] > 0:
        of_gap = f", {closed:.0%} of the gap"
    points = f"{middle:+.1f} points ({low:+.1f} to {high:+.1f})"
    images = f"{measured['images']:,} test images"
    if measured["shipped"] == "alone":
        return f"none; distilled it would be {points} on {images}"
    return f"{points}, {sure} on {images}{of_gap}"


def _next(run, verified, measured):
    folder = run.folder
    report = folder.path / "report.html"
    look = f"look at {report.name}" if report.exists() else "skip fewer steps"
    gain = (measured or {}).get("gain")
    if verified is not None and verified["loses_too_much"]:
        kind = verified["best"]
        return f"{look}; {kind} loses too much: try kd.quantization.fine_tune"
    if gain is not None and gain["gap"] <= 0:
        return f"{look}; take a better teacher, this one is not better"
    if gain is not None and gain["low"] <= 0 and run.data.unlabelled is None:
        return f"{look}; more images, also without labels (unlabelled)"
    return f"{look}, then try the file on the phone"
