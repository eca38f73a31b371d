"""What the labels of a dataset mean, and which positions count."""

import keras
import numpy as np

from keras_distill._keras.heads import final_activation
from keras_distill._keras.heads import output_keys
from keras_distill.export.model_inputs import named_outputs
from keras_distill.metrics.decisions import position_weights

CLASSES, LABELS, NUMBERS = "classification", "multi_label", "regression"
# Names of losses, without "_" and capitals.
_OF_CLASSES = {"categoricalcrossentropy", "sparsecategoricalcrossentropy"}
_OF_NUMBERS = {
    "cosinesimilarity",
    "huber",
    "logcosh",
    "meanabsoluteerror",
    "meanabsolutepercentageerror",
    "meansquarederror",
    "meansquaredlogarithmicerror",
}


class LabelReader:
    """Reads labels, and finds out what they mean.

    One batch may look like another kind by chance: rows of several labels
    with a single 1 each look like one-hot. So every kind that fits all
    batches is kept, and the first of them counts.

    Args:
        student: The Keras student. A softmax or a categorical loss at its end
            allows classes only.
        ignore_class: The class number of positions without a class.
        output: The key of the student's output, if there are several.

    Attributes:
        kinds: The kinds that fit all batches, of `CLASSES` (class numbers or
            one-hot), `LABELS` (0 or 1 per output unit) and `NUMBERS`.
    """

    def __init__(self, student, ignore_class=None, output=None):
        self.ignore_class = ignore_class
        loss = _name_of_loss(student, output)
        if (
            final_activation(student, output) == "softmax"
            or loss in _OF_CLASSES
        ):
            self.kinds = [CLASSES]
        else:
            self.kinds = [CLASSES, LABELS, NUMBERS]
        self._unlabelled = NUMBERS if loss in _OF_NUMBERS else CLASSES

    @property
    def task(self):
        """The kind that counts."""
        return self.kinds[0]

    def read(self, y, shape, weights):
        """Reads the labels of one batch.

        Args:
            y: The labels of the compared output, or `None`.
            shape: The shape of that output, `(batch, ..., units)`.
            weights: `(batch, ...)`; labels of weight 0 may be anything.

        Returns:
            A dict kind -> labels `(batch, ...)` (`LABELS` and `NUMBERS`:
            `(batch, ..., units)`), and the weights, 0 where the label is
            `ignore_class`.
        """
        if y is None:
            self.kinds = [self._unlabelled]
            return dict.fromkeys(self.kinds), weights
        if y.shape in (shape[:-1], (*shape[:-1], 1)):
            weights = position_weights(
                shape[:-1],
                labels=y.reshape(shape[:-1]),
                sample_weight=weights,
                ignore_class=self.ignore_class,
            )
        counted = weights != 0
        read = {
            CLASSES: self._class_numbers(y, shape, counted),
            LABELS: _zeros_and_ones(y, shape, counted),
            NUMBERS: _numbers(y, shape, counted),
        }
        kinds = [kind for kind in self.kinds if read[kind] is not None]
        if not kinds:
            raise _unfit(y, shape, self.kinds)
        self.kinds = kinds
        return {kind: read[kind] for kind in kinds}, weights

    def _class_numbers(self, y, shape, counted):
        """Returns whole numbers `(batch, ...)`, `None` if y is no classes."""
        if y.dtype.kind not in "biuf":
            return None
        units, given = shape[-1], y
        if y.shape == shape and units > 1:
            rows = y[counted].astype("float64")
            ones = np.allclose(rows.sum(axis=-1), 1.0, atol=1e-3)
            return y.argmax(axis=-1) if ones and (rows >= 0).all() else None
        if y.shape not in (shape[:-1], (*shape[:-1], 1)):
            return None
        y = np.where(counted, y.reshape(shape[:-1]), 0)
        if not np.array_equal(y, np.round(y)):
            return None
        wrong = y[(y < 0) | (y >= max(units, 2))]
        if not wrong.size:
            return y.astype("int64")
        if units == 1 and given.dtype.kind == "f":
            return None
        way_out = (
            "If it marks positions without a class, give verify(ignore_class="
            f"{int(wrong[0])})."
        )
        if units == 1:
            way_out += " For a regression, give float labels."
        raise ValueError(
            f"Labels must lie in [0, {max(units, 2) - 1}]: the student has "
            f"{max(units, 2)} classes. `dataset` has {wrong.size} other(s) in "
            f"one batch, such as {int(wrong[0])}. {way_out}"
        )


