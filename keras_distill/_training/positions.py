"""Labels and weights with a position for each decision: their shapes."""

import keras
import numpy as np

from keras_distill._shapes import is_one_shape
from keras_distill._shapes import sizes_agree
from keras_distill._training.loss_names import is_for_classes

_WAY_OUT = (
    "Bring them to the size of the output, labels with the nearest neighbour: "
    'keras.ops.image.resize(y, size, interpolation="nearest").'
)


_OF_SAMPLES = ("circle", "ctc", "dice", "tversky")


def check_positions(y, sample_weight, output_shape, loss, where=""):
    """Raises for labels or weights of other positions than the output's.

    Args:
        y: The labels of a batch, or `None`.
        sample_weight: Its weights, or `None`.
        output_shape: The shape of the student's output, or a structure.
        loss: The task loss of `compile`.
        where: The beginning of the messages.
    """
    if not is_one_shape(output_shape) or len(output_shape) < 3:
        return
    shape = tuple(output_shape)
    positions = shape[:-1]
    if _is_one(y) and _is_one(loss) and is_for_classes(loss):
        fitting = (positions, (*positions, 1), shape)
        if not any(sizes_agree(np.shape(y), other) for other in fitting):
            raise ValueError(
                f"{where}The student decides at positions {positions}, so "
                f"labels must have the shape {positions}, or {shape} if they "
                f"are one-hot. Received: labels of shape {np.shape(y)}. "
                f"{_WAY_OUT}"
            )
    if _is_one(sample_weight):
        given = np.shape(sample_weight)
        if len(given) > len(positions) and given[-1] == 1:
            given = given[:-1]
        ones = zip(given[1:], positions[1:])
        if len(given) > len(positions) or not all(
            None in sizes or sizes[0] in (sizes[1], 1) for sizes in ones
        ):
            raise ValueError(
                f"{where}The student decides at positions {positions}, so "
                "sample_weight must have this shape, or (batch,). Received: "
                f"sample_weight of shape {np.shape(sample_weight)}. {_WAY_OUT}"
            )


def weight_of_each_position(sample_weight, output_shape, loss):
    """Gives weights per sample the axes of positions, of size 1.

    In Keras's losses with a value for each position the weights of images would
    meet the last axis of a map. A loss of your own may have reduced it.

    Args:
        sample_weight: One tensor, a structure, or `None`.
        output_shape: The shape of the student's output, or a structure.
        loss: The task loss.
    """
    if not (
        _is_one(sample_weight)
        and is_one_shape(output_shape)
        and _is_one(loss)
        and _is_for_each_position(loss)
    ):
        return sample_weight
    positions = output_shape[1:-1]
    missing = 1 + len(positions) - len(sample_weight.shape)
    weight = sample_weight[(..., *[None] * missing)]
    divided = getattr(loss, "reduction", None) == "mean_with_sample_weight"
    if divided and missing > 0 and None not in positions:
        # Keras divides by the sum of the weights: each position has one.
        weight = keras.ops.multiply(weight, keras.ops.ones((1, *positions)))
    return weight


def _is_for_each_position(loss):
    """Whether this is a loss of Keras with a value for each position."""
    loss = keras.losses.get(loss)
    function = getattr(loss, "fn", loss)
    module = getattr(function, "__module__", None) or ""
    return (
        module.split(".")[0] == "keras" and function.__name__ not in _OF_SAMPLES
    )


def _is_one(structure):
    return structure is not None and not keras.tree.is_nested(structure)
