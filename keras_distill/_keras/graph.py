"""The symbolic side of a Keras model."""

import keras


def symbolic_inputs(model):
    """A model's inputs as it takes them: a tensor, a list or a dict.

    Args:
        model: A Functional or Sequential model; others have none.

    Returns:
        A structure of `keras.KerasTensor`. A Sequential model has no `.input`
        before it was called, so its one input is taken from `.inputs`.
    """
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    return model.input
