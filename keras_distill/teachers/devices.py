"""On which device a network's weights are."""

import contextlib

import keras


def device_of(model):
    """The device of a model's weights. `None` if there are no weights, if they
    are on several devices, or if a strategy places them.

    Integers do not count: TensorFlow may keep them on the CPU.
    """
    devices = devices_of(model)
    return devices.pop() if len(devices) == 1 else None


def devices_of(model):
    """The devices of a model's weights, a set; see `device_of`."""
    if keras.config.backend() != "tensorflow":
        return set()
    import tensorflow as tf

    if tf.distribute.has_strategy():
        return set()
    return {
        variable.value.device
        for variable in model.weights
        if keras.backend.is_float_dtype(variable.dtype)
    }


def on(device):
    """A context in which operations run on a device; `None` changes nothing."""
    if device is None:
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.device(device)
