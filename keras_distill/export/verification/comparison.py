"""One pass over the data: what every network answers, counted."""

from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from keras_distill._keras.heads import gives_logits
from keras_distill.export.aware import is_aware
from keras_distill.export.network import activated
from keras_distill.export.verification import totals
from keras_distill.export.verification.gate import VerificationError
from keras_distill.export.verification.labels import CLASSES
from keras_distill.export.verification.labels import counting_weights
from keras_distill.export.verification.labels import of_one_of_several
from keras_distill.export.verification.labels import of_output
from keras_distill.export.verification.metric import MetricOfNetworks
from keras_distill.metrics.decisions import LabelsFingerprint

# What a row says of the answers; a task fills in some.
_ANSWERS = (
    "accuracy",
    "accuracy_drop_points",
    "accuracy_interval",
    "balanced_accuracy",
    "mean_iou",
    "iou",
    "recall",
    "precision",
    "confusion_matrix",
    "area_under_curve",
    "mean_absolute_error",
    "root_mean_squared_error",
    "agreement",
    "teacher_agreement",
    "metric",
    "metric_drop",
    "max_difference_steps",
    "equal_outputs",
)


class Answers(NamedTuple):
    """What all networks answer to a batch.

    Attributes:
        fed: What the student and each file were fed with.
        outputs: The outputs of each, a dict by name.
        masks: The masks of the student's outputs.
        teacher: The teacher's outputs, or `None`.
    """

    fed: list
    outputs: list
    masks: dict
    teacher: Any


def answers(student, files, teacher, x):
    """Runs every network on a batch.

    Args:
        student: The `KerasNetwork` of the student.
        files: A list of `File`.
        teacher: The `KerasNetwork` of the teacher, or `None`.
        x: The dataset's `x`.
    """
    student_x = student.input(x)
    fed = [student_x, *(file.feed(x, student_x) for file in files)]
    outputs, masks = student.with_masks(student_x)
    outputs = [outputs, *(file(a) for file, a in zip(files, fed[1:]))]
    if teacher is not None:
        teacher = teacher(teacher.input(x))
    return Answers(fed, outputs, masks, teacher)


def compared_outputs(outputs, output, teacher):
    """Returns the names of the outputs to compare: one, or all.

    Args:
        outputs: The student's outputs, a dict by name.
        output: As in `verify`.
        teacher: The teacher's outputs, or `None`.
    """
    if output is not None and output not in outputs:
        raise ValueError(
            f"`output` must be one of {list(outputs)}. Received: {output!r}"
        )
    if output is not None or len(outputs) == 1:
        return [output or next(iter(outputs))]
    if teacher is not None and not set(teacher) & set(outputs):
        raise ValueError(
            f"The teacher's outputs {list(teacher)} have none of the names of "
            f"the student's, {list(outputs)}: there is nothing to compare. Say "
            "which output it answers, verify(output=...)."
        )
    return list(outputs)


