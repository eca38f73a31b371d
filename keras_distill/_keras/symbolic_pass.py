"""A pass on symbols: shapes and dtypes, with nothing computed.

Relies on no private name.
"""

import keras

from keras_distill._data.sparse import is_sparse


def symbolic_pass(function, inputs):
    """Returns what a function of tensors gives for `keras.KerasTensor`s.

    Args:
        function: A function, or a model, of one structure of tensors.
        inputs: The same structure of `keras.KerasTensor`.

    Returns:
        A structure of `keras.KerasTensor`.
    """
    operation = _Pass(function)
    try:
        return operation.compute_output_spec(inputs)
    except Exception:
        if operation.error is None:
            raise
        # Keras's own message tells the author of an operation what to do.
        raise operation.error from None


def with_free_batch(tensors):
    """Returns `keras.KerasTensor`s like these tensors, of any batch size."""
    return keras.tree.map_structure(
        lambda t: keras.KerasTensor(
            (None, *t.shape[1:]),
            keras.backend.standardize_dtype(t.dtype),
            sparse=bool(getattr(t, "sparse", False) or is_sparse(t)),
        ),
        tensors,
    )


class _Pass(keras.Operation):
    # Keras has no public function for this, but an operation can do it.
    def __init__(self, function):
        super().__init__()
        self._function = function
        self.error = None

    def call(self, inputs):
        try:
            return self._function(inputs)
        except Exception as error:
            self.error = error
            raise
