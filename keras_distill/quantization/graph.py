"""A student as one flat list of calls, whose layers are copies."""

import dataclasses
from typing import Any

import keras

from keras_distill._keras.graph import shows_its_graph
from keras_distill._keras.graph import symbolic_calls
from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.graph import symbolic_outputs


class Value:
    """What one call gives and others take: a tensor of the student's graph.

    Attributes:
        shape: Its shape, batch axis first.
        dtype, name: Of an input of the network.
    """

    def __init__(self, shape, dtype="float32", name=None):
        self.shape = tuple(shape)
        self.dtype = dtype
        self.name = name


@dataclasses.dataclass
class Call:
    """A call of a layer or operation.

    Attributes:
        operation: The layer or other `keras.Operation`.
        args, kwargs: Structures with `Value`s in them.
        outputs: A list of `Value`.
        activation: A ReLU layer that the file fuses with the operation, or
            `None`.
    """

    operation: Any
    args: tuple
    kwargs: dict
    outputs: list
    activation: Any = None

    @property
    def inputs(self):
        """The values that it takes, in order."""
        flat = keras.tree.flatten((self.args, self.kwargs))
        return [value for value in flat if isinstance(value, Value)]


@dataclasses.dataclass
class Graph:
    """A network without nested models.

    Attributes:
        inputs, outputs: Structures of `Value`, as the model takes and gives
            them.
        calls: A list of `Call`, each behind those that it depends on.
    """

    inputs: Any
    outputs: Any
    calls: list

    def consumers(self):
        """Returns a dict `Value` -> list of the calls that take it; `None`
        stands for the user of the model's outputs."""
        taken = {}
        for call in self.calls:
            for value in call.inputs:
                taken.setdefault(value, []).append(call)
        for value in keras.tree.flatten(self.outputs):
            taken.setdefault(value, []).append(None)
        return taken


def read(model):
    """Reads a Functional or Sequential model as a `Graph`."""
    values = {}
    inputs = keras.tree.map_structure(
        lambda t: values.setdefault(id(t), Value(t.shape, t.dtype, t.name)),
        symbolic_inputs(model),
    )
    calls = []
    outputs = _read(model, values, calls)
    return Graph(inputs, outputs, calls)


def _read(model, values, calls):
    """Appends the calls of a model.

    Args:
        model: The model.
        values: A dict id of a symbolic tensor -> `Value`, of its inputs.
        calls: The list to append to.

    Returns:
        The structure of its outputs, of `Value`.
    """

    def known(leaf):
        return values.get(id(leaf), leaf)

    for call in symbolic_calls(model):
        args = keras.tree.map_structure(known, call.args)
        kwargs = keras.tree.map_structure(known, call.kwargs)
        inner = call.operation
        if shows_its_graph(inner):
            of_inner = {
                id(tensor): value
                for tensor, value in zip(
                    inner.inputs,
                    keras.tree.flatten(args[0] if args else kwargs["inputs"]),
                )
            }
            outputs = keras.tree.flatten(_read(inner, of_inner, calls))
        else:
            outputs = [Value(tensor.shape) for tensor in call.outputs]
            calls.append(Call(inner, args, kwargs, outputs))
        values.update(
            (id(tensor), value) for tensor, value in zip(call.outputs, outputs)
        )
    return keras.tree.map_structure(
        lambda tensor: values[id(tensor)], symbolic_outputs(model)
    )
