"""Which decisions of a batch count, and what their labels are."""

import keras
import numpy as np

from keras_distill.metrics.decisions import position_weights

_WHAT = "write_report is for one class per decision"
_OTHERS = " kd.export.verify compares files of networks for other tasks too."


def labels_and_weights(batch, shape, classes, mask, ignore_class):
    """Returns class numbers and weights of the decisions of a batch.

    Args:
        batch: `(y, sample_weight)` as NumPy arrays.
        shape: The shape of the decisions, `(batch, ...)`.
        classes: The number of classes.
        mask: The mask of the student's output, or `None`.
        ignore_class: The label of decisions that do not count, or `None`.

    Returns:
        Two arrays of `shape`: int64 and float64. What does not count has the
        weight 0 and may have any label.

    Raises:
        ValueError: If the labels are not one class per decision, or a weight
            is negative, not finite or of another shape.
    """
    y, sample_weight = batch
    labels, is_class = _class_numbers(y, shape, classes)
    if mask is not None and mask.shape != shape[: mask.ndim]:
        mask = None  # Not of the decisions: the network has joined positions.
    weights = position_weights(
        shape,
        labels=labels,
        mask=mask,
        sample_weight=_checked_weight(sample_weight, shape),
        ignore_class=ignore_class,
    )
    _check_classes(y, labels, is_class, weights, classes)
    return labels, weights


def _class_numbers(y, shape, classes):
    """The labels as whole numbers of `shape`, and where they are such."""
    if keras.tree.is_nested(y):
        raise ValueError(
            f"{_WHAT}. The labels of `dataset` are several tensors."
        )
    if y.dtype.kind not in "iufb":
        raise ValueError(
            f"{_WHAT}. The labels of `dataset` have the dtype {y.dtype}."
        )
    if y.shape == (*shape, classes):
        sums = y.astype("float64").sum(-1)
        return y.argmax(-1), np.isclose(sums, 1.0, atol=1e-2)
    if y.shape in (shape, (*shape, 1)):
        y = y.reshape(shape)
        labels = np.nan_to_num(y).astype("int64")
        return labels, labels == y
    raise ValueError(
        f"{_WHAT}. Expected class numbers of shape {shape} or one-hot rows "
        f"of shape {(*shape, classes)}. The labels of `dataset` have the "
        f"shape {y.shape}.{_OTHERS}"
    )


def _checked_weight(weight, shape):
    if weight is None:
        return None
    weight = np.asarray(weight, "float64")
    if weight.shape[-1:] == (1,) and weight.ndim > 1:
        weight = weight[..., 0]
    if weight.shape != shape[: weight.ndim]:
        raise ValueError(
            "The sample weights of `dataset` must have the shape of the "
            f"decisions, {shape}, or one number per sample. Received: "
            f"{weight.shape}"
        )
    if not np.isfinite(weight).all() or (weight < 0).any():
        wrong = weight[~(np.isfinite(weight) & (weight >= 0))]
        raise ValueError(
            "The sample weights of `dataset` must be finite and not "
            f"negative. Received: {wrong[0]:g}"
        )
    return weight


def _check_classes(y, labels, is_class, weights, classes):
    counted = weights > 0
    if not is_class[counted].all():
        if y.shape == (*labels.shape, classes):
            raise ValueError(
                f"{_WHAT}. The rows of the labels of `dataset` do not sum to "
                f"1: these are several labels per sample.{_OTHERS}"
            )
        wrong = y.reshape(labels.shape)[counted & ~is_class][0]
        raise ValueError(
            f"{_WHAT}. The labels of `dataset` are not class indices: one is "
            f"{wrong}: is this a regression?{_OTHERS}"
        )
    wrong = labels[counted & ((labels < 0) | (labels >= classes))]
    if wrong.size:
        raise ValueError(
            f"Labels must lie in [0, {classes - 1}]: the student has {classes} "
            f"classes. `dataset` has others, such as {wrong[0]}. Labels that "
            "count nowhere: pass `ignore_class`, or sample weights of 0."
        )
