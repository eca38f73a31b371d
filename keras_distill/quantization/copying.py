"""Copies of a student's layers, as the int8 network needs them."""

import keras
import numpy as np
from keras import layers
from keras import ops


def copied(operation):
    """Copies a layer or operation, with its weights."""
    copy = type(operation).from_config(operation.get_config())
    if isinstance(operation, layers.Layer):
        _build_as(copy, operation)
        copy.set_weights(operation.get_weights())
        copy.trainable = operation.trainable
    return copy


def linear_copy(layer):
    """Copies a layer with a kernel: it has a bias and no activation.

    Regularizers and constraints are left out: batch norm will be folded in.
    """
    copy = type(layer).from_config({**_bare_config(layer), "use_bias": True})
    _build_as(copy, layer)
    copy.kernel.assign(layer.kernel)
    if layer.use_bias:
        copy.bias.assign(layer.bias)
    copy.trainable = layer.trainable
    return copy


def separated(layer, depthwise_class, pointwise_class):
    """Makes the two convolutions of a separable one.

    Returns:
        A depthwise convolution without and one of size 1 with a bias. The
        latter has the layer's name.
    """
    config = _bare_config(layer)
    shared = {key: config[key] for key in ("data_format", "dtype")}
    depthwise = depthwise_class(
        use_bias=True,
        name=f"{layer.name}_depthwise",
        **shared,
        **{
            key: config[key]
            for key in (
                "kernel_size",
                "strides",
                "padding",
                "depth_multiplier",
                "dilation_rate",
            )
        },
    )
    pointwise = pointwise_class(config["filters"], 1, name=layer.name, **shared)
    *_, channels, multiplier = layer.depthwise_kernel.shape
    rank = len(layer.kernel_size)
    depthwise.build((None,) * (rank + 1) + (channels,))
    pointwise.build((None,) * (rank + 1) + (channels * multiplier,))
    depthwise.kernel.assign(layer.depthwise_kernel)
    pointwise.kernel.assign(layer.pointwise_kernel)
    if layer.use_bias:
        pointwise.bias.assign(layer.bias)
    depthwise.trainable = pointwise.trainable = layer.trainable
    return depthwise, pointwise


def two_dimensional(layer):
    """Makes the convolution of maps of height 1 that one of sequences is.

    Args:
        layer: A `linear_copy` of a `Conv1D` or `DepthwiseConv1D`.
    """
    config = _bare_config(layer)
    # TensorFlow wants equal strides of depthwise convolutions.
    config["strides"] = 2 * layer.strides
    config["kernel_size"] = (1, *layer.kernel_size)
    config["dilation_rate"] = (1, *layer.dilation_rate)
    if layer.padding == "causal":
        config["padding"] = "valid"
    kind = layers.DepthwiseConv2D
    if isinstance(layer, layers.Conv1D):
        kind = layers.Conv2D
    convolution = kind.from_config(
        {key: config[key] for key in config if not key.endswith("_initializer")}
    )
    convolution.build((None, 1, None, layer.kernel.shape[-2]))
    convolution.kernel.assign(layer.kernel[None])
    convolution.bias.assign(layer.bias)
    convolution.trainable = layer.trainable
    return convolution


def fold(layer, scale, offset):
    """Multiplies a layer's output by a scale and adds an offset.

    Args:
        layer: A `linear_copy`.
        scale, offset: Arrays `(channels,)`.
    """
    kernel = layer.kernel
    is_depthwise = not hasattr(layer, "filters") and not hasattr(layer, "units")
    # Of a depthwise kernel, the last two axes are the channels of the output.
    of_kernel = (
        scale.reshape(tuple(kernel.shape[-2:])) if is_depthwise else scale
    )
    kernel.assign(ops.convert_to_numpy(kernel) * of_kernel)
    layer.bias.assign(ops.convert_to_numpy(layer.bias) * scale + offset)


def scale_and_offset(layer, channels):
    """What an affine layer multiplies by and adds, in inference.

    Args:
        layer: A `BatchNormalization`, `Normalization` or `Rescaling`.
        channels: Size of the last axis.

    Returns:
        Two arrays `(channels,)`.
    """
    array = ops.convert_to_numpy
    if isinstance(layer, layers.Rescaling):
        scale, offset = array(layer.scale), array(layer.offset)
    elif isinstance(layer, layers.Normalization):
        mean = array(layer.mean).ravel()
        deviation = np.sqrt(array(layer.variance)).ravel()
        deviation = np.maximum(deviation, keras.config.epsilon())
        scale, offset = 1.0 / deviation, -mean / deviation
        if layer.invert:
            scale, offset = deviation, mean
    else:
        scale = 1.0 / np.sqrt(array(layer.moving_variance) + layer.epsilon)
        if layer.scale:
            scale = scale * array(layer.gamma)
        offset = -array(layer.moving_mean) * scale
        if layer.center:
            offset = offset + array(layer.beta)
    return (
        np.broadcast_to(scale, (channels,)),
        np.broadcast_to(offset, (channels,)),
    )


def affine_convolution(layer, channels):
    """Makes the depthwise convolution of size 1 that an affine layer is."""
    convolution = layers.DepthwiseConv2D(
        1,
        data_format="channels_last",
        name=layer.name,
        dtype=layer.dtype_policy,
    )
    is_learned = isinstance(layer, layers.BatchNormalization)
    convolution.build((None, None, None, channels))
    convolution.kernel.assign(np.ones(convolution.kernel.shape))
    fold(convolution, *scale_and_offset(layer, channels))
    convolution.trainable = layer.trainable and is_learned
    return convolution


def _bare_config(layer):
    """The configuration of a layer that only multiplies and adds."""
    config = layer.get_config()
    for key in config:
        if key.endswith(("_regularizer", "_constraint")):
            config[key] = None
    return {**config, "activation": None}


def _build_as(copy, layer):
    if layer.built and not copy.built:
        copy.build_from_config(layer.get_build_config() or {})
