"""The steps that train: diagnose, choose, cache, train, compare."""

import errno
import shutil

import numpy as np

from keras_distill import datasets
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
    samples = len(run.all_images)
    classes = len(run.folder.done("look")["classes"])
    _check_space(run, samples * classes * 2)
    try:
        built = _cache(run)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _disk_full(run, samples * classes * 2) from error
    size = built.samples * built.bytes_per_view
    bar.note(
        f"the teacher's outputs for {samples:,} images, {size / 1e6:.1f} MB"
    )
    return {"samples": samples}


def _cache(run):
    from keras_distill import TeacherCache

    return TeacherCache.build(
        run.teacher, run.all_images, run.folder.work("teacher_outputs")
    )


def _check_space(run, size):
    free = shutil.disk_usage(run.folder.work("")).free
    if free < size + _SPARE_BYTES:
        raise _disk_full(run, size)


def _disk_full(run, size):
    folder = run.folder.work("teacher_outputs")
    free = shutil.disk_usage(run.folder.work("")).free
    return OSError(
        errno.ENOSPC,
        f"The disk is full: the teacher's outputs take {size / 1e6:.1f} MB in "
        f"'{folder}', and {free / 1e6:.1f} MB are free. Make room and start "
        "the same line again: it goes on from here. Or train with the live "
        "teacher, skip=['cache'] (--skip cache), which takes longer.",
    )


def train(run, bar):
    """Trains the student with the teacher."""
    settings = run.settings
    steps = training.length(settings["steps"])
    distiller, dataset = _distiller(run, steps)
    data = run.data
    history = training.fit(
        run,
        "train",
        distiller,
        dataset,
        steps,
        data.validation if len(data.validation[0]) else None,
        bar,
    )
    student = distiller.student
    student.save(run.folder.work("distilled.keras"))
    result = _trained(run, student, history, steps, bar)
    return result


def _distiller(run, steps):
    """The compiled Distiller that the settings ask for, and its data."""
    from keras_distill import Distiller
    from keras_distill import losses

    settings, data = run.settings, run.data
    alpha = settings["alpha"]
    cached = run.folder.done("cache") is not None
    distiller = Distiller(
        student=run.student(),
        teacher=None if cached else run.teacher,
        distillation_losses=losses.SoftTargets(
            temperature=settings["temperature"], teacher_probabilities=False
        ),
        alpha=alpha,
    )
    distiller.compile(
        training.optimizer(settings["learning_rate"], steps),
        None if alpha == 1 else training.task_loss(),
        metrics=["accuracy"],
    )
    # Images without labels come with those that have some, without theirs.
    mixed = data.unlabelled is not None or data.train[1] is None
    dataset = datasets.batches(
        run.all_images if mixed else data.train[0],
        None if mixed else data.train[1],
        settings["batch_size"],
        seed=settings["seed"],
        indexed=True,
    )
    if cached:
        dataset = _cache(run).join(dataset)
    return distiller, dataset


def compare(run, bar):
    """Trains the same student alone, on the labelled images."""
    from keras_distill import Distiller

    settings, data = run.settings, run.data
    steps = training.length(settings["steps"])
    alone = Distiller(
        student=run.student(),
        distillation_losses=training.NoTeacher(),
        alpha=0.0,
    )
    alone.compile(
        training.optimizer(settings["learning_rate"], steps),
        training.task_loss(),
        metrics=["accuracy"],
    )
    dataset = datasets.batches(
        *data.train, settings["batch_size"], seed=settings["seed"]
    )
    history = training.fit(
        run, "compare", alone, dataset, steps, data.validation, bar
    )
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