def by_output(values, student):
    """Names labels or weights as `named_outputs` names the outputs.

    Those of a list may come as `fit` takes them: a dict with the names of the
    student's last layers.
    """
    layers = getattr(student, "output_names", None)
    if not isinstance(values, dict) or not layers or output_keys(student):
        return values
    names = {layer: f"output_{i}" for i, layer in enumerate(layers)}
    return {names.get(key, key): value for key, value in values.items()}


def check_by_output(values, names, what="labels"):
    """Raises if none of several outputs finds its labels or weights.

    Args:
        values: The labels or weights of a batch, or `None`.
        names: The names of the compared outputs.
        what: What the values are.
    """
    if values is None or len(names) == 1:
        return
    received = f"one array of shape {np.shape(values)}"
    if keras.tree.is_nested(values):
        received = f"{what} for {list(named_outputs(values))}"
        if not set(names).isdisjoint(named_outputs(values)):
            return
    raise ValueError(
        f"The student has the outputs {names}, so the {what} of `dataset` "
        f"must be a dict with these keys. Received: {received}. Or compare "
        "one output: verify(output=...)."
    )


def of_output(values, output, what="labels"):
    """Selects the labels or weights of one output, if there are several."""
    if not isinstance(values, (dict, list, tuple)):
        return values
    named = {k: v for k, v in named_outputs(values).items() if v is not None}
    if output not in named:
        raise ValueError(
            f"There are no {what} for the compared output '{output}'. They "
            "must come as the model's outputs do: a dict with the same keys, "
            "or a list or tuple in the same order. Received: a "
            f"{type(values).__name__} with {what} for {list(named)}"
        )
    return named[output]


def of_one_of_several(values, output):
    """Selects the labels or weights of an output; `None` if it has none."""
    if not isinstance(values, (dict, list, tuple)):
        return values
    return named_outputs(values).get(output)


def counting_weights(shape, sample_weight, mask):
    """Returns how much each position of an output counts.

    Args:
        shape: The shape of the output, `(batch, ..., units)`.
        sample_weight: The weights of the dataset, or `None`.
        mask: The mask that Keras attached to the student's output, or `None`.

    Raises:
        ValueError: If weights are negative or not finite, or do not fit.
    """
    positions = shape[:-1]
    if mask is not None and mask.shape != positions[: mask.ndim]:
        mask = None
    if sample_weight is not None:
        weight = np.asarray(sample_weight)
        fits = weight.shape in (
            *(positions[: i + 1] for i in range(len(positions))),
            (*positions, 1),
            (positions[0], 1),
        )
        if not fits:
            raise ValueError(
                "The sample weights of `dataset` must have the shape "
                f"{positions}, or that of its first axes. Received: "
                f"{weight.shape}"
            )
        if not (np.isfinite(weight).all() and (weight >= 0).all()):
            raise ValueError(
                "The sample weights of `dataset` must be finite and at least "
                f"0. Received: {weight.min():g} to {weight.max():g}"
            )
    return position_weights(positions, mask=mask, sample_weight=sample_weight)


def _zeros_and_ones(y, shape, counted):
    if y.shape != shape or shape[-1] == 1 or y.dtype.kind not in "biuf":
        return None
    rows = y[counted]
    return y if np.all((rows == 0) | (rows == 1)) else None


def _numbers(y, shape, counted):
    single = shape[-1] == 1 and y.shape == shape[:-1]
    kinds = "f" if shape[-1] == 1 else "iuf"
    if not (single or y.shape == shape) or y.dtype.kind not in kinds:
        return None
    if not np.isfinite(y.reshape(shape)[counted]).all():
        raise ValueError("The labels of `dataset` hold NaN or infinity.")
    return y.reshape(shape)


def _unfit(y, shape, kinds):
    others = ""
    if NUMBERS in kinds:
        others = f", several labels (0 or 1) or float targets of shape {shape}"
    return ValueError(
        f"Labels must be class numbers of shape {shape[:-1]} or one-hot of "
        f"shape {shape}{others}. Received: shape {y.shape}, dtype {y.dtype}. "
        "For other tasks leave them out, dataset.map(lambda x, y: x), and "
        "compare only the differences of the outputs."
    )


def _name_of_loss(model, output):
    """The name of the loss that a model was compiled with, as listed above."""
    loss = getattr(model, "loss", None)
    loss = loss.get(output) if isinstance(loss, dict) else loss
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    name = getattr(loss, "__name__", type(loss).__name__)
    return name.replace("_", "").lower()
