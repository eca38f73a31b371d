"""How much better a teacher is than the student alone, and if that is sure."""

import math

import numpy as np

from keras_distill.diagnosis.views_in_training import better_training
from keras_distill.metrics.decisions import accuracy_interval
from keras_distill.metrics.decisions import paired_difference

# The most frequent class has surely so many times its even share. 31 % against
# 69 % is 1.38, and surely 1.25 in 200 samples.
IMBALANCE = 1.2


def headroom(teacher_right, student_right, labels, weights):
    """Compares two networks on the same samples.

    Args:
        teacher_right: `(samples,)` booleans: where the teacher is right.
        student_right: The same of the student.
        labels: `(samples,)` class numbers.
        weights: `(samples,)`: how much each sample counts.

    Returns:
        A dict of `"accuracy"` and `"balanced_accuracy"`: each a dict of the
        `"difference"`, teacher minus student, and its 95 % interval from
        `"low"` to `"high"`.
    """

    def compared(where):
        difference, (low, high) = paired_difference(
            teacher_right[where], student_right[where], weights[where]
        )
        return difference, (low + high) / 2, (high - low) / 2

    of_classes = [compared(labels == c) for c in np.unique(labels[weights > 0])]
    difference, centers, halves = np.transpose(of_classes)
    # The recalls of the classes come from different samples.
    half = math.sqrt(np.sum(np.square(halves))) / len(halves)
    return {
        "accuracy": _interval(*compared(weights > 0)),
        "balanced_accuracy": _interval(difference.mean(), centers.mean(), half),
    }


def _interval(difference, center, half):
    return {
        "difference": float(difference),
        "low": float(center - half),
        "high": float(center + half),
    }


def is_imbalanced(counts):
    """Whether one class has far more than its even share of the samples."""
    even = 1 / np.count_nonzero(counts.of_label)
    surely, _ = accuracy_interval(
        counts.majority_accuracy, counts.effective_size
    )
    return bool(surely > IMBALANCE * even)


def in_words(interval):
    """`"+1.2 points (95 % interval -0.3 to +2.7)"`."""
    low, difference, high = (
        f"{100 * interval[key]:+.1f}" for key in ("low", "difference", "high")
    )
    return f"{difference} points (95 % interval {low} to {high})"


def is_clear(facts):
    """Whether the teacher is surely better; `None` if that is not known.

    With imbalanced classes the balanced accuracy counts as much: the teacher
    is better in one of both, and in neither worse.
    """
    intervals = _that_count(facts)
    if intervals is None:
        return None
    return any(i["low"] > 0 for i in intervals) and not any(
        i["high"] < 0 for i in intervals
    )


def finding(facts):
    """Says that there is no headroom, or that it is not sure."""
    if is_clear(facts) is not False:
        return None
    intervals = _that_count(facts)
    teacher = facts["teacher"]["validation"]["accuracy"]
    words = in_words(intervals[0])
    if len(intervals) > 1:
        words += f"; in balanced accuracy {in_words(intervals[1])}"
    if all(i["difference"] <= 0 for i in intervals):
        return "teacher_not_better", (
            f"The teacher ({teacher:.1%} of the validation data) is not better "
            f"than the student alone after a short training: {words}. Do not "
            "distil from it. If it should be better: does it get images in the "
            "range, size and colour order of its own training (views=kd.views."
            "Preprocessing(teacher=...)), and are its classes in the same "
            "order?"
        )
    used = facts["data"]["validation_samples_used"]
    there = facts["data"].get("validation_samples") or used
    more = (
        f"look at more of your {there:,} validation samples (samples=)"
        if there > used
        else "take more validation data"
    )
    return "no_clear_headroom", (
        f"The teacher ({teacher:.1%} of the validation data) is not surely "
        f"better than the student alone: {words}, on {used:,} samples. "
        "Whatever limits the student, these data do not show that there is "
        f"anything to gain from this teacher. Take a better one, or {more} to "
        "see a smaller difference."
    )


def imbalance(facts):
    """Gives the baseline that an accuracy must be compared with."""
    data = facts["data"]
    if not data.get("validation_imbalanced"):
        return None
    balanced = [
        f"{name} {100 * row['balanced_accuracy']:.1f} %"
        for name, row in (
            ("teacher", facts["teacher"]["validation"]),
            ("student alone", facts["student"].get("validation", {})),
        )
        if "balanced_accuracy" in row
    ]
    scores = f": {', '.join(balanced)}" if balanced else ""
    return "imbalanced", (
        "Always to decide for the most frequent class is right on "
        f"{data['validation_majority']:.1%} of the validation data. Compare "
        "accuracies with that, and watch the balanced accuracy, the mean "
        f"recall of the classes{scores}. If you train the student with class "
        "weights, train the teacher with them too."
    )


def _that_count(facts):
    compared = better_training(facts).get("headroom")
    if compared is None:
        return None
    imbalanced = facts["data"].get("validation_imbalanced")
    keys = ("accuracy", "balanced_accuracy") if imbalanced else ("accuracy",)
    return [compared[key] for key in keys]
