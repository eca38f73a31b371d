"""`choose`: settings by a rule, and by short races where time allows them."""

import os
from typing import Any

import keras
import numpy as np

from keras_distill import recipes
from keras_distill._arguments import as_path
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_loss
from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_seed
from keras_distill._progress import ProgressBar
from keras_distill.datasets import steps_per_epoch
from keras_distill.diagnosis.choosing import halving
from keras_distill.diagnosis.choosing.candidates import candidates
from keras_distill.diagnosis.choosing.choice import Choice
from keras_distill.diagnosis.choosing.races import Races
from keras_distill.diagnosis.choosing.races import fair_order
from keras_distill.diagnosis.classifier import Classifier
from keras_distill.distillers import checks
from keras_distill.teachers.roles import as_one_teacher

# Without validation data: at most so many training samples judge the races.
HELD_OUT = 2000
PART_HELD_OUT = 0.2


def choose(
    *,
    student: keras.Model,
    teacher: keras.Model,
    x: Any,
    y: Any = None,
    validation_data: Any = None,
    unlabelled: Any = None,
    steps: int,
    batch_size: int = 128,
    cache_directory: str | os.PathLike | None = None,
    task_loss: keras.losses.Loss | None = None,
    share: float = 0.2,
    seed: int = 0,
    verbose: bool = True,
) -> Choice:
    """Chooses the settings of a distillation by short races.

    It begins with the rule of `kd.recipes.settings`. Copies of the student
    then race with that and other settings: crops (or none, if the rule
    crops), the rule's other temperature, no teacher, a larger learning rate,
    attention maps beside the outputs. A race trains on fewer samples for
    fewer steps, so that each sample is seen as often as in the whole training
    and the learning rate goes down to 0 (a long training that is stopped early
    ranks settings wrongly: high temperatures win late). The better half of the
    candidates races again, twice as long. All races together take `share` of
    the steps. A race has at least 600 steps, or all of a shorter training, and
    if the share does not allow two, the rule decides.

    Neither network is changed. The teacher runs once on all samples, and on 8
    passes of crops if these are tried (`kd.TeacherCache`).

    Args:
        student: The `keras.Model` to distill, a classifier that returns
            logits. Races train copies of it, from its present weights.
        teacher: A trained `keras.Model` with the same classes and inputs,
            which returns logits or probabilities.
        x: The training samples, an array `(n, ...)`.
        y: Class numbers `(n,)`. Defaults to `None`: without labels, `alpha`
            is 1.
        validation_data: `(x, y)` to judge races by. Do not give the test data.
            Defaults to a fifth of the training samples, at most 2000: the
            races do not train on them, the returned data has them.
        unlabelled: Further samples without labels, an array `(m, ...)`. If
            given, the teacher labels all samples and `alpha` is 1.
        steps: The length of the training in steps.
        batch_size: The number of samples in a batch. Defaults to 128.
        cache_directory: The folder for the teacher's outputs. Defaults to a
            temporary one.
        task_loss: The loss on the labels. Defaults to the cross-entropy that
            fits the student.
        share: The steps that all races together may take, as a part of
            `steps`; more than 1 is possible. Defaults to 0.2.
        seed: The seed of the order of the samples. Defaults to 0.
        verbose: Whether to show a progress bar and the table. Defaults to
            `True`.

    Returns:
        A `Choice`.

    Raises:
        TypeError: If a network is not a `keras.Model`.
        ValueError: If there are no samples, arrays differ in length, there
            are neither labels nor validation data, a network is not a
            classifier with one output, or the student does not return logits.

    Example:

    ```python
    choice = kd.choose(
        student=student, teacher=teacher, x=x_train, y=y_train, steps=20
    )
    choice.distiller.fit(**choice.fit_arguments())
    ```

    Reference:
        Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and
        Hyperparameter Optimization", 2016 (AISTATS): successive halving.
    """
    checks.check_backend()
    checks.check_student(student)
    teacher = checked_model("teacher", as_one_teacher(teacher))
    checks.check_teacher(teacher, student)
    checked_integer("steps", steps)
    checked_integer("batch_size", batch_size)
    checked_number("share", share, "[0, inf)")
    checked_seed(seed)
    checked_boolean("verbose", verbose)
    checked_loss("task_loss", task_loss)
    if cache_directory is not None:
        cache_directory = as_path("cache_directory", cache_directory)
    x, y = _arrays(x, y, "x")
    if unlabelled is not None:
        unlabelled, _ = _arrays(unlabelled, None, "unlabelled")
    if validation_data is not None:
        x_val, y_val = _pair(validation_data)
        validation = _arrays(x_val, y_val, "validation_data")
    elif y is None:
        raise ValueError(
            "validation_data must be (x, y): without any label nothing can "
            "judge the settings. A few hundred labelled samples are enough, or "
            "take kd.recipes.settings, which needs none."
        )

    extra = 0 if unlabelled is None else len(unlabelled)
    rule = recipes.settings(
        samples=len(x),
        steps=steps,
        batch_size=batch_size,
        unlabelled=extra,
        labels=y is not None,
        student=student,
    )
    of_student = Classifier(student, _same, x[:2], "student", "choose")
    of_teacher = Classifier(teacher, _same, x[:2], "teacher", "choose")
    if of_student.head != "logits":
        raise ValueError(
            f"choose is for students that return logits. Received: "
            f"'{student.name}', which ends in a {of_student.head}. Give its "
            "last layer activation=None."
        )
    if y is not None:
        task_loss = task_loss or of_student.task_loss(y[:2])
    order = fair_order(len(x) if y is None else y, extra, seed)
    everything = x if unlabelled is None else np.concatenate([x, unlabelled])
    labels = None if extra or y is None else y[order]
    trainable = len(order)
    if validation_data is None:
        held_out = order[order < len(x)]
        held_out = held_out[-min(HELD_OUT, int(PART_HELD_OUT * len(x)) + 1) :]
        validation = x[held_out], y[held_out]
        # Races train on the beginning of the order, the held-out end last.
        first = order[~np.isin(order, held_out)]
        order, trainable = np.concatenate([first, held_out]), len(first)
        labels = None if labels is None else y[order]
    races = Races(
        student=student,
        teacher=teacher,
        x=everything[order],
        y=labels,
        trainable=trainable,
        validation=validation,
        batch_size=batch_size,
        task_loss=task_loss if labels is not None else None,
        directory=cache_directory,
        seed=seed,
    )
    image_size = x.shape[1:3] if x.ndim == 4 else None
    tried = candidates(
        rule,
        image_size,
        teacher,
        student,
        labels=labels is not None,
        units=of_student.units,
        teacher_probabilities=of_teacher.head != "logits",
    )
    chosen, table = _race(races, tried, steps, share, verbose)
    per_epoch = steps_per_epoch(races.samples, batch_size)
    epochs = max(1, round(steps / per_epoch))
    choice = Choice(
        races.distiller(chosen, student, epochs * per_epoch),
        races.dataset(chosen),
        epochs=epochs,
        steps_per_epoch=per_epoch,
        settings=_reasons(chosen, table, rule),
        table=table,
        races=races,
    )
    if verbose:
        print(choice)
    return choice


