"""Counts over many batches that compare networks, in NumPy."""

import numpy as np

from keras_distill.export.model_inputs import named_outputs


class Totals:
    """Running sums over the batches; every decision is counted once.

    A head of one unit is counted under both thresholds (index 0: logits, 1:
    probabilities). Which one applies is known at the end of the data.
    """

    def __init__(self):
        self.positions = self.values = 0
        self.sum = self.max = self.scale = 0.0
        self.correct = self.agreeing = self.agreeing_teacher = None
        self.logits = self.teacher_logits = False

    def add(self, student, outputs, teacher, labels):
        """Adds a batch.

        Args:
            student, outputs, teacher: The outputs of the Keras student, of the
                network that is compared and of the teacher (or `None`), of
                shape `(batch, ..., classes)`.
            labels: Class numbers `(batch, ...)`, or `None`.
        """
        difference = np.abs(outputs.astype("float64") - student)
        self.values += difference.size
        self.sum += difference.sum()
        self.max = np.maximum(self.max, difference.max())
        self.scale = np.maximum(self.scale, np.abs(student).max())
        decisions = _decisions(outputs)
        self.positions += decisions.shape[1]
        self.logits |= _outside_unit_interval(student)
        same = (decisions == _decisions(student)).sum(axis=1)
        self.agreeing = _plus(self.agreeing, same)
        if labels is not None:
            right = (decisions == labels.reshape(-1)).sum(axis=1)
            self.correct = _plus(self.correct, right)
        if teacher is not None:
            self.teacher_logits |= _outside_unit_interval(teacher)
            same = _decisions(teacher)[:, None] == decisions[None]
            self.agreeing_teacher = _plus(
                self.agreeing_teacher, same.sum(axis=-1)
            )

    def results(self):
        """Returns the shares and differences of a row."""
        binary = len(self.agreeing) == 2
        threshold = int(binary and not self.logits)
        teacher = int(binary and not self.teacher_logits)

        def share(counts, index):
            if counts is None:
                return None
            return float(counts[index] / self.positions)

        return {
            "accuracy": share(self.correct, threshold),
            "agreement": share(self.agreeing, threshold),
            "teacher_agreement": share(
                self.agreeing_teacher, (teacher, threshold)
            ),
            "mean_absolute_difference": float(self.sum / self.values),
            "max_absolute_difference": float(self.max),
            "max_relative_difference": float(
                self.max / self.scale if self.scale else self.max
            ),
        }


def _plus(counts, more):
    return more if counts is None else counts + more


def _decisions(logits):
    """Turns `(..., classes)` into class numbers `(thresholds, positions)`."""
    flat = logits.reshape(-1, logits.shape[-1])
    if logits.shape[-1] > 1:
        return flat.argmax(axis=-1)[None]
    return np.stack([flat[:, 0] > 0.0, flat[:, 0] > 0.5]).astype(int)


def _outside_unit_interval(logits):
    return bool(logits.min() < 0.0 or logits.max() > 1.0)


def class_numbers(y, logits, output):
    """Turns labels of any accepted form into whole numbers `(batch, ...)`."""
    y = _labels_of(y, output)
    shape = logits.shape
    if y.shape == shape and shape[-1] > 1:
        if np.allclose(y.sum(axis=-1), 1.0, atol=1e-3):
            return y.argmax(axis=-1)
    elif y.shape in (shape[:-1], (*shape[:-1], 1)):
        if np.array_equal(y, np.round(y)):
            return y.reshape(shape[:-1])
    raise ValueError(
        f"Labels must be class numbers of shape {shape[:-1]} or one-hot of "
        f"shape {shape}. Received: shape {y.shape}, dtype {y.dtype}. For other "
        "tasks leave them out, dataset.map(lambda x, y: x), and compare only "
        "the differences of the outputs."
    )


def _labels_of(y, output):
    """Selects the labels of one output, if there are several."""
    if not isinstance(y, (dict, list, tuple)):
        return y
    named = {k: v for k, v in named_outputs(y).items() if v is not None}
    if output not in named:
        raise ValueError(
            f"There are no labels for the compared output '{output}'. They "
            "must come as the model's outputs do: a dict with the same keys, "
            "or a list or tuple in the same order. Received: a "
            f"{type(y).__name__} with labels for {list(named)}"
        )
    return named[output]
