"""Accuracies and losses of the teacher and of trained students."""

import math
from typing import NamedTuple

import numpy as np

from keras_distill.diagnosis.data import labels_and_weights
from keras_distill.diagnosis.headroom import headroom
from keras_distill.diagnosis.headroom import is_imbalanced
from keras_distill.metrics.decisions import DecisionCounts
from keras_distill.metrics.decisions import paired_difference


class Looked(NamedTuple):
    """What all networks gave for the same samples.

    Attributes:
        teacher: `(samples, classes)` probabilities.
        students: A dict from a training to `(samples, classes)`.
        labels: `(samples,)` class numbers, or `None`.
        weights: `(samples,)`: how much each sample counts.
    """

    teacher: np.ndarray
    students: dict
    labels: np.ndarray | None
    weights: np.ndarray


def look(data, samples, teacher, student, trained, ignore_class=None):
    """Runs teacher and students on the same samples.

    Args:
        data: A `Data`.
        samples: The largest number of samples.
        teacher: A `Classifier`.
        student: A `Classifier`.
        trained: A dict from a training to a function that gives the student
            the weights which it had after it.
        ignore_class: The label of samples without a class, or `None`.

    Returns:
        A `Looked`.

    Raises:
        ValueError: If a student's output is not finite, or no sample counts.
    """
    p_teacher, labels, weights = [], [], []
    p_students = {name: [] for name in trained}
    for x, y, sample_weight in data.some(samples):
        p_teacher.append(teacher.probabilities(x))
        for name, restore in trained.items():
            restore()
            p_students[name].append(student.probabilities(x))
        y, sample_weight = labels_and_weights(
            y,
            sample_weight,
            len(p_teacher[-1]),
            student.classes,
            data.argument,
            ignore_class,
        )
        labels.append(y)
        weights.append(sample_weight)
    p_students = {name: np.concatenate(p) for name, p in p_students.items()}
    weights = np.concatenate(weights)
    if not all(np.isfinite(p).all() for p in p_students.values()):
        raise ValueError(
            "The student's output is not finite after a short training with "
            "the best of several learning rates. Are there NaN in the data, or "
            "does the task loss give NaN?"
        )
    if not weights.any():
        raise ValueError(
            f"No sample of {data.argument} counts: of {len(weights):,} all "
            "have the weight 0 or the label of `ignore_class`."
        )
    known = labels[0] is not None
    return Looked(
        np.concatenate(p_teacher),
        p_students,
        np.concatenate(labels) if known else None,
        weights,
    )


def describe(facts, part, data, looked, comparable):
    """Fills the facts about one part of the data.

    Args:
        facts: The numbers that `kd.diagnose` collects, which are changed.
        part: `"training"` or `"validation"`.
        data: Its `Data`.
        looked: Its `Looked`.
        comparable: Whether teacher and student have the same classes.
    """
    labels, weights = looked.labels, looked.weights
    p = looked.teacher
    logarithms = np.log(np.maximum(p, 1e-300))
    facts["data"][f"{part}_samples"] = data.samples
    facts["data"][f"{part}_samples_used"] = int(np.count_nonzero(weights))
    row = facts["teacher"][part] = {
        "entropy": _mean(-np.sum(p * logarithms, -1), weights),
        "largest_probability": _mean(p.max(-1), weights),
    }
    if labels is None:
        return
    counts = _counted(labels, labels, weights, facts["student"]["classes"])
    facts["data"] |= {
        f"{part}_classes_seen": int(np.count_nonzero(counts.of_label)),
        f"{part}_majority": counts.majority_accuracy,
        f"{part}_imbalanced": is_imbalanced(counts),
    }
    if comparable:
        row |= _accuracies(p, labels, weights)
    right = {}
    for name, p in looked.students.items():
        right[name] = p.argmax(-1) == labels
        likelihoods = p[np.arange(len(labels)), labels]
        losses = -np.log(np.maximum(likelihoods, 1e-12))
        facts[name][part] = {
            **_accuracies(p, labels, weights),
            "cross_entropy": _mean(losses, weights),
            "cross_entropy_standard_error": _standard_error(losses, weights),
        }
    if part == "training":
        return
    for name in looked.students if comparable else ():
        place = facts if name == "student" else facts[name]
        place["headroom"] = headroom(
            looked.teacher.argmax(-1) == labels, right[name], labels, weights
        )
    if "without_views" in right:
        difference, (low, high) = paired_difference(
            right["without_views"], right["student"], weights
        )
        facts["without_views"]["gain"] = {
            "difference": difference,
            "low": low,
            "high": high,
        }


def _counted(labels, decisions, weights, classes):
    counts = DecisionCounts(classes)
    counts.add(labels, decisions, weights)
    return counts


def _accuracies(p, labels, weights):
    counts = _counted(labels, p.argmax(-1), weights, p.shape[-1])
    return {
        "accuracy": counts.accuracy,
        "balanced_accuracy": counts.balanced_accuracy,
    }


def _mean(values, weights):
    return float(np.average(values, weights=weights))


def _standard_error(values, weights):
    deviations = weights * (values - _mean(values, weights))
    return float(math.sqrt(np.sum(np.square(deviations))) / weights.sum())
