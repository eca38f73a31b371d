"""The Keras layers of a file's operators, and their names in the file.

The converter names the tensors of a file after TensorFlow's operations, which
are numbered from trace to trace, and the outputs of a file not at all. A recipe
for ai-edge-quantizer chooses operators by these names. So the layer's name is
put before the name of what its operators compute:

    digits_1/relu_1/Relu;digits_1/conv_1/convolution
    conv;digits_1/relu_1/Relu;digits_1/conv_1/convolution
"""

from typing import NamedTuple

import numpy as np

from keras_distill.export.conversion.explanation import nested_layers
from keras_distill.export.file import flatbuffer

# What comes before the first layer.
BEFORE = "input"


class LayerOperator(NamedTuple):
    """An operator and the layer that it belongs to.

    Attributes:
        operator: Such as `"CONV_2D"`.
        layer: Name of the layer; `"backbone/conv"` if it is nested. What lies
            outside of layers goes with the layer before it.
        kind: Class of the layer.
        weights: The number of its weights, 0 without a matrix of weights.
        scope: The names of what it computes, each with `";"` behind it.
    """

    operator: str
    layer: str
    kind: str
    weights: int
    scope: str


def named(data, model):
    """Puts layers' names before the names of what their operators compute.

    Args:
        data: The bytes of a float file.
        model: The `keras.Model` that was converted.

    Returns:
        The bytes of the file with these names, and a list of `LayerOperator`,
        in the file's order.
    """
    file = flatbuffer.unpacked(data)
    names = flatbuffer.operator_names()
    name, kind = BEFORE, ""
    listed = []
    for graph in file.subgraphs[:1]:
        for operator in graph.operators:
            code = file.operatorCodes[operator.opcodeIndex]
            number = max(code.builtinCode, code.deprecatedBuiltinCode)
            weights = _weights(operator, graph, file.buffers)
            size = 0 if weights is None else int(np.prod(weights.shape))
            first = graph.tensors[operator.outputs[0]]
            tensors = [first, *([] if weights is None else [weights])]
            nested = _layers_of([_text(t) for t in tensors], size, model)
            if nested:
                name = "/".join(layer.name for layer in nested)
                kind = type(nested[-1]).__name__
            scope = ""
            for index in operator.outputs:
                tensor = graph.tensors[index]
                tensor.name = f"{name};{_text(tensor)}".encode()
                scope += f"{_text(tensor)};"
            operator = names.get(number, str(number))
            listed.append(LayerOperator(operator, name, kind, size, scope))
    return flatbuffer.packed(file), listed


def _weights(operator, graph, buffers):
    """The largest constant matrix that an operator reads, or `None`."""
    tensors = [graph.tensors[index] for index in operator.inputs if index >= 0]
    matrices = [
        tensor
        for tensor in tensors
        if buffers[tensor.buffer].data is not None
        and tensor.shape is not None
        and len(tensor.shape) > 1
    ]
    return max(matrices, key=lambda t: np.prod(t.shape), default=None)


def _layers_of(names, weights, model):
    """The layer of an operator and the models around it, or an empty list.

    One operator may compute a convolution, a normalization and an activation.
    It belongs to the layer that has its weights.
    """
    paths = [path for name in names for path in name.split(";")]
    candidates = [nested_layers(path, model) for path in paths]
    candidates = [nested for nested in candidates if nested]
    for nested in candidates:
        sizes = [int(np.prod(w.shape)) for w in nested[-1].weights]
        if weights in sizes:
            return nested
    return candidates[0] if candidates else []


def _text(tensor):
    return (tensor.name or b"").decode()
