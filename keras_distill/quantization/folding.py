"""A student's calls, rewritten as those of an int8 file.

split   separable convolutions are two, and activations are calls of their own
fold    batch norm becomes part of the layer with a kernel before it
fuse    ReLU and ReLU6 become part of the operator before them
maps    batch norm behind anything else and rescaling become a depthwise
        convolution of size 1, convolutions of sequences those of maps
"""

import collections

import keras
from keras import layers

from keras_distill.quantization import copying
from keras_distill.quantization import rules
from keras_distill.quantization.graph import Call
from keras_distill.quantization.graph import Value

WITH_KERNEL = (
    layers.Conv1D,
    layers.Conv2D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.Dense,
)
_SEPARABLE = {
    layers.SeparableConv1D: (layers.DepthwiseConv1D, layers.Conv1D),
    layers.SeparableConv2D: (layers.DepthwiseConv2D, layers.Conv2D),
}
_AFFINE = (layers.BatchNormalization, layers.Normalization, layers.Rescaling)
# TFLite computes these together with a ReLU: by name, as `keras.ops` has some.
_FUSING = (
    *(kind.__name__ for kind in (*WITH_KERNEL, *_AFFINE)),
    "Add",
    "Multiply",
    "Subtract",
)


def rewrite(graph):
    """Rewrites the calls of a `Graph` in place; its layers become copies."""
    copies: dict = {}
    graph.calls = [
        part for call in graph.calls for part in _split(call, copies)
    ]
    _fold(graph)
    _merge(graph, _fuse)
    graph.calls = [
        part for call in graph.calls for part in _on_maps(call, copies)
    ]


def _once(copies, layer, make, *args):
    """Returns the copy of a layer, the same one for each of its calls."""
    if id(layer) not in copies:
        copies[id(layer)] = make(layer, *args)
    return copies[id(layer)]


def _split(call, copies):
    """Returns the calls that one call consists of, on copied layers."""
    layer, kind = call.operation, type(call.operation)
    if getattr(layer, "data_format", None) == "channels_first":
        raise ValueError(
            f"The {kind.__name__} layer '{layer.name}' has its channels "
            "first; TFLite needs them last. Pass a student with "
            'data_format="channels_last".'
        )
    if kind in _SEPARABLE:
        depthwise, pointwise = _once(
            copies, layer, copying.separated, *_SEPARABLE[kind]
        )
        channels = pointwise.kernel.shape[-2]
        middle = Value((*call.outputs[0].shape[:-1], channels))
        first = Call(depthwise, tuple(call.inputs), {}, [middle])
        second = Call(pointwise, (middle,), {}, call.outputs)
        return [first, *_with_activation(second, layer.activation, copies)]
    if kind in WITH_KERNEL:
        copy = _once(copies, layer, copying.linear_copy)
        linear = Call(copy, tuple(call.inputs), {}, call.outputs)
        return _with_activation(linear, layer.activation, copies)
    if kind is layers.Activation:
        return _activation(layer.activation, layer.name, call)
    if kind in _AFFINE:  # It is only read.
        return [call]
    rules.rule_of(layer)  # Raises before a copy fails for another reason.
    copy = _once(copies, layer, copying.copied)
    return [Call(copy, call.args, call.kwargs, call.outputs)]


def _with_activation(call, activation, copies):
    """Returns a call and the activation behind it."""
    if activation is keras.activations.linear:
        return [call]
    (output,) = call.outputs
    call.outputs = [Value(output.shape)]
    name = call.operation.name
    if not name.endswith("_linear"):  # Of a layer that is called twice.
        call.operation.name = f"{name}_linear"
    name = name.removesuffix("_linear")
    behind = Call(None, tuple(call.outputs), {}, [output])
    return [call, *_activation(activation, name, behind)]


def _activation(activation, name, call):
    """Returns the calls of an activation; `call` has inputs and outputs."""
    (x,), (output,) = call.inputs, call.outputs
    if activation is keras.activations.relu:
        layer = layers.ReLU(name=name)
    elif activation is keras.activations.relu6:
        layer = layers.ReLU(6.0, name=name)
    elif activation is keras.activations.silu:
        gate = Value(output.shape)
        return [
            Call(
                layers.Activation("sigmoid", name=f"{name}_gate"),
                (x,),
                {},
                [gate],
            ),
            Call(layers.Multiply(name=name), ([x, gate],), {}, [output]),
        ]
    elif isinstance(activation, layers.Layer):
        config = {**activation.get_config(), "name": name}
        layer = type(activation).from_config(config)
    else:
        layer = layers.Activation(activation, name=name)
    return [Call(layer, (x,), {}, [output])]


