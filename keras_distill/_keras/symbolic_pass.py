"""A pass on symbols: shapes and dtypes, with nothing computed.

Relies on no private name.
"""

import keras


def symbolic_pass(function, inputs):
    """Returns what a function of tensors gives for `keras.KerasTensor`s.

    Args:
        function: A function, or a model, of one structure of tensors.
        inputs: The same structure of `keras.KerasTensor`.

    Returns:
        A structure of `keras.KerasTensor`.
    """
    return _Pass(function).compute_output_spec(inputs)


def with_free_batch(tensors):
    """Returns `keras.KerasTensor`s like these tensors, of any batch size."""
    return keras.tree.map_structure(
        lambda t: keras.KerasTensor(
            (None, *t.shape[1:]), keras.backend.standardize_dtype(t.dtype)
        ),
        tensors,
    )


class _Pass(keras.Operation):
    # Keras has no public function for this, but an operation can do it.
    def __init__(self, function):
        super().__init__()
        self._function = function

    def call(self, inputs):
        return self._function(inputs)
