"""The first step: data, teacher and student, and what can be known of them."""

import math
import time

import keras
import numpy as np

from keras_distill.cost import multiply_accumulates
from keras_distill.distillers import Distiller
from keras_distill.recipes.rule import cosine_adam
from keras_distill.teachers.input_scale import scale_of_layers
from keras_distill.workflow import data as images
from keras_distill.workflow import networks
from keras_distill.workflow import training
from keras_distill.workflow.screen import duration

# A run without a time limit has so many steps, or so many passes over the
# images if these are more. kd.recipes.settings has the table behind it.
STEPS, PASSES = 3600, 20
# A cached teacher makes a step 1.1 times as long as one without a teacher; the
# rest is the validation.
STEP_FACTOR = 1.2
# The part of the training's time that choosing and diagnosing may take, each.
PART = 0.2
# A file has so much beside the network, and what its layer for the pixels
# leaves of the time.
_ROOM_KIB, _PART_OF_MS = 1.5, 0.85
_SMALLEST_FIRST = ("int8", "int16x8", "dynamic", "float16", "float32")
# What export, verification and report take, in seconds.
SECONDS_TO_SHIP = 60


def look(run, bar):
    """Looks at data and teacher, makes the student, and plans the run."""
    settings = run.settings
    seed = settings.settle("seed", 0, "the default")
    bar.part(0, 2)
    data = run.data
    names = _class_names(run)
    teacher = run.given_teacher
    said = settings.fixed.get("class_names")
    known = said or getattr(teacher, "class_names", None)
    # Labels without names are in the teacher's order, which is looked at.
    unnamed = data.class_names is None and said is None
    x, y = data.train
    is_bytes = np.dtype(x.dtype) == "uint8"
    # Those of keras.utils.image_dataset_from_directory are floats to 255.
    are_pixels = is_bytes or (0 <= x.min() and x.max() > 2)
    if "teacher_scale" in settings.fixed and not is_bytes:
        raise ValueError(
            "settings['teacher_scale'] is for images of bytes (uint8). data "
            f"holds {x.dtype}, and the teacher takes such numbers as they "
            "are. Leave it out, or give the images as uint8."
        )
    order = np.random.default_rng(seed).permutation(len(x))
    order = np.sort(order[: networks.LOOKED_AT])
    taken = networks.look_at_teacher(
        teacher,
        x[order],
        None if y is None else y[order],
        names,
        None if unnamed else known,
        settings.fixed.get("teacher_scale", "find" if is_bytes else None),
    )
    units = max(2, taken["units"])
    names = names or known or [str(i) for i in range(units)]
    _note_teacher(settings, taken, is_bytes, known)
    image = tuple(x.shape[1:])
    settings.settle(
        "image_size",
        list(image[:2]),
        "what the student takes; without one of yours, what the teacher takes",
    )
    settings.settle("class_names", known or names, "of the data or the teacher")
    keras.utils.set_random_seed(seed)
    settings.settle(
        "quantization",
        ["float32", "int8"],
        "int8 for the phone, float32 to compare with",
    )
    student, why = _student(run, image, names, is_bytes, are_pixels)
    student.save(run.folder.work("start.keras"))
    bar.part(1, 2)
    batch_size = settings.settle("batch_size", 128, "the default")
    adapted = networks.adapted(teacher, image, taken)
    per_step, per_image = _times(run, student, adapted, batch_size)
    _plan(run, per_step, per_image)
    facts = settings.facts
    facts["student"] = why
    facts["student_parameters"] = student.count_params()
    facts["student_multiply_accumulates"] = multiply_accumulates(student)
    facts["images"] = {
        "training": len(x),
        "choosing": len(data.validation[0]),
        "testing": len(data.test[0]),
        "unlabelled": 0 if data.unlabelled is None else len(data.unlabelled),
        "skipped": len(data.skipped),
        "division": data.where,
    }
    for file, reason in data.skipped:
        print(f"skipped: {file}: {reason}")
    accuracy = None
    if len(data.validation[0]):
        x, y = data.validation
        accuracy = float(np.mean(networks.decided(adapted, x) == y))
        facts["teacher_accuracy_on_choosing_images"] = accuracy
    bar.note(_words(run, len(names), accuracy, student))
    return {
        "teacher": taken,
        "classes": [str(name) for name in names],
        "images": images.checksum_of_parts(data),
    }


