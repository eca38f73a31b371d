"""What `kd.diagnose` returns: numbers as a table, findings in words."""

import copy
import textwrap

from keras_distill.diagnosis import in_int8
from keras_distill.diagnosis.headroom import in_words
from keras_distill.diagnosis.regimes import find

PARTS = ("training", "validation")


class Diagnosis:
    """Numbers about a student, a teacher and their data, and findings.

    `str()` gives a table, and the findings in words.

    Args:
        facts: The numbers that `kd.diagnose` collects.

    Attributes:
        findings: A list of `(kind, text)`, the most important first;
            `keras_distill.diagnosis.regimes.find` lists the kinds.
    """

    def __init__(self, facts: dict):
        self._facts = copy.deepcopy(facts)
        self.findings = find(facts)

    def as_dict(self) -> dict:
        """Returns all numbers and findings, in types that JSON knows.

        Accuracies and probabilities are shares in [0, 1], entropies are in
        nats, times in seconds. What is not known is missing or `None`.
        """
        found = [{"kind": kind, "text": text} for kind, text in self.findings]
        return {**copy.deepcopy(self._facts), "findings": found}

    def __str__(self):
        rows = [*_networks(self._facts), None, *_fits(self._facts)]
        wide = max(len(row[0]) for row in rows if row)
        lines = [
            f"{row[0]:{wide}}  {row[1]:>12}  {row[2]:>12}".rstrip()
            if row
            else ""
            for row in rows
        ]
        for note in _notes(self._facts):
            lines += ["", *textwrap.wrap(note, 78)]
        for kind, text in self.findings:
            words = f"{kind.replace('_', ' ').upper()}: {text}"
            lines += ["", *textwrap.wrap(words, 78)]
        return "\n".join(lines)

    def __repr__(self):
        return f"<Diagnosis: {', '.join(kind for kind, _ in self.findings)}>"


def _networks(facts):
    """Yields rows `(label, student, teacher)`, all strings."""
    yield "", "student", "teacher"
    for label, key in (
        ("parameters", "parameters"),
        ("multiply-accumulates", "multiply_accumulates"),
        ("output head", "head"),
        ("classes", "classes"),
    ):
        values = [facts[network][key] for network in ("student", "teacher")]
        yield label, *map(_count, values)


def _fits(facts):
    """Yields rows `(label, training, validation)`, all strings."""
    data = facts["data"]
    yield "", "training", "validation"
    known = [data[f"{part}_samples"] for part in PARTS]
    yield "samples", *map(_count, known)
    used = [data[f"{part}_samples_used"] for part in PARTS]
    yield "samples looked at", *map(_count, used)
    imbalanced = data.get("validation_imbalanced")
    yield (
        "always the most frequent class",
        *(_percent(data.get(f"{part}_majority")) for part in PARTS),
    )
    for label, network, key, form in (
        ("teacher's accuracy", "teacher", "accuracy", _percent),
        (
            "teacher's balanced accuracy",
            "teacher",
            "balanced_accuracy",
            _percent,
        ),
        ("teacher's mean entropy (nats)", "teacher", "entropy", _decimals),
        (
            "teacher's mean largest probability",
            "teacher",
            "largest_probability",
            _decimals,
        ),
        *_of_student("student", "alone"),
        *_of_student("without_views", "without views"),
    ):
        shown = network in facts and (key != "balanced_accuracy" or imbalanced)
        if shown:
            rows = [facts[network].get(part, {}) for part in PARTS]
            yield label, *(form(row.get(key)) for row in rows)


def _of_student(network, how):
    """Returns the rows of one training of the student."""
    return (
        (f"student's accuracy, {how}", network, "accuracy", _percent),
        (
            f"student's balanced accuracy, {how}",
            network,
            "balanced_accuracy",
            _percent,
        ),
        (
            f"student's cross-entropy, {how} (nats)",
            network,
            "cross_entropy",
            _decimals,
        ),
    )


def _notes(facts):
    """Yields what was compared and what was trained, in sentences."""
    plain = facts.get("without_views", {})
    imbalanced = facts["data"].get("validation_imbalanced")
    for place, how in (facts, "alone"), (plain, "without views"):
        if "headroom" not in place:
            continue
        compared = place["headroom"]
        text = (
            f"Headroom, teacher minus student {how}, on "
            f"{facts['data']['validation_samples_used']:,} validation samples: "
            f"{in_words(compared['accuracy'])}"
        )
        if imbalanced:
            balanced = in_words(compared["balanced_accuracy"])
            text += f"; in balanced accuracy {balanced}"
        yield f"{text}."
    for place, how in (facts, "alone"), (plain, "without views"):
        if "short_training" in place:
            yield _short_training(place["short_training"], how)
    if facts.get("int8"):
        yield in_int8.note(facts)


def _short_training(training, how):
    steps, wanted = training["steps"], training["steps_wanted"]
    cut = "" if steps == wanted else f" of the {wanted:,}"
    passes = training["passes"]
    times = "" if passes is None else f", each {passes:.1f} times"
    views = training["views"]
    seen = f", with {views}" if views else ""
    return (
        f"Student {how}: a copy, trained from its present weights for "
        f"{steps:,}{cut} steps of Adam on batches of {training['batch_size']}, "
        f"at a learning rate that falls from {training['learning_rate']:g} "
        f"(the best of {training['trial_steps']:,} steps of trials) to 0; "
        f"{training['samples']:,} samples drawn{times}{seen}. It took "
        f"{training['seconds']:.0f} s, trials included."
    )


def _percent(value):
    return "-" if value is None else f"{value:.1%}"


def _decimals(value):
    return "-" if value is None else f"{value:.3f}"


def _count(value):
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
