"""Sequences and maps as one long batch of positions."""

from keras import ops


def flat_positions(*arguments):
    """`(batch, ..., classes)` arrays as `(positions, classes)`.

    Args:
        *arguments: Arrays of one shape `(batch, ..., classes)`, and last a
            `sample_weight`: `None`, `(batch,)`, or any leading part of their
            shape without the classes.

    Returns:
        The arrays, and the weight of each position, `(positions,)`.
    """
    *arrays, sample_weight = arguments
    array = arrays[0]
    classes = array.shape[-1]
    if sample_weight is None:
        weight = ops.ones_like(array[..., 0])
    else:
        weight = ops.cast(sample_weight, array.dtype)
        missing = len(array.shape) - 1 - len(weight.shape)
        weight = ops.reshape(weight, tuple(ops.shape(weight)) + (1,) * missing)
        weight = weight * ops.ones_like(array[..., 0])
    return (
        *(ops.reshape(x, (-1, classes)) for x in arrays),
        ops.reshape(weight, (-1,)),
    )
