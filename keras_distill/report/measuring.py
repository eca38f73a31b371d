"""What the networks do on the test data, in one pass of running sums."""

import numpy as np

from keras_distill._data.for_network import for_network
from keras_distill._data.sources import number_of_batches
from keras_distill._data.sources import weighted_batches
from keras_distill._progress import ProgressBar
from keras_distill.diagnosis.classifier import Classifier
from keras_distill.metrics.decisions import LabelsFingerprint
from keras_distill.report.disagreements import Disagreements
from keras_distill.report.images import are_images
from keras_distill.report.positions import labels_and_weights
from keras_distill.report.provenance import to_json
from keras_distill.report.tally import Comparison
from keras_distill.report.tally import Tally
from keras_distill.report.tally import whole

_ASKED_BY = "write_report"


def measured(measurements, dataset, verbose):
    """Measures several outputs in one pass over the data.

    Args:
        measurements: A dict from output (`None` if there is one) to
            `Measurement`.
        dataset: Labelled test data, as `kd.export.verify` takes it.
        verbose: Whether to show a progress bar.

    Returns:
        The dict, without the outputs that have no labels.
    """
    progress = ProgressBar(number_of_batches(dataset), "batch", verbose)
    several = len(measurements) > 1
    steps = 0
    for x, y, weight in weighted_batches(dataset, "dataset"):
        if not steps and several:
            measurements = _labelled(measurements, y)
        for output, measurement in measurements.items():
            try:
                labels = _of_output(output, y, several, "labels")
                weights = _of_output(output, weight, several, "sample weights")
                measurement.add(x, labels, weights)
            except ValueError as error:
                where = f"Output '{output}': " if several else ""
                way_out = " Leave its labels out." if several else ""
                raise ValueError(f"{where}{error}{way_out}") from error
        steps += 1
        progress.update(steps)
    for measurement in measurements.values():
        measurement.check_complete()
    progress.finish()
    return measurements


def _of_output(output, values, several, what):
    """Labels or weights of an output; those of a single one may have another
    name."""
    if not isinstance(values, dict):
        return values
    if several:
        return values.get(output)
    if output not in values and len(values) > 1:
        raise ValueError(
            f"The student has one output, and the {what} of `dataset` are "
            f"those of several: {list(values)}. Give those of this output."
        )
    return values.get(output, next(iter(values.values())))


def _labelled(measurements, y):
    if not isinstance(y, dict):
        raise ValueError(
            f"The student has the outputs {list(measurements)}, so the labels "
            "of `dataset` must be a dict with these keys. Received: "
            f"{type(y).__name__}."
        )
    labelled = {
        output: measurement
        for output, measurement in measurements.items()
        if y.get(output) is not None
    }
    if not labelled:
        raise ValueError(
            f"The labels of `dataset` are for {list(y)}, none of which is an "
            f"output of the student: {list(measurements)}."
        )
    return labelled


