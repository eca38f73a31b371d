"""A network without the states that go on from batch to batch.

Relies on, in Keras 3.12.4 and 3.15.1: the keys `stateful`, `batch_shape`,
`input_shape` and `shapes_dict` of serialized layers.
"""

import keras

from keras_distill._keras.recurrent_states import is_stateful


def without_states(model):
    """Returns a network that begins every sequence with states of zero.

    It computes the same, of any batch size. A network without states is
    returned as it is; otherwise it is a copy, with the weights of now.

    Args:
        model: A built `keras.Model`.

    Raises:
        ValueError: If the model cannot be copied.
    """
    if not is_stateful(model):
        return model
    try:
        config = keras.saving.serialize_keras_object(model)
        copy = keras.saving.deserialize_keras_object(_freed(config))
        copy.set_weights(model.get_weights())
    except Exception as error:  # `get_config` and `call` are the user's code.
        raise ValueError(
            f"'{model.name}' has stateful=True layers, which a file does not "
            "have, and a copy without them could not be made: "
            f"{type(error).__name__}: {error}. Make the network again with "
            "stateful=False, call set_weights with the weights of this one, "
            "and give that."
        ) from error
    return copy


def _freed(config):
    """Returns a configuration with no state and no batch size."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(_freed, config))
    if not isinstance(config, dict):
        return config
    freed = {}
    for key, value in config.items():
        if key == "compile_config":
            continue
        if key == "stateful":
            value = False
        elif key in ("batch_shape", "input_shape"):
            value = _any_batch(value)
        elif key == "shapes_dict":
            value = {k: _any_batch(shape) for k, shape in value.items()}
        else:
            value = _freed(value)
        freed[key] = value
    return freed


def _any_batch(shape):
    if isinstance(shape, dict):
        return {key: _any_batch(value) for key, value in shape.items()}
    if not isinstance(shape, (list, tuple)) or not shape:
        return shape
    if isinstance(shape[0], (list, tuple, dict)):
        return [_any_batch(value) for value in shape]
    return [None, *shape[1:]]
