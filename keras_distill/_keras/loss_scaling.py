"""Loss scaling for students that compute in float16."""

import keras


def computes_in_float16(model):
    layers = [model, *model._flatten_layers(include_self=False)]
    return any(layer.compute_dtype == "float16" for layer in layers)


def with_loss_scaling(optimizer):
    wrapper = keras.mixed_precision.LossScaleOptimizer
    if optimizer is None or isinstance(optimizer, wrapper):
        return optimizer
    return wrapper(optimizer, name="loss_scale_optimizer")
