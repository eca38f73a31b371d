"""Loss scaling for students that compute in float16; nothing private here."""

import keras

from keras_distill._keras.layers import flatten_layers


def computes_in_float16(model):
    """Whether a model, or any layer inside, computes in float16."""
    return any(x.compute_dtype == "float16" for x in flatten_layers(model))


def with_loss_scaling(optimizer):
    """Wraps an optimizer in a `LossScaleOptimizer`, unless it is one."""
    wrapper = keras.mixed_precision.LossScaleOptimizer
    if optimizer is None or isinstance(optimizer, wrapper):
        return optimizer
    return wrapper(optimizer, name="loss_scale_optimizer")
