"""Finds the student that did best in the last evaluation."""

from keras_distill._arguments import checked_string
from keras_distill._arguments import one_of

_LOWER = ("loss", "error", "crossentropy", "divergence")
_HIGHER = ("accuracy", "auc", "precision", "recall", "score", "iou")


class Evaluations:
    """The results of a cohort's last evaluation.

    Attributes:
        last: A dict student -> dict metric -> value, with `loss` at its end.
    """

    def __init__(self):
        self.last = {}

    def record(self, members, losses):
        """Keeps the results of an evaluation that has just ended.

        Args:
            members: A dict student -> `Member`.
            losses: A dict `<student>_loss` -> value; empty without labels.
        """
        for name, member in members.items():
            self.last[name] = member.results()
            if f"{name}_loss" in losses:
                self.last[name]["loss"] = losses[f"{name}_loss"]

    def best(self, students, monitor=None, mode="auto"):
        """Returns the name of the best student. Ties go to the first.

        Args:
            students: All names, in order.
            monitor: A metric. Defaults to the first one.
            mode: `"max"`, `"min"` or `"auto"`.
        """
        one_of("mode", mode, ("auto", "min", "max"))
        checked_string("monitor", monitor, or_none=True)
        if not self.last:
            raise ValueError(
                "There is no best student before an evaluation. Call "
                "evaluate(), or fit() with validation_data=, or name the "
                f"student that you mean, one of {students}."
            )
        known = list(self.last[students[0]])
        if monitor is None and known:
            monitor = known[0]
        if monitor not in known:
            raise ValueError(
                f"monitor={monitor!r} is not in the last evaluation. It has "
                f"{known} for each student. Leave the student's name out."
            )
        sign = 1 if _direction(monitor, mode) == "max" else -1
        return max(students, key=lambda n: sign * float(self.last[n][monitor]))


def _direction(monitor, mode):
    if mode != "auto":
        return mode
    if any(word in monitor for word in _LOWER):
        return "min"
    if any(word in monitor for word in _HIGHER):
        return "max"
    raise ValueError(
        f"The name '{monitor}' does not say whether higher is better. Pass "
        "mode='max' or mode='min'."
    )