def _merge(graph, merges):
    """Makes calls part of the call before them.

    Args:
        graph: A `Graph`, which is changed.
        merges: A function of a call and the next one, the only one to take
            what it gives: it changes the former and returns `True`, or `None`.
    """
    consumers = graph.consumers()
    makers = {value: call for call in graph.calls for value in call.outputs}
    kept = []
    for call in graph.calls:
        x = next(iter(call.inputs), None)
        before = makers.get(x)
        if before and consumers[x] == [call] and merges(before, call):
            before.outputs = call.outputs
            makers |= dict.fromkeys(call.outputs, before)
        else:
            kept.append(call)
    graph.calls = kept


def _fold(graph):
    """Folds batch norm into what comes before it."""
    times = collections.Counter(id(call.operation) for call in graph.calls)

    def folds(before, call):
        if (
            type(call.operation) is not layers.BatchNormalization
            or type(before.operation) not in WITH_KERNEL
            or times[id(before.operation)] > 1
        ):
            return None
        _check_axis(call)
        channels = call.inputs[0].shape[-1]
        copying.fold(
            before.operation,
            *copying.scale_and_offset(call.operation, channels),
        )
        return True

    _merge(graph, folds)


def _fuse(before, call):
    """Makes a ReLU or ReLU6 part of the operator before it."""
    if (
        not _is_fusable(call.operation)
        or before.activation is not None
        or type(before.operation).__name__ not in _FUSING
    ):
        return None
    before.activation = call.operation
    return True


def _on_maps(call, copies):
    """Returns the calls of a layer that an int8 file computes on maps."""
    layer = call.operation
    if type(layer) in (layers.Conv1D, layers.DepthwiseConv1D):
        x = call.inputs[0]
        if layer.padding == "causal":
            before = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
            padded = Value(x.shape)
            padding = layers.ZeroPadding1D(
                (before, 0), name=f"{layer.name}_padding"
            )
            first = Call(padding, (x,), {}, [padded])
            return [first, *_as_map(call, padded, layer, copies)]
        return _as_map(call, x, layer, copies)
    if type(layer) in _AFFINE:
        _check_axis(call)
        x = call.inputs[0]
        convolution = _once(
            copies, layer, copying.affine_convolution, x.shape[-1]
        )
        if len(x.shape) == 4:
            return [Call(convolution, (x,), {}, call.outputs, call.activation)]
        return _as_map(call, x, convolution, copies)
    return [call]


def _as_map(call, x, layer, copies):
    """Calls a layer on a vector or sequence as on a map of height 1."""
    if type(layer) in (layers.Conv1D, layers.DepthwiseConv1D):
        layer = _once(copies, layer, copying.two_dimensional)
    (output,) = call.outputs
    length = () if len(x.shape) == 2 else (-1,)
    as_map, result = Value((None, 1, None, x.shape[-1])), Value(())
    name = call.operation.name
    enter = layers.Reshape(
        (1, *(length or (1,)), x.shape[-1]), name=f"{name}_as_map"
    )
    leave = layers.Reshape(
        (*length, output.shape[-1]), name=f"{name}_as_before"
    )
    return [
        Call(enter, (x,), {}, [as_map]),
        Call(layer, (as_map,), {}, [result], call.activation),
        Call(leave, (result,), {}, [output]),
    ]


def _check_axis(call):
    """Raises unless a layer scales the channels, which come last."""
    layer, shape = call.operation, call.inputs[0].shape
    axis = getattr(layer, "axis", -1)
    axes = [axis] if isinstance(axis, int) else list(axis or ())
    if len(shape) not in (2, 3, 4) or any(
        a not in (-1, len(shape) - 1) for a in axes
    ):
        raise ValueError(
            f"The {type(layer).__name__} layer '{layer.name}' must scale the "
            "last axis of inputs of 2 to 4 axes. Received: "
            f"axis={axis!r}, input shape {shape}"
        )


def _is_fusable(layer):
    return (
        type(layer) is layers.ReLU
        and layer.max_value in (None, 6.0)
        and not layer.negative_slope
        and not layer.threshold
    )
