"""Labels of one class per sample, as integers."""

import reprlib

import keras
import numpy as np


def class_indices(y, classes, argument, asked_by="diagnose"):
    """Returns labels as integers.

    Args:
        y: Class indices `(samples,)` or `(samples, 1)`, one-hot
            `(samples, classes)`, or `None`.
        classes: The number of classes of the student; `None`: not known yet.
        argument: The name of the user's argument, for messages.
        asked_by: The name of the function that asks, for messages.

    Returns:
        A NumPy array `(samples,)`; `None` without labels.

    Raises:
        ValueError: If there are labels of several outputs or several classes
            per sample, or numbers that are not classes of the student.
    """
    if y is None:
        return None
    what = f"{asked_by} is for one class per sample"
    if keras.tree.is_nested(y):
        raise ValueError(
            f"{what}. The labels of {argument} are several tensors: "
            f"{reprlib.repr(y)}"
        )
    y = keras.ops.convert_to_numpy(y)
    is_one_hot = is_wide(y) and classes in (None, y.shape[1])
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    # V: bfloat16.
    if not (is_one_hot or y.ndim == 1) or y.dtype.kind not in "iufbV":
        rows = "rows" if classes is None else f"rows of {classes}"
        raise ValueError(
            f"{what}: class indices or one-hot {rows}. The labels of "
            f"{argument} have shape {y.shape} and dtype {y.dtype}."
        )
    if is_one_hot:
        if not np.allclose(y.astype("float64").sum(-1), 1.0, atol=1e-2):
            raise ValueError(
                f"{what}. The rows of the labels of {argument} do not sum to "
                "1: these are several labels per sample."
            )
        return y.argmax(-1)
    with np.errstate(invalid="ignore"):
        indices = y.astype("int64")
    if np.any(indices != y):
        raise ValueError(
            f"{what}. The labels of {argument} are not class indices: one is "
            f"{y[indices != y][0]}: is this a regression?"
        )
    wrong = indices[(indices < 0) | (indices >= (classes or np.inf))]
    if wrong.size:
        bounds = (
            "be at least 0"
            if classes is None
            else f"lie in [0, {classes - 1}]: the student has {classes} classes"
        )
        raise ValueError(
            f"Labels must {bounds}. {argument} has others, such as {wrong[0]}."
        )
    return indices


def is_wide(y):
    """Whether labels have a column for each of several classes."""
    shape = np.shape(y)
    return len(shape) == 2 and shape[1] > 1
