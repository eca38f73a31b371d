"""The steps after training: export, verify, report."""

import json
import shutil

import numpy as np

from keras_distill import export as exporting
from keras_distill._files import write_whole
from keras_distill.datasets import subset
from keras_distill.metrics.decisions import paired_difference
from keras_distill.report import About
from keras_distill.report import Evidence
from keras_distill.report import Networks
from keras_distill.report import write_report
from keras_distill.workflow import choosing
from keras_distill.workflow import networks
from keras_distill.workflow.looking import fitted_kind

# A file that loses more points than this on the images that choose, and more
# than one image, does not ship; the bar of kd.export.Verification.check.
MAX_DROP = 0.5
CALIBRATION = 500


def shipped(run):
    """Which student ships, and why.

    Returns:
        `("distilled" or "alone", reason)`.
    """
    distilled, alone = run.folder.done("train"), run.folder.done("compare")
    if not choosing.distils(run.settings):
        return "alone", "training alone won the races"
    if alone is None:
        return "distilled", "the student was not trained alone to compare"
    n = len(run.data.validation[0])
    values = (
        f"{distilled['accuracy']:.1%} against {alone['accuracy']:.1%} alone, "
        f"on the {n:,} images that choose"
    )
    better = alone["accuracy"] > distilled["accuracy"]
    return ("alone" if better else "distilled"), values


def student(run):
    """The student that ships."""
    return run.distilled if shipped(run)[0] == "distilled" else run.alone


def file_name(quantization):
    suffix = "" if quantization == "float32" else f"_{quantization}"
    return f"student{suffix}.tflite"


def export(run, bar):
    """Writes the student, as Keras and as TFLite files."""
    model, folder = student(run), run.folder.path
    which, why = shipped(run)
    run.settings.facts["shipped"] = {"student": which, "why": why}
    model.save(folder / "student.keras")
    x, y = run.data.train
    number = min(CALIBRATION, len(x))
    labels = np.zeros(len(x), "int32") if y is None else y
    chosen, _ = subset(np.arange(len(x)), labels, number)
    samples = x[chosen].astype("float32")
    kinds = run.settings["quantization"]
    for i, kind in enumerate(kinds):
        bar.part(i, len(kinds))
        exporting.tflite(
            model,
            folder / file_name(kind),
            quantization=None if kind == "float32" else kind,
            representative_dataset=samples,
            metadata={
                "class_names": run.folder.done("look")["classes"],
                "input_range": _range(x),
            },
            overwrite=True,
        )
    files = [file_name(kind) for kind in kinds]
    bar.note(", ".join(["student.keras", *files]))
    return {"files": dict(zip(kinds, files)), "shipped": which, "why": why}


def _range(x):
    if np.dtype(x.dtype) == "uint8":
        return (0.0, 255.0)
    return (float(np.min(x)), float(np.max(x)))


def verify(run, bar):
    """Runs the files on images that nothing was chosen on."""
    files = {
        kind: run.folder.path / name
        for kind, name in run.folder.done("export")["files"].items()
    }
    model, data = student(run), run.data
    bar.part(0, 2)
    best, good = _best_file(run, files, model)
    bar.part(1, 2)
    tested = data.test if len(data.test[0]) else (data.train[0][:1000],)
    tested = _floats(tested)
    verification = exporting.verify(
        files,
        model,
        tested if len(tested) > 1 else tested[0],
        teacher=run.teacher,
    )
    write_whole(
        run.folder.path / "verification.json", verification.to_json().encode()
    )
    print(verification)
    rows = {row["file"]: row for row in verification.rows}
    row = rows[best]
    drop = row["accuracy_drop_points"]
    lost = "" if drop is None else f", loses {drop:.1f} points"
    bar.note(f"{file_name(best)} is the one to ship{lost}")
    costs = {
        "kib": row["size_bytes"] / 1024,
        "ms": row["latency_median_ms"],
        "macs": row["multiply_accumulates"],
    }
    budget = run.arguments.budget or {}
    return {
        "best": best,
        "loses_too_much": not good,
        **costs,
        "over_budget": [k for k, most in budget.items() if costs[k] > most],
        "accuracy": row["accuracy"],
        "drop": drop,
        "text": str(verification),
    }


