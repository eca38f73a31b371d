"""The dtype that a Keras model casts its inputs to.

Relies on, in Keras 3.12.4 and 3.15.1: `KerasTensor._dtype`,
`InputLayer._dtype`.
"""

import contextlib

from keras_distill._keras.graph import producer


@contextlib.contextmanager
def inputs_as_float32(model, dtype):
    """A context in which a model takes some of its inputs in float32.

    A copy of the model would lose what its layers learned in `adapt`.

    Args:
        model: A built `keras.Model`; subclassed models cast nothing.
        dtype: Which inputs: those that the model casts to this dtype.
    """
    tensors = getattr(model, "inputs", None) or []
    tensors = [tensor for tensor in tensors if tensor.dtype == dtype]
    # Functional models look at the tensor, Sequential ones at its layer.
    changed = [*tensors, *(producer(t).operation for t in tensors)]
    try:
        for one in changed:
            one._dtype = "float32"
        yield
    finally:
        for one in changed:
            one._dtype = dtype
