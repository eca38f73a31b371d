"""The generator behind `keras.random` without a seed.

Relies on, in Keras 3.12.4 and 3.15.1:
`keras.src.random.seed_generator.global_seed_generator` and the attribute of
`keras.src.backend.common.global_state` that it keeps the generator in.
"""

from keras.src.backend.common import global_state
from keras.src.random import seed_generator


def global_seed_state():
    """Returns the generator's variable, `None` if nothing has used it yet."""
    generator = global_state.get_global_attribute("global_seed_generator")
    return None if generator is None else generator.state


def set_global_seed_state(value):
    """Sets the generator's state, and makes it if need be."""
    seed_generator.global_seed_generator().state.assign(value)