def _best_file(run, files, model):
    """Returns which file ships, and whether it is as good as the network.

    It is the smallest that is, on the images that choose; the one that loses
    least if none is. With a budget, it is the one that the budget is about.
    """
    validation, budget = run.data.validation, run.arguments.budget
    if not len(validation[0]):
        best = (
            next(iter(files)) if budget is None else fitted_kind(run.settings)
        )
        return best, True
    chosen = exporting.verify(
        files,
        model,
        _floats(validation),
        latency_runs=0,
        measure_memory=False,
    )
    losses = {row["file"]: row["accuracy_drop_points"] for row in chosen.rows}
    most = max(MAX_DROP, 100 / len(validation[0]) + 1e-6)
    good = [kind for kind in files if losses[kind] <= most]
    if budget is not None:
        best = fitted_kind(run.settings)
    elif good:
        best = min(good, key=lambda kind: files[kind].stat().st_size)
    else:
        best = min(files, key=losses.get)
    return best, best in good


def _floats(arrays):
    return tuple(
        a.astype("float32") if np.dtype(a.dtype) == "uint8" else a
        for a in arrays
    )


def measure(run):
    """What the networks are worth on images that nothing was chosen on.

    Returns:
        A dict, `None` without labelled images: accuracies, the gain of the
        distilled student over the student alone and its interval, and the
        part of the gap that it closes.
    """
    x, y = run.data.test
    if not len(x):
        return None
    which, _ = shipped(run)
    right = {
        name: networks.decided(model, x) == y
        for name, model in (
            ("teacher", run.teacher),
            ("distilled", run.distilled),
            ("alone", run.alone),
        )
        if model is not None
    }
    both = {"distilled", "alone"} <= set(right)
    measured = {
        "images": len(x),
        "accuracy": {k: float(r.mean()) for k, r in right.items()},
        "shipped": which,
    }
    if both:
        gain, (low, high) = paired_difference(
            right["distilled"], right["alone"]
        )
        gap = measured["accuracy"]["teacher"] - measured["accuracy"]["alone"]
        measured["gain"] = {
            "difference": gain,
            "low": low,
            "high": high,
            "gap": gap,
            "gap_closed": gain / gap if gap > 0 else None,
        }
    return measured


def report(run, bar):
    """Writes the page."""
    folder, settings = run.folder, run.settings
    if not len(run.data.test[0]):
        bar.note("no labelled images: no report")
        return {}
    verification = None
    if folder.done("verify") is not None:
        stored = json.loads((folder.path / "verification.json").read_text())
        verification = exporting.Verification(**stored)
    histories = {
        f"student {name}": folder.done(step)["history"]
        for step, name in (("train", "distilled"), ("compare", "alone"))
        if folder.done(step) is not None and folder.done(step)["history"]
    }
    which, why = shipped(run)
    model = student(run)
    write_report(
        folder.path / "report.html",
        Networks(
            model,
            teacher=run.teacher,
            alone=run.alone if which == "distilled" else None,
        ),
        _floats(run.data.test),
        evidence=Evidence(verification=verification, history=histories),
        about=About(
            title=f"A student of {run.given_teacher.name}",
            class_names=folder.done("look")["classes"],
            configuration={
                "shipped": f"the student {which}: {why}",
                **{
                    name: f"{entry['value']} ({entry['why']})"
                    for name, entry in settings.entries.items()
                    if name != "class_names"
                },
                **settings.facts,
            },
            seeds=settings["seed"],
        ),
        overwrite=True,
    )
    bar.note("report.html, report.json")
    return {}


def clean(run):
    """Deletes what only the steps needed."""
    for name in ("images", "validation_images", "unlabelled_images"):
        shutil.rmtree(run.folder.work(name), ignore_errors=True)
