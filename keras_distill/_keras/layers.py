"""The layers inside a layer, and what Keras knows of their calls.

Relies on, in Keras 3.12.4 and 3.15.1: `Layer._flatten_layers`,
`Layer._call_has_training_arg`, `Layer._clear_losses`, `Layer._remat_mode`,
`Layer._trainable_variables`, `BatchNormalization._moments`.
"""

import contextlib

import keras

from keras_distill._keras.method_patching import intercepted


def flatten_layers(layer, include_self=True, recursive=True):
    """The layers inside a layer or model, as a list."""
    return list(
        layer._flatten_layers(recursive=recursive, include_self=include_self)
    )


def only_rounds(layer):
    """Whether a layer only rounds, see `kd.quantization.FakeQuantize`."""
    return getattr(layer, "only_rounds", False)


def batch_normalizations(model):
    """The `BatchNormalization` layers of a model, at any depth."""
    return [
        layer
        for layer in flatten_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


def takes_training(model):
    """Whether the `call` of a model or layer has a `training` argument."""
    return model._call_has_training_arg


def call_model(model, inputs, training=False):
    """Calls a model, with `training` if its `call` takes it."""
    if takes_training(model):
        return model(inputs, training=training)
    return model(inputs)


def clear_losses(model):
    """Forgets the `add_loss` values of the last call."""
    model._clear_losses()


def recurrent_states(layer):
    """The states of the stateful recurrent layers inside a layer, which Keras
    does not list among its variables."""
    return [
        state
        for inner in flatten_layers(layer)
        if getattr(inner, "stateful", False)
        for state in keras.tree.flatten(getattr(inner, "states", None))
        if state is not None
    ]


def state_variables(layer):
    """The variables of a layer or model that no gradient ever trains:
    statistics, seeds, states of recurrent layers, metrics."""
    trained = {
        id(variable)
        for inner in flatten_layers(layer)
        for variable in inner._trainable_variables
    }
    # A metric is listed in one of the two, and may be in both.
    variables = [
        *recurrent_states(layer),
        *layer.variables,
        *layer.metrics_variables,
    ]
    variables = {id(v): v for v in variables if id(v) not in trained}
    return list(variables.values())


@contextlib.contextmanager
def left_as_found(*models):
    """A context after which models are in the state that they were in."""
    variables = [v for model in models for v in state_variables(model)]
    before = [keras.ops.convert_to_numpy(variable) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before):
            variable.assign(value)


def is_rematerialized(layer):
    """Whether a layer was made in a `keras.RematScope`."""
    return bool(getattr(layer, "_remat_mode", None))


def batch_moments_intercepted(layers, handler):
    """A context in which `handler` makes the statistics of batches.

    Args:
        layers: `BatchNormalization` layers.
        handler: A function `(layer, method, inputs, mask)` that returns mean
            and variance, see `intercepted`.
    """
    # The one place of BatchNormalization that computes its statistics.
    return intercepted(layers, "_moments", handler)
