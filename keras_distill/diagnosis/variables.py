"""The values of variables, to be put back."""

import keras


def values_of(variables):
    """Returns copies of the values, NumPy arrays."""
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def assign(variables, values):
    """Sets each variable to its value."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
