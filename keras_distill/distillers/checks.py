"""Checks of a Distiller's arguments, with errors that say the fix."""

import warnings

import keras

from keras_distill._arguments import checked_number
from keras_distill._keras.fingerprint import fingerprint
from keras_distill._keras.heads import final_activation
from keras_distill._keras.heads import output_keys
from keras_distill.teachers.teacher_fingerprint import teacher_fingerprint


def check_backend():
    backend = keras.config.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            "kd.Distiller trains on Keras's tensorflow backend; this process "
            f"uses '{backend}'. Set KERAS_BACKEND=tensorflow before importing "
            "keras. (The losses in kd.losses run on every backend.)"
        )


def check_student(student):
    if not isinstance(student, keras.Model):
        raise TypeError(
            "student must be a keras.Model. Received: "
            f"{student!r} of type {type(student).__name__}"
        )


def check_teacher(teacher, student):
    if not isinstance(teacher, keras.Model):
        raise TypeError(
            "teacher must be a keras.Model, a list or a dict of them, or None. "
            "Received: "
            f"{teacher!r} of type {type(teacher).__name__}"
        )
    if teacher is student:
        raise ValueError(
            f"student and teacher are the same object ('{student.name}'). For "
            "self-distillation pass a copy: keras.models.clone_model(student) "
            "with set_weights(student.get_weights())."
        )
    if not teacher.built:
        raise ValueError(
            f"The teacher '{teacher.name}' is not built: it has no weights, so "
            "it cannot have been trained. Call it on a batch, or "
            "`teacher.build(input_shape)`, and load its weights first."
        )


def is_another_teacher(teacher, distiller, check=True):
    """Whether a teacher differs from the one before, by fingerprint.

    Args:
        teacher: A `keras.Model`.
        distiller: A `Distiller`.
        check: Whether it must be the teacher of a saved Distiller.

    Raises:
        ValueError: If `check` fails, or if the Distiller has a teacher that
            moves with its student.
    """
    moving = distiller._networks().moving_teacher
    if moving is not None:
        raise ValueError(
            "This Distiller has a teacher that moves with its student, "
            f"'{moving.name}', and its file holds it: "
            "leave teacher= away. For another teacher make a new kd.Distiller "
            "with this student."
        )
    before = teacher_fingerprint(distiller)
    if before is None:
        return False
    given, expected = fingerprint(teacher), distiller._teacher_fingerprint
    if check and expected not in (None, given):
        raise ValueError(
            "This is not the teacher that the Distiller was saved with: its "
            f"weights have the fingerprint {given[:12]}..., expected "
            f"{expected[:12]}... Load the teacher of that run. To go on with "
            "another one, call distiller.set_teacher(teacher, check=False)."
        )
    return given != before


def loss_weights(weights, losses):
    """Returns the weights of the losses as a dict name -> float."""
    names = list(losses)
    if weights is None:
        return dict.fromkeys(names, 1.0)
    if isinstance(weights, dict):
        weights = _by_loss(weights, losses)
        unknown = sorted(set(weights) - set(names))
        missing = sorted(set(names) - set(weights))
        if unknown or missing:
            raise ValueError(
                "distillation_loss_weights must have the names of the "
                f"distillation losses, {names}. Unknown: {unknown}; missing: "
                f"{missing}."
            )
        weights = {name: weights[name] for name in names}
    else:
        values = weights if isinstance(weights, (list, tuple)) else [weights]
        if len(values) != len(names):
            raise ValueError(
                f"distillation_loss_weights needs one number per distillation "
                f"loss ({len(names)}: {names}). Received: {weights!r}"
            )
        weights = dict(zip(names, values))
    return {
        name: checked_number(
            f"distillation_loss_weights['{name}']", weight, "[0, inf)"
        )
        for name, weight in weights.items()
    }


def _by_loss(weights, losses):
    """Returns weights by task, one number or a list each, by name of loss."""
    by_loss = {}
    for key, given in weights.items():
        names = [n for n, loss in losses.items() if loss.task == key]
        if not names:
            by_loss[key] = given
            continue
        if not isinstance(given, (list, tuple)):
            given = [given] * len(names)
        if len(given) != len(names):
            raise ValueError(
                f"distillation_loss_weights['{key}'] needs one number, or one "
                f"per loss of this task ({len(names)}: {names}). Received: "
                f"{given!r}"
            )
        by_loss.update(zip(names, given))
    return by_loss