class Comparison:
    """Counts what a student, files and a teacher answer in one output.

    Args:
        student: The `KerasNetwork` of the student.
        files: A list of `File`.
        teacher: The `KerasNetwork` of the teacher, or `None`.
        reader: A `LabelReader`.
        output: The name of the compared output.
        metric: A `keras.metrics.Metric`, or `None`.
        one_of_several: Whether further outputs are compared too. This one may
            be without labels and without an answer of the teacher then.

    Attributes:
        output: The name of the compared output.
        labelled: Whether there are labels.
        gives_logits: Whether the student's output is known to be logits.
        samples: Number of samples so far.
        positions: Number of positions that count.
        first: What each network was fed with: one sample.
    """

    def __init__(
        self,
        student,
        files,
        teacher,
        reader,
        output,
        metric,
        one_of_several=False,
    ):
        self.student, self.teacher = student, teacher
        self._one_of_several = one_of_several
        self.labelled = False
        self.networks = [student, *files]
        self.reader = reader
        self.output = output
        self.metric = None if metric is None else MetricOfNetworks(metric)
        self.gives_logits = gives_logits(student.model, output=output)
        self._teacher_gives_logits = teacher is not None and gives_logits(
            teacher.model, output=output
        )
        self.samples = self.positions = 0
        self.first = None
        self._differences = []
        self._totals = {}
        self._fingerprints = {}

    def add(self, answers, y, sample_weight):
        """Counts the `Answers` to a batch."""
        outputs = answers.outputs
        if not self.samples:
            self._differences = [
                totals.Differences(step) for step in self._steps()
            ]
            self.first = keras.tree.map_structure(lambda v: v[:1], answers.fed)
        values = [
            network.select(output, self.output)
            for network, output in zip(self.networks, outputs)
        ]
        shape = values[0].shape
        self._classes = max(shape[-1], 2)
        for network, value in zip(self.networks[1:], values[1:]):
            _check_shape(value, shape, network.label)
        teacher = answers.teacher
        if self._one_of_several and self.output not in (teacher or ()):
            teacher = None
        if teacher is not None:
            teacher = self.teacher.select(teacher, self.output)
            _check_shape(teacher, shape, "teacher")
        if self._one_of_several:
            y, sample_weight = (
                of_one_of_several(v, self.output) for v in (y, sample_weight)
            )
        y = of_output(y, self.output)
        self.labelled |= y is not None
        masks = answers.masks
        weights = counting_weights(
            shape,
            of_output(sample_weight, self.output, "sample weights"),
            masks.get(self.output, next(iter(masks.values()))),
        )
        read, weights = self.reader.read(y, shape, weights)
        self.samples += shape[0]
        counted = weights != 0
        self.positions += int(counted.sum())
        if counted.any():
            self._count(values, teacher, read, weights, counted)
            if self.metric is not None and y is not None:
                for network, value in zip(self.networks, values):
                    self.metric.add(
                        network.label, y, value, weights, network.activation
                    )

    def _steps(self):
        """The step of each network's output, if the student rounds."""
        if not is_aware(self.student.model):
            return [None] * len(self.networks)
        return [network.output_scale(self.output) for network in self.networks]

    def _count(self, values, teacher, read, weights, counted):
        """Counts a batch; what has weight 0 is set to 0 before."""
        if teacher is not None:
            _check_finite(teacher[counted], "teacher")
            teacher = _by_position(teacher, counted)
        for network, value in zip(self.networks, values):
            _check_finite(value[counted], network.label)
        shape = values[0].shape
        values = [_by_position(value, counted) for value in values]
        weights = weights.reshape(values[0].shape[:2])
        expected = [
            np.asarray(activated(values[0], network.activation))
            for network in self.networks
        ]
        for difference, value, student in zip(
            self._differences, values, expected
        ):
            difference.add(value, student, weights)
        # What ceased to fit is not counted any more.
        self._totals = {
            kind: self._totals.get(kind) or self._new_totals(kind, shape)
            for kind in read
        }
        for kind, y in read.items():
            if y is not None:
                fingerprint = self._fingerprints.setdefault(
                    kind, LabelsFingerprint()
                )
                fingerprint.add(y[counted])
                y = _by_position(y.reshape(*counted.shape, -1), counted)
            for total, value, student in zip(
                self._totals[kind], values, expected
            ):
                total.add(value, student, teacher, y, weights)

    def _new_totals(self, kind, shape):
        new = [totals.OF_TASK[kind](shape[-1]) for _ in self.networks]
        for network, total in zip(self.networks, new):
            total.of_map = len(shape) == 4
            total.logits = self.gives_logits and network.activation is None
            total.teacher_logits = self._teacher_gives_logits
        return new

    def answers(self):
        """Returns the answers of each network: a list of dicts for rows."""
        rows = []
        for network, difference, total in zip(
            self.networks, self._differences, self._totals[self.reader.task]
        ):
            row = {
                **dict.fromkeys(_ANSWERS),
                **total.results(),
                **difference.results(),
            }
            rows.append(row)
            if row["accuracy"] is not None:
                best = rows[0]["accuracy"]
                row["accuracy_drop_points"] = 100 * (best - row["accuracy"])
            if self.metric is not None and self.metric.has_counted:
                row["metric"] = self.metric.result(network.label)
                row["metric_drop"] = self._metric_drop(rows)
        return rows

    def _metric_drop(self, rows):
        """What the last row lost; of several numbers the most."""
        drop = np.asarray(rows[0]["metric"]) - np.asarray(rows[-1]["metric"])
        drop = 100 * drop if self.metric.should_grow else 0.0 - drop
        return float(np.max(drop))

    def facts(self):
        """Returns what a `Verification` notes of data and task."""
        task = self.reader.task
        facts = {
            "positions": self.positions,
            "task": task,
            "class_names": self._class_names(),
        }
        if self.metric is not None:
            facts["metric"] = self.metric.name
            facts["metric_in_points"] = self.metric.should_grow
        if task in self._fingerprints:
            fingerprint = self._fingerprints[task].hexdigest()
            facts["data_fingerprint"] = fingerprint
            if task == CLASSES:
                counts = self._totals[task][0].counts()
                facts["majority"] = int(counts.of_label.argmax())
                facts["majority_accuracy"] = counts.majority_accuracy
        return facts

    def _class_names(self):
        """The names that a file has, if they are those of this output."""
        if self._one_of_several:
            return None
        names = [network.class_names or () for network in self.networks]
        return next((n for n in names if len(n) == self._classes), None)


def _check_shape(value, expected, label):
    if value.shape != expected:
        raise ValueError(
            f"The outputs of '{label}' have the shape {value.shape}, the "
            f"student's {expected}; they must be the same."
        )


def _by_position(values, counted):
    """Returns `(batch, positions, units)`, 0 where nothing counts."""
    values = np.where(counted[..., None], values, 0)
    return values.reshape(len(values), -1, values.shape[-1])


def _check_finite(value, label):
    if not np.isfinite(value).all():
        raise VerificationError(
            f"The outputs of '{label}' are not finite on `dataset` (NaN or "
            "infinity): nothing can be said of its answers. Has the training "
            "diverged, are there NaN in the data, or do values leave the "
            "range of half precision?"
        )
