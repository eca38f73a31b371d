"""Labels as the dataset gives them: sparse or one-hot."""

from keras import ops


def label_distribution(y, logits, name):
    """Turns labels into one distribution over the classes per position.

    Args:
        y: Sparse `(batch, ...)` or `(batch, ..., 1)` integers, or
            distributions `(batch, ..., classes)`: one-hot, smoothed or mixed.
        logits: `(batch, ..., classes)`, for the classes and the dtype.
        name: Name of the loss, for the message.

    Returns:
        `(batch, ..., classes)` in the dtype of `logits`. A sparse label
        outside of the classes (an `ignore_class`) gives a row of zeros.

    Raises:
        ValueError: for missing labels, or labels of another shape.
    """
    if y is None:
        raise ValueError(
            f"{name} needs labels. Received: y=None. Give labels in the "
            "dataset, (x, y), and use kd.Distiller: keras.distillation's "
            "passes none to its losses."
        )
    shape, wanted = getattr(y, "shape", None), tuple(logits.shape)
    if shape is not None:
        shape, classes = tuple(shape), wanted[-1]
        if len(shape) == len(wanted) and shape[-1] == classes:
            return ops.cast(y, logits.dtype)
        if len(shape) == len(wanted) and shape[-1] == 1:
            y, shape = ops.squeeze(y, axis=-1), shape[:-1]
        if len(shape) == len(wanted) - 1:
            return ops.one_hot(
                ops.cast(y, "int32"), classes, dtype=logits.dtype
            )
    raise ValueError(
        f"{name} needs sparse labels {wanted[:-1]} or one-hot labels {wanted} "
        f"for logits {wanted}. Received: y of "
        + (f"shape {shape}." if shape is not None else f"{type(y).__name__}.")
    )


def hard_labels(y, logits, name):
    """One-hot of the largest class of `label_distribution`.

    An ignored label stays a row of zeros.
    """
    distribution = label_distribution(y, logits, name)
    chosen = ops.argmax(distribution, axis=-1)
    hard = ops.one_hot(chosen, logits.shape[-1], dtype=logits.dtype)
    return hard * ops.expand_dims(labelled(distribution), -1)


def labelled(distribution):
    """Returns 1 for a label, and 0 for an `ignore_class`.

    Args:
        distribution: `(batch, ..., classes)` from `label_distribution`.

    Returns:
        `(batch, ...)`, the same dtype.
    """
    total = ops.sum(distribution, axis=-1)
    return ops.cast(total > 0.0, distribution.dtype)