def _race(races, tried, steps, share, verbose):
    """Returns the winner, and the table of what was tried."""
    plan = halving.plan(steps, share, len(tried))
    table = [
        {"name": c.name, **c.settings(), "steps": None, "accuracy": None}
        for c in tried
    ]
    going = list(range(plan.candidates))
    correct = []
    total = sum(
        plan.candidates // 2**number for number in range(len(plan.steps))
    )
    bar = ProgressBar(total, "race", verbose) if total else None
    for number, length in enumerate(plan.steps):
        correct = [races.correct(tried[i], length, steps) for i in going]
        for index, right in zip(going, correct):
            table[index]["steps"] = length
            table[index]["accuracy"] = float(np.mean(right))
        bar.add(len(going))
        if number < len(plan.steps) - 1:
            kept = halving.survivors(correct, len(going) // 2)
            going = [going[i] for i in kept]
    winner = going[halving.best(correct)] if going else 0
    return tried[winner], table


def _reasons(chosen, table, rule):
    """Each setting with why it is so."""
    raced = {row["name"] for row in table if row["steps"] is not None}
    rivals = len(raced) - 1
    if chosen.name != "rule":
        why = f"won the races: {chosen.why}"
    elif rivals > 0:
        why = f"no better in {rivals} race{'s' * (rivals > 1)}"
    else:
        why = "not tried: too few steps for a race"
    reasons = dict.fromkeys(chosen.settings(), why)
    if chosen.name == "rule":
        reasons.update(rule.why)
        if chosen.views is None and rule.crop_area is not None:
            reasons["crop_area"] = "these are no images"
    if "attention" not in raced:
        reasons["attention"] = "not tried"
    return {
        name: {"value": value, "why": reasons[name]}
        for name, value in chosen.settings().items()
    }


def _same(x):
    return x


def _pair(validation_data):
    if isinstance(validation_data, (tuple, list)) and len(validation_data) == 2:
        return validation_data
    raise ValueError(
        "validation_data must be a pair of arrays (x, y). Received: "
        f"{type(validation_data).__name__}"
    )


def _arrays(x, y, argument):
    """Returns arrays of the same length."""
    x = np.asarray(x)
    if x.ndim < 2 or not len(x):
        raise ValueError(
            f"{argument} must be an array (samples, ...) with at least one "
            f"sample. Received an array of shape {x.shape}."
        )
    if y is None:
        return x, None
    y = np.asarray(y)
    if y.shape != (len(x),) or y.dtype.kind not in "iu":
        raise ValueError(
            "y must be class numbers (samples,), one for each of the "
            f"{len(x)} samples of {argument}. Received an array of shape "
            f"{y.shape} and type {y.dtype}."
        )
    return x, y