def check_same_images(run):
    """Raises if a run that goes on has other images than it began with."""
    if images.checksum_of_parts(run.data) != run.folder.done("look")["images"]:
        raise ValueError(
            f"output='{run.folder.path}' holds a run on other images: files "
            "came, went or changed since, and some that it has trained on "
            "might test it now. Give the images as they were, choose another "
            "folder, or pass overwrite=True (--overwrite)."
        )


def _class_names(run):
    """The names of the data's classes; `None` without labels."""
    data = run.data
    labels = [
        part[1] for part in (data.train, data.test) if part[1] is not None
    ]
    if not labels:
        return None
    classes = np.unique(np.concatenate(labels))
    if len(classes) < 2:
        raise ValueError(
            f"data has one class, {data.class_names or classes.tolist()}: "
            "there is nothing to tell apart. A folder needs a folder of "
            "images for each class; for images without classes use "
            "unlabelled=."
        )
    if data.class_names is not None:
        return list(data.class_names)
    number = max(int(classes.max()) + 1, data.classes or 0)
    known = run.settings.fixed.get("class_names")
    if known is not None and len(known) >= number:
        return list(known)
    theirs = getattr(run.given_teacher, "class_names", None)
    if theirs is not None and len(theirs) == number:
        return list(theirs)
    return [str(i) for i in range(number)]


def _note_teacher(settings, taken, is_bytes, names):
    settings.facts["teacher"] = {
        "gives": taken["gives"],
        "units": taken["units"],
        "class_map": taken["class_map"],
    }
    if taken["scale"] is not None:
        settings.settle(
            "teacher_scale",
            taken["scale"],
            "its accuracy on training images is best so, or its layers say so",
        )


def _student(run, image, names, is_bytes, are_pixels):
    """Returns the student with its initial weights, and what it is."""
    from keras_distill import models

    given, budget = run.given_student, run.arguments.budget
    classes = len(names)
    if given is not None:
        shape = networks.input_shape(given)
        if shape is not None and any(
            a not in (None, b) for a, b in zip(shape, image, strict=True)
        ):
            raise ValueError(
                f"student '{given.name}' takes images of {shape}, and the "
                f"data has {image}."
            )
        # A subclassed model has no `output_shape`.
        output = given.compute_output_spec(keras.KerasTensor((None, *image)))
        output = keras.tree.map_structure(lambda tensor: tensor.shape, output)
        if output != (None, classes):
            raise ValueError(
                f"student must return logits of {classes} classes. Received: "
                f"'{given.name}', whose output is {output}"
            )
        if is_bytes and scale_of_layers(given) != "[0, 255]":
            return networks.with_pixels(given, image), (
                "yours, behind a layer that brings pixels to [0, 1]"
            )
        return given, "yours"
    settings = run.settings
    options = {"width": 1.0, "depth": 3, "activation": "relu6"}
    why = "kd.models.mobile; there is no budget"
    if {"width", "depth"} & set(settings.fixed):
        why = "kd.models.mobile; what the settings leave open is the default"
    elif budget is not None:
        fitted = _fitted(run, image, names)
        options = fitted.options
        measured = ", ".join(f"{v:.4g} {k}" for k, v in fitted.measured.items())
        why = f"the largest kd.models.mobile within {budget}: {measured}"
    for name, value in options.items():
        options[name] = settings.settle(name, value, why)
    keras.utils.set_random_seed(settings["seed"])
    model = models.mobile(image, classes, **options)
    return networks.with_pixels(model, image) if are_pixels else model, why


def fitted_kind(settings):
    """The quantization of the file that the budget is about."""
    kinds = settings["quantization"]
    return next(kind for kind in _SMALLEST_FIRST if kind in kinds)


def _fitted(run, image, names):
    """The student that fits the budget as the file will be."""
    from keras_distill import models

    budget = dict(run.arguments.budget)
    # Beside the network the file holds names and a layer for the pixels.
    room = _ROOM_KIB + sum(len(str(name).encode()) + 4 for name in names) / 1024
    if "kib" in budget:
        budget["kib"] = max(0.1, budget["kib"] - room)
    if "ms" in budget:
        budget["ms"] *= _PART_OF_MS
    kind = fitted_kind(run.settings)
    try:
        return models.mobile_within(
            budget,
            image,
            len(names),
            activation=run.settings.fixed.get("activation", "relu6"),
            quantization=None if kind == "float32" else kind,
            seed=run.settings["seed"],
        )
    except ValueError as error:
        raise ValueError(
            f"No student meets budget={run.arguments.budget}, of which "
            f"{room:.1f} KiB are kept for class names and a layer for the "
            f"pixels: {error}"
        ) from error


