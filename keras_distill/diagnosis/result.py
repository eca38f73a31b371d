"""What `kd.diagnose` returns: numbers as a table, findings in words."""

import copy
import textwrap

from keras_distill.diagnosis.regimes import find


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
        note = _short_training(self._facts)
        lines += ["", *textwrap.wrap(note, 78)] if note else []
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
    known = [data[f"{part}_samples"] for part in ("training", "validation")]
    yield "samples", *map(_count, known)
    used = [data[f"{part}_samples_used"] for part in ("training", "validation")]
    yield "samples looked at", *map(_count, used)
    for label, network, key, form in (
        ("teacher's accuracy", "teacher", "accuracy", "{:.1%}"),
        ("teacher's mean entropy (nats)", "teacher", "entropy", "{:.3f}"),
        (
            "teacher's mean largest probability",
            "teacher",
            "largest_probability",
            "{:.3f}",
        ),
        ("student's accuracy, alone", "student", "accuracy", "{:.1%}"),
        (
            "student's cross-entropy, alone (nats)",
            "student",
            "cross_entropy",
            "{:.3f}",
        ),
    ):
        values = [
            facts[network].get(part, {}).get(key)
            for part in ("training", "validation")
        ]
        yield label, *("-" if v is None else form.format(v) for v in values)


def _short_training(facts):
    training = facts.get("short_training")
    if training is None:
        return None
    passes = training["passes"]
    times = "" if passes is None else f", each {passes:.1f} times"
    return (
        f"Student alone: a copy, trained for {training['steps']} steps of Adam "
        f"from its present weights in {training['seconds']:.0f} s, trials of "
        f"the learning rate (best: {training['learning_rate']:g}) included; "
        f"{_count(training['samples'])} samples drawn{times}."
    )


def _count(value):
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
