"""The tensors of a TFLite file, with the scales of its integers."""

from typing import Any
from typing import NamedTuple

import numpy as np

from keras_distill.export.file.flatbuffer import mapped
from keras_distill.export.file.flatbuffer import operator_names


class Tensor(NamedTuple):
    """A tensor of a file's network.

    Attributes:
        name: Its name.
        dtype: Such as `"int8"` or `"float32"`.
        scales, zero_points: Arrays, empty without quantization: one entry, or
            one per channel.
        axis: The axis of the channels.
        constant: Its integers, if it is an int8 constant, else `None`.
        operator: Name of the operator that computes it, or `None`.
        inputs: Numbers of the tensors which that operator takes.
        is_input, is_output: Whether it is an input or output of the file.
    """

    name: str
    dtype: str
    scales: Any
    zero_points: Any
    axis: int
    constant: Any
    operator: str | None
    inputs: tuple
    is_input: bool
    is_output: bool

    def values(self):
        """Returns the numbers that the integers of a constant stand for."""
        scales, zeros = self.scales, self.zero_points
        if np.size(scales) > 1:  # One per channel.
            shape = [1] * self.constant.ndim
            shape[self.axis] = -1
            scales, zeros = np.reshape(scales, shape), np.reshape(zeros, shape)
        return np.float32(scales) * (self.constant.astype("float32") - zeros)


def tensors(filepath):
    """Lists the tensors of a file by their number, of its first subgraph."""
    from ai_edge_litert import schema_py_generated as schema

    dtypes = {
        number: name.lower()
        for name, number in vars(schema.TensorType).items()
        if isinstance(number, int)
    }
    names = operator_names()
    with mapped(filepath) as data:
        model = schema.Model.GetRootAs(data, 0)
        graph = model.Subgraphs(0)
        makers = {}
        for i in range(graph.OperatorsLength()):
            operator = graph.Operators(i)
            code = model.OperatorCodes(operator.OpcodeIndex())
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            for j in range(operator.OutputsLength()):
                makers[operator.Outputs(j)] = (
                    names.get(number, str(number)),
                    tuple(operator.InputsAsNumpy().tolist()),
                )
        ends = [
            set(numbers.tolist())
            for numbers in (graph.InputsAsNumpy(), graph.OutputsAsNumpy())
        ]
        return [
            _tensor(
                model,
                graph.Tensors(i),
                dtypes,
                *makers.get(i, (None, ())),
                *(i in end for end in ends),
            )
            for i in range(graph.TensorsLength())
        ]


def float_operators(filepath):
    """Lists what a file computes in float, except the cast of its outputs.

    Returns:
        A list of pairs: name of the operator, name of a tensor with the name
        scopes of the Keras layers.
    """
    listed = tensors(filepath)
    found = [
        (tensor.operator, _scoped_name(tensor, listed))
        for tensor in listed
        if tensor.operator is not None
        and tensor.dtype.startswith("float")
        and not (tensor.operator == "DEQUANTIZE" and tensor.is_output)
    ]
    # Casts stand around what is float, if there is more.
    return [pair for pair in found if pair[0] != "DEQUANTIZE"] or found


def _scoped_name(tensor, listed):
    """The outputs of a file have names of their own: its weights', then."""
    weights = [
        listed[i].name
        for i in tensor.inputs
        if i >= 0 and listed[i].operator is None and not listed[i].is_input
    ]
    return weights[0] if tensor.is_output and weights else tensor.name


def _tensor(model, tensor, dtypes, operator, inputs, *ends):
    dtype = dtypes[tensor.Type()]
    found = tensor.Quantization()
    scales = zero_points = np.zeros(0)
    if found is not None and found.ScaleLength():
        scales = found.ScaleAsNumpy().copy()
        zero_points = found.ZeroPointAsNumpy().copy()
    buffer = model.Buffers(tensor.Buffer())
    constant = None
    if dtype == "int8" and buffer.DataLength():
        shape = tensor.ShapeAsNumpy()
        constant = buffer.DataAsNumpy().view("int8").reshape(shape).copy()
    return Tensor(
        tensor.Name().decode(),
        dtype,
        scales,
        zero_points,
        found.QuantizedDimension() if len(scales) else 0,
        constant,
        operator,
        inputs,
        *ends,
    )
