"""Which student did best in the last evaluation."""

from keras_distill._arguments import one_of

_LOWER = ("loss", "error", "crossentropy", "divergence")
_HIGHER = ("accuracy", "auc", "precision", "recall", "score", "iou")


class Evaluations:
    """What the last evaluation of a cohort gave.

    Attributes:
        last: Student -> a dict metric -> value, with `loss` at its end.
    """

    def __init__(self):
        self.last = {}

    def best(self, students, monitor=None, mode="auto"):
        """The name of the best student, of equals the first.

        Args:
            students: All names, in order.
            monitor: A metric. Defaults to the first.
            mode: `"max"`, `"min"` or `"auto"`.
        """
        one_of("mode", mode, ("auto", "min", "max"))
        if not self.last:
            raise ValueError(
                "No student is the best before an evaluation. Call "
                "evaluate(), or fit() with validation_data=; or say which "
                f"student you mean, one of {students}."
            )
        known = list(self.last[students[0]])
        if monitor is None and known:
            monitor = known[0]
        if monitor not in known:
            raise ValueError(
                f"monitor={monitor!r} is no number of the last evaluation. It "
                f"has {known} for each student; the name of the student is "
                "not part of it."
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
        f"Whether a high or a low '{monitor}' is better is not known. Give "
        "mode='max' or mode='min'."
    )
