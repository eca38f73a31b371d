"""From numbers to words: the regime, and what to do in it.

The thresholds were measured on Fashion-MNIST (training images only), with
students of 1 000 to 75 000 parameters on 500 to 20 000 images, each trained
alone as `kd.diagnose` does by default.
"""

import math

from keras_distill.diagnosis import headroom
from keras_distill.diagnosis import in_int8
from keras_distill.diagnosis import views_in_training

# Limited by data: the validation cross-entropy is above the training one by
# this part of it, and by two standard errors. 2 894 parameters after 2000 steps
# of 128 images, three initializations: 2 000 images 0.28 to 1.58; 5 000 images
# 0.03 to 0.19; 20 000 images 0.01 to 0.05. There, after 5000 steps, distilled
# is 3.5 points better than alone on 2 000 images and no better on 20 000.
GAP = 0.1
STANDARD_ERRORS = 2.0
# Without a gap the limit is the student's capacity, or it is too early to say.
# Parameters per image tell: 2 894 parameters kept to a gap of 0.08 through
# 6000 steps on 20 000 images (0.14 each), and came to 0.55 and 0.81 on 10 000
# and 5 000 (0.29, 0.58); 14 378 parameters on 20 000 (0.72) came to 0.64.
PARAMETERS_PER_SAMPLE = 0.2
# The slowest of these had no gap after 25 passes, and a large one after 128.
MANY_PASSES = 100.0
# Labels are wrong if the teacher agrees with those of the training data less
# often than with the others by this, and by two standard errors. 40 % of wrong
# labels for 2 000 images of Fashion-MNIST: 56 % against 87 %; distilled was
# 10 points better than alone, and the student's losses showed no gap.
LABELS_GAP = 0.1
# Teacher saturated on the training images: almost one-hot there, or with less
# than half of the entropy that it has on validation images. One that knows its
# 2 000 images by heart has 0.994, and 0.03 against 0.11 nats; one that gets
# 98 % of them right 0.950, and 0.15 against 0.20. From the former a student
# with 79.8 % alone got 80.1 % at temperature 1, 83.2 at 4, 82.6 at 8, 81.6 at
# 20 (5000 steps on the same 2 000 images, two seeds).
LARGEST_PROBABILITY = 0.99
ENTROPY_RATIO = 0.5
# From so many samples per class on, each class must be among them.
SAMPLES_PER_CLASS = 20
# A shorter training than that part of the steps asked for is a finding.
PART_OF_STEPS = 0.5


def find(facts):
    """Returns the findings, the most important first.

    Args:
        facts: The numbers that `kd.diagnose` collects.

    Returns:
        A list of `(kind, text)`. Kinds:
        - the headroom: `"teacher_not_better"`, `"no_clear_headroom"`;
        - the regime of the student: `"limited_by_data"`,
          `"limited_by_labels"`, `"limited_by_capacity"`, `"undecided"`, or
          `"no_labels"`;
        - `"teacher_saturated"`;
        - what is in the way: `"classes_differ"`, `"strong_views"`,
          `"imbalanced"`, `"heads"`, `"batch_normalization"`,
          `"sorted_data"`, `"cut_short"`;
        - `"int8_costs"`.
    """
    checks = (
        _classes,
        headroom.finding,
        views_in_training.finding,
        _regime,
        _teacher_saturated,
        headroom.imbalance,
        _heads,
        _batch_normalization,
        _sorted_data,
        _cut_short,
        in_int8.finding,
    )
    return [found for check in checks if (found := check(facts)) is not None]


def _regime(facts):
    missing = [
        part
        for part in ("training", "validation")
        if f"{part}_classes_seen" not in facts["data"]
    ]
    if missing:
        views = facts["views"]["name"]
        cost = (
            f" Nor whether {views} cost more than they bring in your steps: "
            "strong views need long training."
            if views
            else ""
        )
        return "no_labels", (
            f"There are no labels in the {' and '.join(missing)} data. Without "
            "them nobody can say whether data or capacity limits the student, "
            f"nor whether the teacher is better than the student alone.{cost} "
            "Distillation itself needs none: alpha=1. A few hundred labelled "
            "images in both are enough to know."
        )
    student = views_in_training.better_training(facts)
    training, validation = student["training"], student["validation"]
    gap = validation["cross_entropy"] - training["cross_entropy"]
    error = math.hypot(
        training["cross_entropy_standard_error"],
        validation["cross_entropy_standard_error"],
    )
    numbers = (
        f"accuracy {training['accuracy']:.1%} on training and "
        f"{validation['accuracy']:.1%} on validation data, cross-entropy "
        f"{training['cross_entropy']:.3f} and {validation['cross_entropy']:.3f}"
    )
    if gap > max(GAP * training["cross_entropy"], STANDARD_ERRORS * error):
        advice = (
            "More images, or mixup, would help; a teacher that is surely "
            "better, too."
            if headroom.finding(facts)
            else "More to learn from helps, and a teacher is that: distil "
            "(kd.losses.SoftTargets) on these images and, if there are any, "
            "on unlabelled ones (alpha=1 there), with mixup; the longer the "
            "training, the more it matters."
        )
        return "limited_by_data", (
            "Alone, the student fits the training data better than it does "
            f"others ({numbers}). {advice}"
        )
    if headroom.finding(facts):
        return None
    if headroom.is_clear(facts) and _labels_differ(facts):
        return _wrong_labels(facts)
    return _no_gap(facts, student["short_training"], numbers)


