"""What the recurrent language models have in common."""

import math

import keras
from keras import layers

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer


def stream_input(stateful, batch_size, steps, *shape, name):
    """Checks the shape of parallel streams, and returns their input.

    Args:
        stateful: Whether the states are carried from batch to batch.
        batch_size: Number of streams, or `None`.
        steps: Number of steps of a batch, or `None` for any.
        *shape: Further axes.
        name: Name of the input.
    """
    checked_boolean("stateful", stateful)
    checked_integer(
        "batch_size",
        batch_size,
        or_none=True,
        hint="the number of parallel streams",
    )
    checked_integer(
        "steps", steps, or_none=True, hint="the words of a stream in a batch"
    )
    if stateful and batch_size is None:
        raise ValueError(
            "With stateful=True each stream has a state of its own, so "
            "batch_size must be given: the number of parallel streams, such "
            "as batch_size=20. For a network that begins each batch from zero "
            "states pass stateful=False."
        )
    return keras.Input(
        batch_shape=(batch_size, steps, *shape), dtype="int32", name=name
    )


def uniform(units):
    """A new initializer, U(-r, r) with r = sqrt(2 / units)."""
    limit = math.sqrt(2.0 / units)
    return keras.initializers.RandomUniform(-limit, limit)


def lstm_layers(x, units, count, dropout, stateful):
    """Adds `"lstm1"`, `"lstm2"`, ..., with dropout behind each.

    The masks are new at every step, as in Zaremba et al. 2014. Those of
    `LSTM(dropout=)` stay the same for all steps of a batch.
    """
    for number in range(1, count + 1):
        x = layers.LSTM(
            units,
            return_sequences=True,
            stateful=stateful,
            kernel_initializer=uniform(units),
            recurrent_initializer=uniform(units),
            name=f"lstm{number}",
        )(x)
        x = layers.Dropout(dropout, name=f"lstm{number}_dropout")(x)
    return x
