"""The steps of layers that follow the optimizer's.

A layer with a method `proximal_step(learning_rate)`, such as
`kd.multitask.Heads`, changes its weights after each step in which the optimizer
moved them. Steps that only accumulate a gradient, or skip one that overflowed,
are none.
"""

import contextlib

from keras import ops

from keras_distill._keras.layers import flatten_layers
from keras_distill._keras.optimizers import optimizer_of


def proximal_layers(model):
    """The trained layers of a model that have a `proximal_step`."""
    layers = {id(layer): layer for layer in flatten_layers(model)}
    return [
        layer
        for layer in layers.values()
        if callable(getattr(layer, "proximal_step", None))
        and layer.trainable_variables
    ]


class OptimizerState:
    """Where an optimizer stands before its step, seen from a layer.

    Args:
        optimizer: A built Keras optimizer.
        layer: A layer that it trains.
    """

    def __init__(self, optimizer, layer):
        self.optimizer = optimizer_of(optimizer, layer.trainable_variables[0])
        self.learning_rate = ops.convert_to_tensor(self.optimizer.learning_rate)
        self.iterations = self.optimizer.iterations + 0  # A value.

    def moved(self):
        """Whether the optimizer has moved the weights of the layer since."""
        return ops.greater(self.optimizer.iterations, self.iterations)


@contextlib.contextmanager
def followed_by_proximal_steps(model, optimizer):
    """A context for a step of the optimizer on the weights of a model."""
    layers = proximal_layers(model)
    if not layers:
        yield
        return
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    states = [OptimizerState(optimizer, layer) for layer in layers]
    yield
    for layer, state in zip(layers, states):
        _step_if_moved(layer, state)


def _step_if_moved(layer, state):
    # Each replica writes to its own copy of the weights, and all compute alike.
    ops.cond(
        state.moved(),
        lambda: layer.proximal_step(state.learning_rate),
        lambda: None,
    )
