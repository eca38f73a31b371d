"""The steps that train: diagnose, choose, cache, train, compare."""

import errno
import shutil

import numpy as np

from keras_distill import datasets
from keras_distill.distillers import Distiller
from keras_distill.recipes.rule import cosine_adam
from keras_distill.workflow import choosing
from keras_distill.workflow import networks
from keras_distill.workflow import training

# What a cache keeps of an image beside the logits, and what must stay free.
_SPARE_BYTES = 10e6


def diagnose(run, bar):
    """Says beforehand whether there is anything to gain."""
    from keras_distill.diagnosis import diagnose as diagnosed

    if run.data.train[1] is None:
        bar.note("no labels: nobody can say what there is to gain")
        return {"findings": []}
    steps = max(1, run.settings["steps"] // 5)
    diagnosis = diagnosed(
        student=run.student(),
        teacher=run.teacher,
        dataset=run.data.train,
        validation_data=run.data.validation,
        steps=steps,
        batch_size=run.settings["batch_size"],
        verbose=True,
    )
    facts = diagnosis.as_dict()
    kinds = [finding["kind"] for finding in facts["findings"]]
    difference = facts["headroom"]["accuracy"]
    low, middle, high = (
        100 * difference[k] for k in ("low", "difference", "high")
    )
    bar.note(
        f"headroom at most {middle:+.1f} points ({low:+.1f} to {high:+.1f}): "
        f"teacher minus student alone after {steps:,} steps; "
        f"{', '.join(kinds).replace('_', ' ')} (log.txt)"
    )
    return {
        "findings": facts["findings"],
        "headroom": difference,
        "text": str(diagnosis),
    }


def cache(run, bar):
    """Computes what the teacher says of every image, once."""
    if not choosing.distils(run.settings):
        bar.note("not needed")
        return {}
    samples = len(run.taught[0])
    least = 2 * samples * len(run.folder.done("look")["classes"])
    free = shutil.disk_usage(run.folder.work("")).free
    if free < least + _SPARE_BYTES:
        raise _disk_full(run, least)
    try:
        built = _cache(run)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _disk_full(run, least) from error
    size = samples * built.epochs * built.bytes_per_view
    bar.note(
        f"what the teacher says of {samples:,} images, {size / 1e3:,.0f} kB"
    )
    return {"samples": samples}


def _cache(run):
    """Builds or opens the cache that the settings need, as kd.choose does."""
    from keras_distill.diagnosis.choosing.races import cached

    return cached(
        run.teacher,
        run.taught[0],
        choosing.candidate(run, run.student()),
        run.folder.work("teacher_outputs"),
        verbose=True,
    )


def _disk_full(run, size):
    folder = run.folder.work("teacher_outputs")
    free = shutil.disk_usage(run.folder.work("")).free
    return OSError(
        errno.ENOSPC,
        "The disk is full: the teacher's outputs take at least "
        f"{size / 1e6:.1f} MB in '{folder}', and {free / 1e6:.1f} MB are "
        "free. Make room and start the same line again: it goes on from here. "
        "Or train with the live teacher, skip=['cache'] (--skip cache), which "
        "takes longer.",
    )


def train(run, bar):
    """Trains the student with the teacher."""
    settings, data = run.settings, run.data
    if not choosing.distils(settings):
        bar.note("not done: the student is trained alone (compare)")
        return {"accuracy": None, "history": None}
    steps = training.length(settings["steps"])
    student = run.student()
    chosen = choosing.candidate(run, student)
    cached = run.folder.done("cache") is not None
    distiller = Distiller(
        student=student,
        teacher=None if cached else run.teacher,
        **chosen.distiller_arguments(),
    )
    x, y = run.taught
    distiller.compile(
        cosine_adam(settings["learning_rate"], steps),
        None if y is None else training.task_loss(),
        metrics=["accuracy"],
    )
    dataset = datasets.batches(
        x, y, settings["batch_size"], seed=settings["seed"], indexed=True
    )
    history = training.fit(
        run,
        "train",
        distiller,
        _cache(run).join(dataset) if cached else dataset,
        steps,
        data.validation if len(data.validation[0]) else None,
        bar,
    )
    student.save(run.folder.work("distilled.keras"))
    return _trained(run, student, history, steps, bar)


def compare(run, bar):
    """Trains the same student alone, on the labelled images."""
    settings, data = run.settings, run.data
    steps = training.length(settings["steps"])
    alone = Distiller(
        student=run.student(),
        distillation_losses=training.NoTeacher(),
        alpha=0.0,
    )
    alone.compile(
        cosine_adam(settings["learning_rate"], steps),
        training.task_loss(),
        metrics=["accuracy"],
    )
    dataset = datasets.batches(
        *data.train, settings["batch_size"], seed=settings["seed"]
    )
    history = training.fit(
        run, "compare", alone, dataset, steps, data.validation, bar
    )
    # The terms of the teacher that there is not.
    history = {
        name: values
        for name, values in history.items()
        if not name.endswith(("distillation_loss", "no_teacher_loss"))
    }
    alone.student.save(run.folder.work("alone.keras"))
    return _trained(run, alone.student, history, steps, bar)


def _trained(run, student, history, steps, bar):
    x, y = run.data.validation
    accuracy = None
    if len(x):
        accuracy = float(np.mean(networks.decided(student, x) == y))
        bar.note(
            f"{steps:,} steps; right on {accuracy:.1%} of {len(x):,} images "
            "that choose"
        )
    return {"accuracy": accuracy, "history": history}
