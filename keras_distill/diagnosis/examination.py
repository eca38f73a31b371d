"""`diagnose`: it looks at networks and data, and trains for a short time."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_loss
from keras_distill._arguments import checked_number
from keras_distill._data.for_network import for_network
from keras_distill.diagnosis.classifier import Classifier
from keras_distill.diagnosis.data import Data
from keras_distill.diagnosis.data import class_indices
from keras_distill.diagnosis.result import Diagnosis
from keras_distill.diagnosis.short_training import stand_in
from keras_distill.diagnosis.short_training import train
from keras_distill.distillers import checks
from keras_distill.teachers.roles import as_teacher
from keras_distill.views import Views
from keras_distill.views.augmented import checked_views


def diagnose(
    *,
    student: keras.Model,
    teacher: keras.Model | Sequence[keras.Model],
    dataset: Any,
    validation_data: Any,
    task_loss: keras.losses.Loss | None = None,
    views: Views | None = None,
    steps: int = 2000,
    batch_size: int = 128,
    samples: int = 2000,
    seconds: float = 40.0,
    verbose: bool = True,
) -> Diagnosis:
    """Says before training what to expect of distillation, and what to do.

    It looks at the teacher on training and validation data, compares size and
    cost of the networks, and trains a copy of the student alone for a short
    time. If its fit to the training data runs ahead of its fit to the
    validation data, the student is limited by data, and a teacher helps. If
    not, it is limited by its capacity, and a teacher helps little. Neither
    network is changed. It is for classifiers with one output.

    Args:
        student: The `keras.Model` to distill, with its initial weights.
        teacher: A trained `keras.Model`, or a list of them (see
            `kd.Ensemble`).
        dataset: The training data: a `tf.data.Dataset` of batches, a
            `keras.utils.PyDataset`, or arrays; `x`, `(x, y)` or
            `(x, y, sample_weight)`. Labels are class indices or one-hot.
            Random augmentation in it counts as part of the data. Without
            labels, the student's fit cannot be known.
        validation_data: The same for validation. Do not give the test data:
            you will act on the result.
        task_loss: The loss of the short training, as in `compile`. Defaults
            to the cross-entropy that fits labels and student.
        views: As in `kd.Distiller`; used without randomness.
        steps: The length of the short training. Defaults to 2000: the
            2 000 labels of the example below do not show in 300 steps, and
            not with every initialization in 1000.
        batch_size: The number of samples in a batch of arrays. Defaults to
            128.
        samples: The largest number of training and of validation samples to
            look at: the first ones of a dataset, a random choice of arrays.
            Defaults to 2000, which gives an accuracy a standard error of at
            most 1.1 points.
        seconds: The longest wall time of the short training. If it is too
            little, the training has fewer steps, and the result depends on
            the machine. Defaults to 40, which leaves 20 of a minute for the
            rest.
        verbose: Whether to print the result, and a progress bar before it.

    Returns:
        A `Diagnosis`. `print` shows it, `.as_dict()` is for JSON, `.findings`
        is a list of `(kind, text)`.

    Raises:
        TypeError: If a network is not a `keras.Model`, or `dataset` is not
            data.
        ValueError: If student and teacher are one object, the teacher is not
            built, the data is empty, labels are not classes of the student,
            or a network is not a classifier with one output.

    Example:

    ```python
    data = kd.datasets.fashion_mnist()
    few = kd.datasets.subset(data.x_train[:50000], data.y_train[:50000], 2000)
    kd.diagnose(
        student=student,
        teacher=teacher,
        dataset=few,
        validation_data=(data.x_train[50000:], data.y_train[50000:]),
    )
    ```
    """
    checks.check_backend()
    checks.check_student(student)
    teacher = as_teacher(teacher)
    checks.check_teacher(teacher, student)
    views = checked_views(views) or Views()
    checked_integer("steps", steps)
    checked_integer("batch_size", batch_size)
    checked_integer("samples", samples)
    checked_number("seconds", seconds)
    checked_boolean("verbose", verbose)
    checked_loss("task_loss", task_loss)
    training = Data(dataset, "dataset", batch_size)
    held_out = Data(validation_data, "validation_data", batch_size)

    def teacher_sees(x):
        return for_network(teacher, views.teacher_evaluation(x), "teacher")

    def student_sees(x):
        return for_network(student, views.evaluation(x), "student")

    x, y, _ = training.first()
    held_out.first()
    _check_batched(teacher, teacher_sees(x))
    of_teacher = Classifier(teacher, teacher_sees, x, "teacher")
    with stand_in(student, student_sees(x)) as copy:
        of_student = Classifier(copy, student_sees, x, "student")
        facts = {
            "teacher": of_teacher.facts(x),
            "student": of_student.facts(x),
            "data": {},
            "replicas": _replicas(copy),
        }
        if not copy.trainable_weights:
            raise ValueError(
                f"The student '{student.name}' has no trainable weights. Set "
                "`trainable = True` on the layers that are to learn."
            )
        labelled = class_indices(y, of_student.classes, "dataset") is not None
        if labelled:
            facts["short_training"] = train(
                copy,
                student_sees,
                training.stream(),
                task_loss or of_student.task_loss(y),
                steps,
                seconds,
                verbose,
            )._asdict()
            facts["short_training"]["steps_wanted"] = steps
        _measure(facts, "training", training, of_teacher, of_student, samples)
        _measure(facts, "validation", held_out, of_teacher, of_student, samples)
    if labelled:
        short = facts["short_training"]
        known = training.samples
        short["passes"] = short["samples"] / known if known else None
    diagnosis = Diagnosis(facts)
    if verbose:
        print(diagnosis)
    return diagnosis


def _measure(facts, part, data, teacher, student, samples):
    """Runs both networks on the same samples, and fills in `facts`."""
    p_teacher, p_student, labels = [], [], []
    for x, y, _ in data.some(samples):
        p_teacher.append(teacher.probabilities(x))
        p_student.append(student.probabilities(x))
        labels.append(class_indices(y, student.classes, data.argument))
    p_teacher = np.concatenate(p_teacher)
    p_student = np.concatenate(p_student)
    if not np.isfinite(p_student).all():
        raise ValueError(
            "The student's output is not finite after a short training with "
            "the best of several learning rates. Are there NaN in the data, or "
            "does the task loss give NaN?"
        )
    logarithms = np.log(np.maximum(p_teacher, 1e-300))
    facts["data"][f"{part}_samples"] = data.samples
    facts["data"][f"{part}_samples_used"] = len(p_teacher)
    row = facts["teacher"][part] = {
        "entropy": float(np.mean(-np.sum(p_teacher * logarithms, -1))),
        "largest_probability": float(np.mean(p_teacher.max(-1))),
    }
    if labels[0] is None:
        return
    labels = np.concatenate(labels)
    facts["data"][f"{part}_classes_seen"] = len(np.unique(labels))
    right = p_student.argmax(-1) == labels
    comparable = teacher.classes == student.classes
    if comparable:
        teacher_right = p_teacher.argmax(-1) == labels
        row["accuracy"] = float(np.mean(teacher_right))
    if "short_training" not in facts:
        return
    likelihoods = p_student[np.arange(len(labels)), labels]
    losses = -np.log(np.maximum(likelihoods, 1e-12))
    facts["student"][part] = {
        "accuracy": float(np.mean(right)),
        "cross_entropy": float(np.mean(losses)),
        "cross_entropy_standard_error": _standard_error(losses),
    }
    if comparable:
        lead = teacher_right.astype("float64") - right
        row["lead"] = float(np.mean(lead))
        row["lead_standard_error"] = _standard_error(lead)


def _standard_error(values):
    return float(np.std(values) / math.sqrt(len(values)))


def _replicas(model):
    """Replicas of the current strategy or, if more, of the model's."""
    import tensorflow as tf

    strategies = tf.distribute.get_strategy(), model.distribute_strategy
    return max(strategy.num_replicas_in_sync for strategy in strategies)


def _check_batched(model, x):
    inputs = getattr(model, "inputs", None)
    if not inputs or len(inputs) > 1 or keras.tree.is_nested(x):
        return
    if len(x.shape) == len(inputs[0].shape) - 1:
        raise ValueError(
            f"The data has elements of shape {tuple(x.shape)}, and the model "
            f"'{model.name}' takes {tuple(inputs[0].shape)}: batch it, "
            "dataset.batch(128)."
        )
