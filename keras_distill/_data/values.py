"""Checks of the numbers in the data, before the first step."""

import keras
import numpy as np

from keras_distill._arguments import checked_mapping
from keras_distill._arguments import checked_number


def check_sample_weight(sample_weight):
    """Raises for weights that are negative, NaN or infinite.

    Args:
        sample_weight: One array or tensor, a structure of them, or `None`.
    """
    for weight in keras.tree.flatten(sample_weight):
        values = _numbers(weight)
        if values is None:
            continue
        wrong = values[~(np.isfinite(values) & (values >= 0))]
        if wrong.size:
            raise ValueError(
                "sample_weight must hold finite numbers of at least 0. "
                f"Received: {wrong.size} other(s) of {values.size}, such as "
                f"{wrong.flat[0]}. Give a sample that must not count the "
                "weight 0."
            )


def check_class_weight(class_weight):
    """Raises unless this is `None` or a dict class -> number."""
    if class_weight is None:
        return
    for label, weight in checked_mapping("class_weight", class_weight).items():
        checked_number(f"class_weight[{label!r}]", weight, "[0, inf)")


def check_images(inputs, argument, first=0):
    """Raises for images `(batch, ...)` with pixels that are no numbers.

    Args:
        inputs: A structure of arrays or tensors.
        argument: The name of the user's argument.
        first: The number of the first sample, for the message.
    """
    for images in keras.tree.flatten(inputs):
        values = _numbers(images)
        if values is None or values.ndim != 4 or np.isfinite(values).all():
            continue
        finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        wrong = first + np.flatnonzero(~finite)
        raise ValueError(
            f"{argument} must hold finite pixels. Received: {len(wrong)} of "
            f"{len(values)} images with NaN or infinite ones, such as image "
            f"{wrong[0]}. Leave these out, or read their files again."
        )


def _numbers(tensor):
    """Returns floats or integers as an array; `None` for anything else."""
    if tensor is None:
        return None
    try:
        values = np.asarray(tensor)
    except (TypeError, ValueError, NotImplementedError):
        return None
    # V: bfloat16.
    return values if values.dtype.kind in "iubfV" else None
