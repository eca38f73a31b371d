"""Precision, and elementwise functions whose gradients stay finite."""

import keras
from keras import ops


def at_least_float32(x):
    """Casts half precision and integers to float32; float64 stays."""
    x = ops.convert_to_tensor(x)
    dtype = keras.backend.standardize_dtype(x.dtype)
    return x if dtype in ("float32", "float64") else ops.cast(x, "float32")


def same_precision(*tensors):
    """Casts all to the widest of their dtypes, at least float32."""
    tensors = [at_least_float32(x) for x in tensors]
    names = {keras.backend.standardize_dtype(x.dtype) for x in tensors}
    if len(names) == 1:
        return tensors
    return [ops.cast(x, "float64") for x in tensors]


def safe_sqrt(x, tiny=1e-30):
    """The square root, whose gradient at 0 is 0 instead of infinite."""
    return ops.sqrt(ops.maximum(x, tiny))


def absolute(x):
    """`|x|`, whose gradient at 0 is 0 on every backend (JAX's own is 1)."""
    return x * ops.stop_gradient(ops.sign(x))