def _labels_differ(facts):
    parts = ("training", "validation")
    training, validation = (
        facts["teacher"][part]["accuracy"] for part in parts
    )
    variances = [
        accuracy * (1 - accuracy) / facts["data"][f"{part}_samples_used"]
        for part, accuracy in zip(parts, (training, validation), strict=True)
    ]
    error = math.sqrt(sum(variances))
    return validation - training > max(LABELS_GAP, STANDARD_ERRORS * error)


def _wrong_labels(facts):
    training, validation = (
        facts["teacher"][part]["accuracy"]
        for part in ("training", "validation")
    )
    return "limited_by_labels", (
        f"The teacher agrees with {training:.1%} of the training labels and "
        f"with {validation:.1%} of the validation labels: many training labels "
        "are wrong, or the training images are augmented strongly. The teacher "
        "then says more than these labels: distil (kd.losses.SoftTargets) with "
        "alpha near 1."
    )


def _no_gap(facts, short_training, numbers):
    samples = facts["data"]["training_samples"]
    passes = short_training["passes"]
    parameters = facts["student"]["parameters"]
    small = samples and parameters < PARAMETERS_PER_SAMPLE * samples
    # Random views show something else in each pass.
    same = 0 if short_training["views"] else passes or 0
    if small or same >= MANY_PASSES:
        return "limited_by_capacity", (
            "Alone, the student does as poorly on the training data as on "
            f"others ({numbers}), with {parameters:,} parameters for "
            f"{samples:,} samples. Soft targets ask more of it than labels "
            "do, and may make it worse. Train longer, take a larger student, "
            "or guide it by features (kd.losses.Hint, kd.losses."
            "AttentionTransfer), and compare with the student alone, trained "
            "as long."
        )
    seen = (
        "each sample was seen an unknown number of times"
        if passes is None
        else f"each sample was seen {passes:.1f} times"
    )
    return "undecided", (
        f"Too early to say what limits the student: as yet {numbers}, after "
        f"{short_training['steps']} steps, in which {seen}. Training "
        "longer comes first, with or without a teacher. Ask again with more "
        "steps (steps=, seconds=): if the training data then run ahead, it is "
        "limited by data and distillation helps; if not, by its capacity."
    )


def _teacher_saturated(facts):
    training = facts["teacher"].get("training", {})
    validation = facts["teacher"].get("validation", {})
    sure = training["largest_probability"] > LARGEST_PROBABILITY
    ratio = training["entropy"] / max(validation["entropy"], 1e-9)
    if not sure and ratio >= ENTROPY_RATIO:
        return None
    return "teacher_saturated", (
        "On the training images the teacher is all but certain (mean largest "
        f"probability {training['largest_probability']:.3f}, entropy "
        f"{training['entropy']:.3f} nats; on validation images "
        f"{validation['largest_probability']:.3f} and "
        f"{validation['entropy']:.3f}): its soft targets say little there that "
        "the labels do not. Distil on images that it was not trained on, "
        "unlabelled or strongly augmented (mixup), or from a teacher that is "
        "overfitted less. A temperature above 1 shows more of what little "
        "there is: kd.recipes.settings says when, kd.choose measures it."
    )


def _classes(facts):
    teacher, student = (facts[n]["classes"] for n in ("teacher", "student"))
    if teacher == student:
        return None
    return "classes_differ", (
        f"The teacher has {teacher:,} classes and the student {student:,}. "
        "Losses on logits need class_map=, the list of the teacher's class of "
        "each student class; or distil features (kd.losses.Hint, "
        "kd.losses.AttentionTransfer). The teacher's accuracy on these labels "
        "cannot be known."
    )


def _heads(facts):
    texts = []
    teacher, student = (facts[n]["head"] for n in ("teacher", "student"))
    if student != "logits":
        texts.append(
            f"The student ends in a {student}, and losses on logits want "
            "logits: give its last layer activation=None and the task loss "
            "from_logits=True."
        )
    if teacher != "logits":
        also = ' and activation="sigmoid"' if teacher == "sigmoid" else ""
        texts.append(
            f"The teacher ends in a {teacher}: tell the loss, as "
            f"kd.losses.SoftTargets(teacher_probabilities=True){also}."
        )
    return ("heads", " ".join(texts)) if texts else None


def _batch_normalization(facts):
    layers = facts["student"]["local_batch_normalizations"]
    if facts["replicas"] < 2 or not layers:
        return None
    return "batch_normalization", (
        f"The student has {layers} BatchNormalization layers that are not "
        f"synchronized, and the strategy has {facts['replicas']} replicas: "
        "each normalizes by its own part of the batch, and the result depends "
        "on their number. Build the student with "
        "BatchNormalization(synchronized=True)."
    )


def _sorted_data(facts):
    data, classes = facts["data"], facts["student"]["classes"]
    lacking = []
    for part in ("training", "validation"):
        # Without labels there is nothing to see.
        seen = data.get(f"{part}_classes_seen", classes)
        enough = data[f"{part}_samples_used"] >= SAMPLES_PER_CLASS * classes
        if enough and seen < classes:
            lacking.append(f"{seen} of {classes} classes in the {part} data")
    if not lacking:
        return None
    return "sorted_data", (
        f"Among the samples looked at there are only {', '.join(lacking)}. If "
        "the data are sorted by class, the numbers above are of little use, "
        "and training suffers too: shuffle them."
    )


def _cut_short(facts):
    training = facts.get("short_training")
    if training is None:
        return None
    if training["steps"] >= PART_OF_STEPS * training["steps_wanted"]:
        return None
    return "cut_short", (
        f"The student was trained for {training['steps']} of "
        f"{training['steps_wanted']} steps, because the time was up: what is "
        "said about its limits is less certain. Give more time (seconds=), "
        "smaller batches, or a faster machine."
    )