def check_reduction(loss):
    for each in keras.tree.flatten(loss):
        if getattr(each, "reduction", "sum") in (None, "none"):
            raise ValueError(
                f"loss: '{each.name}' has reduction=None, so it is a number "
                "for each sample and not the mean that the objective adds. "
                "Leave reduction at its default, 'sum_over_batch_size'."
            )


def check_compile(loss, alpha):
    if loss is None and alpha != 1.0:
        share = "" if callable(alpha) else f" has the share {1 - alpha:g} and"
        raise ValueError(
            f"compile() needs loss=...: the task loss{share} is part of the "
            f"objective while alpha < 1. Received: loss=None, alpha={alpha}. "
            "For pure distillation construct the Distiller with alpha=1."
        )


def warn_of_probabilities(loss, student, deployed=False, output=None):
    """Warns of a crossentropy of probabilities on a head that gives logits.

    Keras accepts this slip, and training goes badly.

    Args:
        loss: The task loss.
        student: A `keras.Model`.
        deployed: Whether a loss deploys logits in place of the student's head.
        output: The key of the student's output, if there are several.
    """
    if isinstance(loss, dict):
        for key in set(loss) & set(output_keys(student) or ()):
            warn_of_probabilities(loss[key], student, deployed, key)
    if not isinstance(loss, (str, keras.losses.Loss)):
        return
    resolved = keras.losses.get(loss)
    name = getattr(resolved, "name", getattr(resolved, "__name__", ""))
    if "crossentropy" not in name or getattr(resolved, "from_logits", False):
        return
    symbolic = bool(getattr(student, "inputs", None))
    if deployed or (symbolic and final_activation(student, output) is None):
        what = f"the student '{student.name}' gives logits"
        what += "" if output is None else f" for '{output}'"
        if deployed:
            what = "the deployed output is logits"
        warnings.warn(
            f"compile(loss={name!r}) expects probabilities, but {what}. Use "
            "the loss object with from_logits=True, such as "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True).",
            stacklevel=3,
        )


def warn_of_class_weight(distiller, class_weight):
    """Warns once of a teacher that may not know the weights of the classes."""
    if (
        distiller._warned_of_class_weight
        or len(set((class_weight or {}).values())) < 2
        or not distiller._networks().needs_teacher
        or distiller.alpha in (0.0, 1.0)
    ):
        return
    distiller._warned_of_class_weight = True
    warnings.warn(
        "class_weight moves the task loss towards the classes of large "
        "weight. A teacher that was trained without these weights still "
        f"prefers the frequent classes: alpha={distiller.alpha} mixes both. If "
        "rare classes matter, train the teacher with the same class_weight, "
        "or lower alpha.",
        stacklevel=3,
    )


def check_log_names(losses, student):
    outputs = getattr(student, "output_names", None) or []
    for name in losses:
        if len(outputs) > 1 and name in outputs:
            raise ValueError(
                f"Distillation loss '{name}' would be logged as '{name}_loss', "
                f"which is the task loss of the student's output '{name}'. "
                "Give the distillation loss another name."
            )


def split_metrics(metrics):
    """Returns the metrics that compare with the teacher, and Keras's own.

    Of a dict task -> metrics, the first are copies that know their `task`.
    """

    def compares(metric):
        return getattr(metric, "compares_with_teacher", False)

    if isinstance(metrics, dict):
        of_teacher, of_student = [], {}
        for task, given in metrics.items():
            compared, of_student[task] = split_metrics(given)
            for metric in compared:
                config = metric.get_config()
                config["name"] = f"{task}_{metric.name}"
                of_teacher.append(type(metric).from_config(config))
                of_teacher[-1].task = task
        kept = {k: given for k, given in of_student.items() if given}
        return of_teacher, kept or None

    if not isinstance(metrics, (list, tuple)):
        return ([metrics], None) if compares(metrics) else ([], metrics)
    of_student = [metric for metric in metrics if not compares(metric)]
    return [m for m in metrics if compares(m)], of_student or None


def check_teacher_metrics(distiller):
    if distiller._current_logs() is None:
        return
    for metric in distiller._current_logs().of_teacher:
        if distiller._networks().teacher is None:
            raise ValueError(
                f"The metric '{metric.name}' compares with the teacher, but "
                "this Distiller has none. Call distiller.set_teacher(teacher)."
            )


def log_names(losses):
    return [
        "loss",
        "student_loss",
        "distillation_loss",
        *(f"{name}_loss" for name in losses),
        *(
            f"{name}_{extra}"
            for name, loss in losses.items()
            for extra in loss.extra_log_names
        ),
        "agreement",
    ]
