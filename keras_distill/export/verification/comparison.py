"""Counts that compare two networks over many batches, in NumPy."""

import numpy as np

from keras_distill.export.model_inputs import named_outputs


class Totals:
    """Running sums over the batches; every decision is counted once.

    A head of one unit is counted under both thresholds (index 0: logits, 1:
    probabilities); which of them holds is known when all data was seen.
    """

    def __init__(self):
        self.positions = self.values = 0
        self.sum = self.max = self.scale = 0.0
        self.correct = self.agreeing = self.agreeing_teacher = None
        self.logits = self.teacher_logits = False

    def add(self, z, f, t, labels):
        difference = np.abs(f.astype("float64") - z)
        self.values += difference.size
        self.sum += difference.sum()
        self.max = np.maximum(self.max, difference.max())
        self.scale = np.maximum(self.scale, np.abs(z).max())
        own = _decisions(f)
        self.positions += own.shape[1]
        self.logits |= _outside_unit_interval(z)
        same = (own == _decisions(z)).sum(axis=1)
        self.agreeing = _plus(self.agreeing, same)
        if labels is not None:
            right = (own == labels.reshape(-1)).sum(axis=1)
            self.correct = _plus(self.correct, right)
        if t is not None:
            self.teacher_logits |= _outside_unit_interval(t)
            same = (_decisions(t)[:, None] == own[None]).sum(axis=-1)
            self.agreeing_teacher = _plus(self.agreeing_teacher, same)

    def results(self):
        binary = len(self.agreeing) == 2
        own = int(binary and not self.logits)
        teacher = int(binary and not self.teacher_logits)

        def share(counts, index):
            if counts is None:
                return None
            return float(counts[index] / self.positions)

        return {
            "accuracy": share(self.correct, own),
            "agreement": share(self.agreeing, own),
            "teacher_agreement": share(self.agreeing_teacher, (teacher, own)),
            "mean_absolute_difference": float(self.sum / self.values),
            "max_absolute_difference": float(self.max),
            "max_relative_difference": float(
                self.max / self.scale if self.scale else self.max
            ),
        }


def _plus(counts, more):
    return more if counts is None else counts + more


def _decisions(logits):
    """`(..., classes)` -> class numbers `(1 or 2 thresholds, positions)`."""
    flat = logits.reshape(-1, logits.shape[-1])
    if logits.shape[-1] > 1:
        return flat.argmax(axis=-1)[None]
    return np.stack([flat[:, 0] > 0.0, flat[:, 0] > 0.5]).astype(int)


def _outside_unit_interval(logits):
    return bool(logits.min() < 0.0 or logits.max() > 1.0)


def class_numbers(y, logits, output):
    """Labels of any accepted form -> whole numbers `(batch, ...)`."""
    y = _of_output(y, output)
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
        "tasks leave them out, dataset.map(lambda x, y: x): the differences of "
        "the outputs remain."
    )


def _of_output(y, output):
    """The labels of one output; those of several come as the outputs do."""
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
