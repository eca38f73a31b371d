"""What the networks do on the test data, in one pass.

For every sample only each network's decision and confidence are kept, so that
large data with many classes needs little memory.
"""

import collections

import numpy as np

from keras_distill._data.for_network import for_network
from keras_distill._data.sources import batches
from keras_distill._data.sources import number_of_batches
from keras_distill._progress import ProgressBar
from keras_distill.calibration import reliability
from keras_distill.diagnosis.classifier import Classifier
from keras_distill.diagnosis.data import class_indices
from keras_distill.report import provenance
from keras_distill.report.images import are_images

DISAGREEMENTS = 12
SPLITS = 8
BINS = 15
_ASKED_BY = "write_report"


class Measurement:
    """Decisions and confidences of several networks on the same samples.

    Args:
        networks: A dict from `"student"`, and optionally `"alone"` and
            `"teacher"`, to `(model, view)`. `view` is a function from the
            dataset's `x` to what the model takes.
        dataset: Labelled test data, as `kd.export.verify` takes it.
        verbose: Whether to show a progress bar.

    Attributes:
        classifiers: A dict from network to `Classifier`.
        labels: `(samples,)` class numbers.
        decided: A dict from network to `(samples,)` class numbers.
        confidence: A dict from network to `(samples,)` probabilities of
            these classes.
        disagreements: Pairs of facts and image, see `_most_confident`.
        first_x: The first batch as the dataset gives it.
    """

    def __init__(self, networks, dataset, verbose):
        self.classifiers = {}
        self.first_x = None
        self.disagreements = []
        self._decided = collections.defaultdict(list)
        self._confidence = collections.defaultdict(list)
        labels, samples, steps = [], 0, 0
        progress = ProgressBar(number_of_batches(dataset), "batch", verbose)
        for x, y in batches(dataset, "dataset"):
            if self.first_x is None:
                _check_labels(y)
                self.first_x = x
                self._look_at_networks(networks, x)
            classes = self.classifiers["student"].classes
            indices = class_indices(y, classes, "dataset", _ASKED_BY)
            self._add(x, indices, samples)
            labels.append(indices)
            samples += len(indices)
            steps += 1
            progress.update(steps)
        if not samples:
            raise ValueError(
                "`dataset` is empty: there is nothing to report on. Was it "
                "consumed before, or smaller than one batch with "
                "drop_remainder=True?"
            )
        progress.finish()
        self.labels = np.concatenate(labels)
        self.decided = _joined(self._decided)
        self.confidence = _joined(self._confidence)

    def _look_at_networks(self, networks, x):
        for key, (model, view) in networks.items():
            role = "teacher" if key == "teacher" else "student"
            self.classifiers[key] = Classifier(
                model, view, x, role, asked_by=_ASKED_BY
            )
        student = self.classifiers["student"]
        for key, other in self.classifiers.items():
            if other.classes != student.classes:
                what = "teacher" if key == "teacher" else "student alone"
                raise ValueError(
                    f"The {what} '{other.model.name}' has {other.classes} "
                    f"classes, the student '{student.model.name}' "
                    f"{student.classes}: their decisions cannot be compared. "
                    "Leave it out, or give one with the same classes."
                )

    def _add(self, x, labels, before):
        for key, classifier in self.classifiers.items():
            p = classifier.probabilities(x)
            if not np.isfinite(p).all():
                raise ValueError(
                    f"The output of '{classifier.model.name}' is not finite "
                    "on the test data. Expected finite values: has the "
                    "training diverged, or are there NaN in the data?"
                )
            self._decided[key].append(p.argmax(-1))
            self._confidence[key].append(p.max(-1))
        if "teacher" in self.classifiers:
            self._most_confident(x, labels, before)

    def _most_confident(self, x, labels, before):
        """Keeps the disagreements in which both networks are most certain.

        They are ordered by the smaller of the two confidences: there is
        little to learn from a sample on which one network only guesses.
        """
        images = for_network(self.classifiers["student"].model, x, "student")
        images = images if are_images(images) else None
        student, teacher = (
            (self._decided[key][-1], self._confidence[key][-1])
            for key in ("student", "teacher")
        )
        for row in np.flatnonzero(student[0] != teacher[0]):
            facts = {
                "sample": before + int(row),
                "label": int(labels[row]),
                "student": int(student[0][row]),
                "student_confidence": float(student[1][row]),
                "teacher": int(teacher[0][row]),
                "teacher_confidence": float(teacher[1][row]),
            }
            image = None if images is None else images[row]
            self.disagreements.append((facts, image))
        self.disagreements.sort(
            key=lambda pair: (
                -min(
                    pair[0]["student_confidence"],
                    pair[0]["teacher_confidence"],
                ),
                pair[0]["sample"],
            )
        )
        # A view would hold its whole batch.
        self.disagreements = [
            (facts, image if image is None else _owned(image))
            for facts, image in self.disagreements[:DISAGREEMENTS]
        ]

    def facts(self, key):
        """Accuracy, agreement with the teacher and calibration of a network."""
        right = self.decided[key] == self.labels
        bins = reliability(self.confidence[key], right, BINS)
        facts = {
            "accuracy": float(right.mean()),
            "agreement_with_teacher": None,
            "mean_confidence": float(self.confidence[key].mean()),
            "expected_calibration_error": bins.error(),
            "reliability": provenance.to_json(bins._asdict()),
        }
        if "teacher" in self.decided and key != "teacher":
            same = self.decided[key] == self.decided["teacher"]
            facts["agreement_with_teacher"] = float(same.mean())
        return facts

    def classes(self):
        """One dict per class that has samples: every network's accuracy.

        The classes on which student and teacher agree least come first;
        without a teacher, those on which the student is least accurate.
        """
        rows = []
        for number in range(self.classifiers["student"].classes):
            of_class = self.labels == number
            if not of_class.any():
                continue
            row = {"class": number, "samples": int(of_class.sum())}
            for key, decided in self.decided.items():
                row[key] = float((decided[of_class] == number).mean())
            if "teacher" in self.decided:
                same = self.decided["student"] == self.decided["teacher"]
                row["agreement"] = float(same[of_class].mean())
            rows.append(row)
        by = "agreement" if "teacher" in self.decided else "student"
        return sorted(rows, key=lambda row: (row[by], row["class"]))

    def splits(self):
        """The most frequent pairs of different decisions, and who is right."""
        if "teacher" not in self.decided:
            return []
        student, teacher = self.decided["student"], self.decided["teacher"]
        pairs = collections.defaultdict(lambda: [0, 0, 0])
        for row in np.flatnonzero(student != teacher):
            t, s = int(teacher[row]), int(student[row])
            pairs[t, s][0] += 1
            pairs[t, s][1] += t == self.labels[row]
            pairs[t, s][2] += s == self.labels[row]
        ordered = sorted(pairs.items(), key=lambda item: (-item[1][0], item[0]))
        return [
            {
                "teacher": t,
                "student": s,
                "samples": n,
                "teacher_right": int(teacher_right),
                "student_right": int(student_right),
            }
            for (t, s), (n, teacher_right, student_right) in ordered[:SPLITS]
        ]


def _check_labels(y):
    if y is None:
        raise ValueError(
            "write_report needs labels and `dataset` gives none: pass test "
            "data as batches (x, y), or a tuple (x, y) of arrays."
        )
    if np.ndim(y) == 0 and not isinstance(y, (dict, list, tuple)):
        raise ValueError(
            "`dataset` gives single samples. Batch it: dataset.batch(32)."
        )


def _owned(image):
    return image.copy() if getattr(image, "base", None) is not None else image


def _joined(parts):
    return {key: np.concatenate(values) for key, values in parts.items()}
