"""Looks at a teacher's numbers on the first batch, before training."""

import numpy as np

# Of fewer values of one unit (of independent classes), all may lie in [0, 1] by
# chance.
FEW = 32


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


def look_like_probabilities(values, activation):
    """Whether an array holds what a softmax (sigmoid) head gives.

    Args:
        values: NumPy array `(..., classes)`.
        activation: `"softmax"`: all in [0, 1], every row sums to 1 within
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
