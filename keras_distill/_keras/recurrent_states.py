"""The states of `stateful=True` layers, which go on from batch to batch.

Row b of a batch then goes on where row b of the batch before ended: a stream.
Keras zeroes these states nowhere, its evaluation overwrites those of training,
and no list of variables has them.
"""

import contextlib

import keras

from keras_distill._keras.layers import flatten_layers
from keras_distill._keras.layers import recurrent_states


class RecurrentStates:
    """The states of networks; there may be none.

    On several replicas each has its own streams, and its own values.

    Args:
        *networks: Keras models or layers; `None` has no states.
    """

    def __init__(self, *networks):
        states = [
            state
            for network in networks
            if network is not None
            for state in recurrent_states(network)
        ]
        self._states = list({id(state): state for state in states}.values())

    def zero(self):
        """Lets all streams begin."""
        for state in self._states:
            state.assign(keras.ops.zeros_like(state))

    @contextlib.contextmanager
    def kept(self):
        """A context after which the states are as they were before."""
        parts = self._parts()
        before = [part.numpy() for part in parts]
        try:
            yield
        finally:
            for part, value in zip(parts, before):
                part.assign(value)

    @contextlib.contextmanager
    def apart(self):
        """A context with streams of its own, as `kept`."""
        with self.kept():
            self.zero()
            yield

    def _parts(self):
        """The `tf.Variable` of each replica here."""
        if not self._states:
            return []
        from keras_distill._distribute.local_values import local_parts

        return [
            part
            for state in self._states
            for part in local_parts(state) or (state.value,)
        ]


def is_stateful(network):
    """Whether a network has layers whose state goes on."""
    return network is not None and any(
        getattr(layer, "stateful", False) for layer in flatten_layers(network)
    )


def number_of_streams(network):
    """The batch size that a network's states are made for.

    Returns:
        A number; `None` without states, or before they are made.
    """
    if not is_stateful(network):
        return None
    shapes = [tensor.shape for tensor in getattr(network, "inputs", None) or []]
    if shapes and shapes[0][0] is not None:
        return int(shapes[0][0])
    states = recurrent_states(network)
    return int(states[0].shape[0]) if states else None
