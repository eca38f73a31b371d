"""From values per sample or per position to one number, with weights."""

from keras import ops

from keras_distill.losses.ops.pooling import adaptive_average_pool


def weighted_mean(values, sample_weight=None):
    """`sum(w * values) / number of values`: Keras's own reduction.

    Args:
        values: `(batch, ...)`, one number per sample or per position.
        sample_weight: `None`, or as in `fitting_weight`.

    Returns:
        A scalar.
    """
    if sample_weight is None:
        return ops.mean(values)
    return ops.mean(values * fitting_weight(sample_weight, values))


def sum_of_positions(values, sample_weight=None):
    """`(1 / batch) sum_b sum over positions of w * values`.

    Args:
        values: `(batch, ...)`, one number per position.
        sample_weight: `None`, or as in `fitting_weight`.

    Returns:
        A scalar.
    """
    if sample_weight is not None:
        values = values * fitting_weight(sample_weight, values)
    return ops.mean(sum_per_sample(values))


def counted(sample_weight, x):
    """Returns where a weight per position leaves something to count.

    Args:
        sample_weight: `None`, or as in `fitting_weight`.
        x: A map or sequence `(batch, ..., channels)`.

    Returns:
        Booleans `(batch, ..., 1)`; `None` if there are no weights per position
        of `x`.
    """
    shape = tuple(getattr(sample_weight, "shape", ()))
    if len(shape) != len(x.shape) - 1 or set(shape[1:]) <= {1}:
        return None
    return fitting_weight(sample_weight, x[..., 0])[..., None] > 0.0


def without_void(x, sample_weight):
    """Sets the positions of `x` to 0 whose weight is 0, see `counted`."""
    where = counted(sample_weight, x)
    return x if where is None else ops.where(where, x, ops.zeros_like(x))


def mean_per_sample(values):
    """The mean over every axis but the first, `(batch,)`."""
    if len(values.shape) < 2:
        return values
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))


def sum_per_sample(values):
    """The sum over every axis but the first, `(batch,)`."""
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))


def fitting_weight(sample_weight, values):
    """Brings weights to a shape that multiplies `values`.

    Args:
        sample_weight: `(batch,)` or any leading part of the shape of `values`.
            One that has more axes than `values` (weights per position for a
            loss per sample) is averaged over the extra axes, and one of a map
            of another size is averaged (or repeated) to this size.
        values: `(batch, ...)`, one number per sample or per position.

    Returns:
        Weights with as many axes as `values`, some of size 1.
    """
    weight = ops.cast(sample_weight, values.dtype)
    if len(weight.shape) > len(values.shape):
        extra = tuple(range(len(values.shape), len(weight.shape)))
        weight = ops.mean(weight, axis=extra)
    # A size that is not known while tracing (`None`) agrees with any other.
    sizes = tuple(weight.shape)[1:], tuple(values.shape)[1:]
    if any(
        w is not None and v is not None and w not in (v, 1)
        for w, v in zip(*sizes)
    ):
        if len(sizes[0]) == len(sizes[1]) == 2 and None not in sizes[0]:
            weight = adaptive_average_pool(weight[..., None], *sizes[1])
            weight = weight[..., 0]
        else:
            # Weights per position of a sequence, values per position of a map:
            # only the batch axis is common to both.
            weight = ops.mean(weight, axis=tuple(range(1, len(weight.shape))))
    missing = len(values.shape) - len(weight.shape)
    return ops.reshape(weight, tuple(ops.shape(weight)) + (1,) * missing)


def flat_positions(*arguments):
    """Reshapes arrays `(batch, ..., classes)` to `(positions, classes)`.

    Args:
        *arguments: Arrays of one shape `(batch, ..., classes)`, and last a
            `sample_weight`: `None`, or as in `fitting_weight`.

    Returns:
        The arrays, and the weight of each position, `(positions,)`.
    """
    *arrays, sample_weight = arguments
    array = arrays[0]
    classes = array.shape[-1]
    weight = ops.ones_like(array[..., 0])
    if sample_weight is not None:
        weight = weight * fitting_weight(sample_weight, weight)
    return (
        *(ops.reshape(x, (-1, classes)) for x in arrays),
        ops.reshape(weight, (-1,)),
    )