def _times(run, student, teacher, batch_size):
    """Measures the seconds of a step, and of an image for the teacher."""
    x, y = run.data.train
    x = np.resize(x[:batch_size], (batch_size, *x.shape[1:]))
    if y is None:
        y = np.zeros(batch_size, "int32")
    y = np.resize(y[:batch_size], batch_size)
    copy = Distiller(
        student=run.student(),
        distillation_losses=training.NoTeacher(),
        alpha=0.0,
    )
    copy.compile(cosine_adam(1e-3, 100), training.task_loss())
    per_step = _median_time(lambda: copy.train_on_batch(x, y))
    x = x.astype("float32")
    infer = keras.ops.convert_to_numpy
    function = lambda: infer(teacher.predict_on_batch(x))  # noqa: E731
    return per_step, _median_time(function) / batch_size


def _median_time(call, warm=2, timed=5):
    times = []
    for _ in range(warm + timed):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times[warm:]))


def _plan(run, per_step, per_image):
    """Settles the number of steps, and estimates the seconds of each step."""
    settings, limit = run.settings, run.arguments.time_limit
    samples = len(run.data.train[0])
    if run.data.unlabelled is not None:
        samples += len(run.data.unlabelled)
    per_epoch = math.ceil(samples / settings["batch_size"])
    wanted = max(STEPS, PASSES * per_epoch)
    why = f"{STEPS:,}, or {PASSES} passes over the images if these are more"
    per_step *= STEP_FACTOR
    shares = _shares(run)
    if limit is not None and "steps" not in settings.fixed:
        seen = wanted * settings["batch_size"] / samples
        teacher = _teacher_passes(seen) * per_image * samples
        left = limit - run.seconds() - teacher
        left -= 0 if run.skips("export") else SECONDS_TO_SHIP
        left -= _trial_steps() * per_step if "diagnose" in shares else 0
        possible = int(left / (per_step * sum(shares.values())))
        if possible < per_epoch:
            least = limit - left + per_epoch * per_step * sum(shares.values())
            raise ValueError(
                f"time_limit={limit:g} is shorter than one epoch: so far the "
                f"run took {duration(run.seconds())}, the teacher needs "
                f"{duration(teacher)} for its outputs, and one "
                f"pass over the {samples:,} images takes "
                f"{duration(per_epoch * per_step)} per training. Give at least "
                f"{math.ceil(least)} seconds, fewer images, a smaller student, "
                "or skip=['compare', 'choose']."
            )
        if possible < wanted:
            wanted, why = possible, f"what time_limit={limit:g} s allows"
    steps = settings.settle("steps", wanted, why)
    settings.facts["seconds_expected"] = {
        **{name: share * steps * per_step for name, share in shares.items()},
        "cache": per_image * samples,
    }


def _teacher_passes(seen):
    """How often the teacher runs on all images, at most.

    Once as they are and once for its attention maps; and on crops, where each
    image is seen often enough.

    Args:
        seen: How often the student sees each image.
    """
    from keras_distill.diagnosis.choosing.candidates import PASSES_FOR_CROPS
    from keras_distill.diagnosis.choosing.races import CACHED_PASSES

    return 2 + (CACHED_PASSES if seen >= PASSES_FOR_CROPS else 0)


def _trial_steps():
    """What diagnose tries before its own training."""
    from keras_distill.diagnosis import short_training

    return short_training.TRIAL_STEPS * len(short_training.LEARNING_RATES)


def _shares(run):
    """The length of each step that trains, in trainings."""
    shares = {"train": 1.0, "compare": 1.0, "choose": PART, "diagnose": PART}
    labelled = run.data.train[1] is not None
    return {
        name: share
        for name, share in shares.items()
        if name == "train" or (labelled and not run.skips(name))
    }


def _words(run, classes, accuracy, student):
    data, facts = run.data, run.settings.facts
    number = sum(
        facts["images"][k] for k in ("training", "choosing", "testing")
    )
    words = [f"{number:,} images of {classes} classes"]
    if data.unlabelled is not None:
        words.append(f"{len(data.unlabelled):,} without labels")
    if data.skipped:
        words.append(f"{len(data.skipped)} broken skipped (log.txt)")
    if accuracy is not None:
        words.append(f"teacher right on {accuracy:.1%}")
    words.append(f"student of {student.count_params():,} parameters")
    return ", ".join(words)