class Measurement:
    """Decisions and confidences of several networks on the same samples.

    Args:
        networks: A dict from `"student"`, and optionally `"alone"` and
            `"teacher"`, to `(model, view)`. `view` is a function from the
            dataset's `x` to what the model takes.
        ignore_class: The label of decisions that do not count, or `None`.
        output: The key of the student's output, or `None`.
        of_teacher: The key of the teacher's.

    Attributes:
        classifiers: A dict from network to `Classifier`.
        samples: The number of samples.
        first_x: The first batch as the dataset gives it.
        fingerprint: The `LabelsFingerprint` of the labels that count.
    """

    def __init__(
        self, networks, ignore_class=None, output=None, of_teacher=None
    ):
        self.classifiers = {}
        self.first_x = None
        self.samples = self._decisions = 0
        self.fingerprint = LabelsFingerprint()
        self._networks = networks
        self._output, self._of_teacher = output, of_teacher
        self._weighted = False
        self._ignore_class = ignore_class
        self._disagreements = None

    def add(self, x, y, weight):
        """Adds a batch, with the labels and weights of this output."""
        if self.first_x is None:
            _check_labels(y)
            self.first_x = x
            self._look_at_networks(self._networks, x)
        self._add(x, y, weight)

    def check_complete(self):
        """Raises if nothing was added that counts."""
        if not self.samples:
            raise ValueError(
                "`dataset` is empty: there is nothing to report on. Was it "
                "consumed before, or smaller than one batch with "
                "drop_remainder=True?"
            )
        if not self._decisions:
            raise ValueError(
                "Nothing in `dataset` counts: every decision has a sample "
                "weight of 0, is masked or has the label `ignore_class` "
                f"({self._ignore_class})."
            )

    @property
    def disagreements(self):
        """Pairs of facts and image, see `Disagreements.shown`."""
        return self._disagreements.shown if self._disagreements else []

    def splits(self):
        """As `Disagreements.splits`."""
        return self._disagreements.splits() if self._disagreements else []

    def _look_at_networks(self, networks, x):
        for key, (model, view) in networks.items():
            role = "teacher" if key == "teacher" else "student"
            self.classifiers[key] = Classifier(
                model,
                view,
                x,
                role,
                asked_by=_ASKED_BY,
                positions=True,
                output=self._of_teacher if key == "teacher" else self._output,
            )
        student = self.classifiers["student"]
        for key, other in self.classifiers.items():
            if other.classes != student.classes:
                raise ValueError(
                    f"{_named(key, other)} has {other.classes} "
                    f"classes, the student '{student.model.name}' "
                    f"{student.classes}: their decisions cannot be compared. "
                    "Leave it out, or give one with the same classes."
                )
        classes = student.classes
        self._tallies = {key: Tally(classes) for key in self.classifiers}
        self._comparisons = {
            key: Comparison(classes)
            for key in self.classifiers
            if key != "student"
        }
        if "teacher" in self.classifiers:
            self._disagreements = Disagreements(classes)
            self._agreeing = {
                key: np.zeros(classes)
                for key in self.classifiers
                if key != "teacher"
            }

    def _add(self, x, y, sample_weight):
        outputs = self._outputs(x)
        shape = outputs["student"][0].shape[:-1]
        labels, weights = labels_and_weights(
            (y, sample_weight),
            shape,
            self.classifiers["student"].classes,
            outputs["student"][1],
            self._ignore_class,
        )
        self.fingerprint.add(labels[weights != 0])
        self._check_finite(outputs, weights)
        decisions = {
            key: self._tallies[key].add(labels, probabilities, weights)
            for key, (probabilities, _) in outputs.items()
        }
        student = decisions["student"]
        for key, comparison in self._comparisons.items():
            comparison.add(labels, student[0], decisions[key][0], weights)
        if self._disagreements is not None:
            self._add_agreement(x, labels, weights, decisions)
        self.samples += shape[0]
        self._decisions += int(np.count_nonzero(weights))
        self._weighted |= bool(np.any((weights != 0) & (weights != 1)))

    def _add_agreement(self, x, labels, weights, decisions):
        teacher = decisions["teacher"]
        for key, sums in self._agreeing.items():
            same = (weights > 0) & (decisions[key][0] == teacher[0])
            sums += np.bincount(labels[same], weights[same], len(sums))
        self._disagreements.add(
            self.samples,
            for_network(self.classifiers["student"].model, x, "student"),
            labels,
            weights,
            decisions["student"],
            teacher,
        )

    def _check_finite(self, outputs, weights):
        for key, (p, _) in outputs.items():
            if not np.isfinite(p[weights > 0]).all():
                raise ValueError(
                    f"The output of '{self.classifiers[key].model.name}' is "
                    "not finite on the test data. Expected finite values: has "
                    "the training diverged, or are there NaN in the data?"
                )

    def _outputs(self, x):
        """Probabilities and mask of every network, the student first."""
        outputs = {
            key: classifier.probabilities_and_mask(x)
            for key, classifier in self.classifiers.items()
        }
        student = outputs["student"][0].shape
        for key, (p, _) in outputs.items():
            if p.shape != student:
                raise ValueError(
                    f"{_named(key, self.classifiers[key])} decides at "
                    f"positions {p.shape[1:-1]}, the student at "
                    f"{student[1:-1]}: their decisions cannot be compared. "
                    "Leave it out."
                )
        return outputs

    def data(self):
        """What the test data is, as JSON."""
        counts = self._tallies["student"].decisions
        present = counts.of_label[counts.of_label > 0]
        largest = int(counts.of_label.argmax())
        return {
            "samples": self.samples,
            "decisions": self._decisions,
            "weighted": self._weighted,
            "kind": self._kind(),
            "classes": len(counts.of_label),
            "imbalanced": is_imbalanced(counts.of_label),
            "majority": {
                "class": largest,
                "accuracy": counts.majority_accuracy,
                "balanced_accuracy": 1 / len(present),
            },
            "labels_fingerprint": self.fingerprint.hexdigest(),
        }

    def _kind(self):
        """What is decided on, in the plural."""
        student = self.classifiers["student"]
        images = are_images(for_network(student.model, self.first_x, "student"))
        axes = len(student.output_shape)
        if axes == 2:
            return "images" if images else "samples"
        return "pixels" if images and axes == 4 else "positions"

    def _of_map(self):
        """Whether the networks decide on the pixels of maps."""
        return len(self.classifiers["student"].output_shape) == 4

    def facts(self, key):
        """Accuracy, agreement with the teacher and calibration of a network."""
        tally = self._tallies[key]
        agreement = None
        if self._disagreements is not None and key != "teacher":
            agreement = float(
                self._agreeing[key].sum() / tally.decisions.weight
            )
        overlap = {}
        if self._of_map():
            share = tally.decisions.mean_intersection_over_union
            overlap = {"mean_iou": share}
        return {
            **tally.facts(),
            **overlap,
            "agreement_with_teacher": agreement,
        }

    def differences(self):
        """The student minus the others: a dict from network to facts."""
        counts = self._tallies["student"].decisions
        return {
            key: comparison.facts(counts)
            for key, comparison in self._comparisons.items()
        }

    def classes(self):
        """One dict per class that has samples: recalls and precisions.

        For maps of pixels also intersection over union.

        The classes on which student and teacher agree least come first;
        without a teacher, those that the student finds least.
        """
        counts = {key: tally.decisions for key, tally in self._tallies.items()}
        recalls = {key: c.recall for key, c in counts.items()}
        precisions = {key: c.precision for key, c in counts.items()}
        of_label = counts["student"].of_label
        rows = []
        for number in np.flatnonzero(of_label):
            (samples,) = whole(of_label[[number]])
            row = {"class": int(number), "samples": samples}
            row.update({k: float(r[number]) for k, r in recalls.items()})
            row["precision"] = to_json(
                {k: p[number] for k, p in precisions.items()}
            )
            if self._of_map():
                row["iou"] = {
                    k: float(c.intersection_over_union[number])
                    for k, c in counts.items()
                }
            if self._disagreements is not None:
                agreeing = self._agreeing["student"][number]
                row["agreement"] = float(agreeing / of_label[number])
            rows.append(row)
        by = "student" if self._disagreements is None else "agreement"
        return sorted(rows, key=lambda row: (row[by], row["class"]))


def is_imbalanced(of_label):
    """Whether the largest class has 1.5 times the mean of the others, or more.

    The accuracy is mostly that of this class then.

    Args:
        of_label: `(classes,)`: the weight of each. Classes without any do not
            count.
    """
    present = of_label[of_label > 0]
    largest = present.max()
    others = (present.sum() - largest) / max(1, len(present) - 1)
    return len(present) > 1 and bool(largest >= 1.5 * others)


def _named(key, classifier):
    what = "teacher" if key == "teacher" else "student alone"
    return f"The {what} '{classifier.model.name}'"


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
