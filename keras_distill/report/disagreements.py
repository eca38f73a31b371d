"""Where student and teacher decide differently."""

import numpy as np

from keras_distill.report.images import are_images
from keras_distill.report.tally import Pairs

DISAGREEMENTS = 12
SPLITS = 8


class Disagreements:
    """Where student and teacher disagree.

    Args:
        classes: The number of classes.

    Attributes:
        shown: Pairs of facts and image (`None` if there is none) of the
            samples on which they differ and both are most certain. They are
            ordered by the smaller of the two confidences: there is little to
            learn from a sample on which one network only guesses. Of a sample
            of several positions the most certain one is kept.
    """

    def __init__(self, classes):
        self.shown = []
        self._splits = Pairs(classes)

    def add(self, first_sample, x, labels, weights, student, teacher):
        """Adds a batch.

        Args:
            first_sample: The number of its first sample.
            x: What the student sees.
            labels: `(batch, ...)` class numbers.
            weights: `(batch, ...)`; decisions of weight 0 do not count.
            student: Decisions and confidences, both `(batch, ...)`.
            teacher: The same.
        """
        differ = (weights > 0) & (student[0] != teacher[0])
        t, s, label, weight = (
            values[differ]
            for values in (teacher[0], student[0], labels, weights)
        )
        self._splits.add(
            t, s, weight, weight * (t == label), weight * (s == label)
        )
        certainty = np.where(differ, np.minimum(student[1], teacher[1]), -1.0)
        self._keep_most_certain(
            first_sample, x, labels, certainty, student, teacher
        )

    def _keep_most_certain(
        self, first_sample, x, labels, certainty, student, teacher
    ):
        shape = certainty.shape
        certainty = certainty.reshape(shape[0], -1)
        rows, places = np.arange(shape[0]), certainty.argmax(1)
        certainty = certainty[rows, places]
        images = x if len(shape) == 1 and are_images(x) else None
        # Stable, so that the earlier of two samples comes first.
        for row in np.argsort(-certainty, kind="stable")[:DISAGREEMENTS]:
            if certainty[row] < 0:
                break
            position = np.unravel_index(places[row], shape[1:])
            place = (row, *position)
            facts = {
                "sample": first_sample + int(row),
                "position": [int(p) for p in position],
                "label": int(labels[place]),
                "student": int(student[0][place]),
                "student_confidence": float(student[1][place]),
                "teacher": int(teacher[0][place]),
                "teacher_confidence": float(teacher[1][place]),
            }
            # A view would hold its whole batch.
            image = None if images is None else np.array(images[row])
            self.shown.append((facts, image))
        self.shown.sort(
            key=lambda pair: (
                -min(
                    pair[0]["student_confidence"],
                    pair[0]["teacher_confidence"],
                ),
                pair[0]["sample"],
            )
        )
        del self.shown[DISAGREEMENTS:]

    def splits(self):
        """The most frequent pairs of different decisions, and who is right."""
        return [
            {
                "teacher": teacher,
                "student": student,
                **dict(
                    zip(("samples", "teacher_right", "student_right"), sums)
                ),
            }
            for (teacher, student), sums in self._splits.largest(SPLITS)
        ]
