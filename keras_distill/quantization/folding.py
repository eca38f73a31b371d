"""A student's calls, rewritten as those of an int8 file.

split   separable convolutions are two, and activations are calls of their own
fold    batch norm becomes part of the layer with a kernel before it, and a
        depthwise convolution of size 1 where there is none
fuse    ReLU and ReLU6 become part of the operator before them
"""

import keras
from keras import layers

from keras_distill.quantization import copying
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
# What TFLite computes together with a ReLU: by name, as `keras.ops` has them
# too.
_FUSING = ("Add", "Subtract", "Multiply")


def rewrite(graph):
    """Rewrites the calls of a `Graph` in place; its layers become copies."""
    copies: dict = {}
    graph.calls = [
        part for call in graph.calls for part in _split(call, copies)
    ]
    _fold(graph)
    graph.calls = [part for call in graph.calls for part in _affine(call)]
    _fuse(graph)


def _once(copies, layer, make, *args):
    """Returns the copy of a layer, the same one for each of its calls."""
    if id(layer) not in copies:
        copies[id(layer)] = make(layer, *args)
    return copies[id(layer)]


def _split(call, copies):
    """Returns the calls that one call consists of, on copied layers."""
    layer, kind = call.operation, type(call.operation)
    if kind in _SEPARABLE:
        depthwise, pointwise = _once(
            copies, layer, copying.separated, *_SEPARABLE[kind]
        )
        channels = pointwise.kernel.shape[-2]
        middle = Value((*call.outputs[0].shape[:-1], channels))
        first = Call(depthwise, call.args, {}, [middle])
        second = Call(pointwise, (middle,), {}, call.outputs)
        return [first, *_with_activation(second, layer.activation, copies)]
    if kind in WITH_KERNEL:
        copy = _once(copies, layer, copying.linear_copy)
        linear = Call(copy, call.args, {}, call.outputs)
        return _with_activation(linear, layer.activation, copies)
    if kind is layers.Activation:
        return _activation(layer.activation, layer.name, call)
    copy = _once(copies, layer, copying.copied)
    return [Call(copy, call.args, call.kwargs, call.outputs)]


def _with_activation(call, activation, copies):
    """Returns a call and the activation behind it."""
    if activation is keras.activations.linear:
        return [call]
    (output,) = call.outputs
    call.outputs = [Value(output.shape)]
    name = f"{call.operation.name}_{activation.__name__}"
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
    else:
        layer = layers.Activation(activation, name=name)
    return [Call(layer, (x,), {}, [output])]


def _fold(graph):
    """Folds batch norm into what comes before it."""
    consumers = graph.consumers()
    calls_of: dict = {}
    for call in graph.calls:
        calls_of.setdefault(id(call.operation), []).append(call)
    makers = {value: call for call in graph.calls for value in call.outputs}
    kept = []
    for call in graph.calls:
        if isinstance(call.operation, layers.BatchNormalization):
            (x,) = call.inputs[:1]
            before = makers.get(x)
            if (
                before is not None
                and type(before.operation) in WITH_KERNEL
                and consumers[x] == [call]
                and len(calls_of[id(before.operation)]) == 1
            ):
                _check_axis(call)
                scale, offset = copying.scale_and_offset(
                    call.operation, x.shape[-1]
                )
                copying.fold(before.operation, scale, offset)
                before.outputs = call.outputs
                makers[call.outputs[0]] = before
                continue
        kept.append(call)
    graph.calls = kept


def _affine(call):
    """Returns the calls of an affine layer: a depthwise convolution on maps."""
    layer = call.operation
    if not isinstance(layer, _AFFINE):
        return [call]
    _check_axis(call)
    (x,), (output,) = call.inputs[:1], call.outputs
    channels = x.shape[-1]
    convolution = copying.affine_convolution(layer, channels)
    if len(x.shape) == 4:
        return [Call(convolution, (x,), {}, [output])]
    shape = tuple(size or -1 for size in x.shape[1:-1])
    as_map = Value((None, 1, 1, channels))
    result = Value(as_map.shape)
    name = layer.name
    if len(x.shape) == 3:
        as_map = Value((None, 1, x.shape[1], channels))
        result = Value(as_map.shape)
    return [
        Call(
            layers.Reshape(
                (1, *(shape or (1,)), channels), name=f"{name}_as_map"
            ),
            (x,),
            {},
            [as_map],
        ),
        Call(convolution, (as_map,), {}, [result]),
        Call(
            layers.Reshape((*shape, channels), name=f"{name}_back"),
            (result,),
            {},
            [output],
        ),
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


def _fuse(graph):
    """Makes ReLU and ReLU6 part of the operator before them."""
    consumers = graph.consumers()
    makers = {value: call for call in graph.calls for value in call.outputs}
    kept = []
    for call in graph.calls:
        if _is_fusable(call.operation):
            (x,) = call.inputs
            before = makers.get(x)
            if (
                before is not None
                and before.activation is None
                and (
                    type(before.operation) in WITH_KERNEL
                    or type(before.operation).__name__ in _FUSING
                )
                and consumers[x] == [call]
            ):
                before.activation = call.operation
                before.outputs = call.outputs
                makers[call.outputs[0]] = before
                continue
        kept.append(call)
    graph.calls = kept


def _is_fusable(layer):
    return (
        type(layer) is layers.ReLU
        and layer.max_value in (None, 6.0)
        and not layer.negative_slope
        and not layer.threshold
    )
