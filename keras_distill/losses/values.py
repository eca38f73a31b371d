"""Checks of a teacher's numbers on the first batch, before training."""

import numpy as np

# Fewer values of independent units may all lie in [0, 1] by chance: of logits
# that are normal around 0.5 with deviation 0.5, 8 do in one batch of 21, and 32
# in one of 200 000.
_LEAST_VALUES = 32


def check_finite(values, layer_name=None):
    """Raises `ValueError` if an array holds NaN or infinite values."""
    if values is None:
        return
    values = np.asarray(values).astype("float64")
    missing = int(np.isnan(values).sum())
    infinite = int(np.isinf(values).sum())
    if missing or infinite:
        where = f"layer '{layer_name}'" if layer_name else "output"
        raise ValueError(
            f"The teacher's {where} holds NaN or infinite values on the first "
            f"batch: {missing} NaN and {infinite} infinite of {values.size}. "
            "Expected finite values. Check that the teacher's weights are "
            "loaded and that it sees inputs preprocessed as in its own "
            "training; if it overflows in half precision, run it in float32 "
            '(`teacher_dtype="float32"` in kd.Distiller).'
        )


def no_weights(loss, part):
    """The message of a loss that reads a teacher's weights and has no teacher.

    Args:
        loss: The loss.
        part: What it reads, such as `"classifier"`.
    """
    return (
        f"Distillation loss '{loss.name}' ({type(loss).__name__}) reads the "
        f"weights of the teacher's {part}, and the data carries the teacher's "
        "outputs only. Give the Distiller the teacher too: "
        "kd.Distiller(teacher=teacher, ...). It will not run: the step takes "
        "what the data carries."
    )


def may_be_probabilities(values, activation):
    """Whether a softmax (or sigmoid) head can give these values.

    Args:
        values: NumPy array `(..., classes)`.
        activation: `"softmax"`: all in [0, 1], and every row sums to 1 within
            1e-3 (1e-2 for bfloat16, also once cast). `"sigmoid"`: all in
            [0, 1].
    """
    values = np.asarray(values)
    # A bfloat16 is a float32 whose last 16 bits are 0.
    last_bits = values.astype("float32").view("uint32") & 0xFFFF
    tolerance = 1e-3 if last_bits.any() else 1e-2
    values = values.astype("float64")
    if values.min() < 0.0 or values.max() > 1.0 + tolerance:
        return False
    if activation == "sigmoid":
        return True
    sums = values.sum(axis=-1)
    return values.shape[-1] > 1 and bool(np.all(abs(sums - 1.0) <= tolerance))


def look_like_probabilities(values, activation):
    """Whether values are probabilities, and hardly logits by chance.

    Takes the arguments of `may_be_probabilities`. Rows that sum to 1 are no
    accident; of independent units it takes 32 values or more.
    """
    if activation == "sigmoid" and np.size(values) < _LEAST_VALUES:
        return False
    return may_be_probabilities(values, activation)
