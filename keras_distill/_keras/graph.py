"""The symbolic side of a Keras model: its tensors and what made them.

The public `layer.input` and `layer.output` raise for a layer that is called
twice, and nothing public leads from a tensor to the operation that made it.

Relies on, in Keras 3.12.4 and 3.15.1: `KerasTensor._keras_history`,
`Operation._inbound_nodes`, `Sequential._functional`,
`Function._nodes_by_depth`, `Node.arguments`.
"""

from typing import Any
from typing import NamedTuple

import keras


def symbolic_inputs(model):
    """A model's inputs as it takes them: a tensor, a list or a dict.

    Args:
        model: A Functional or Sequential model; others have none.

    Returns:
        A structure of `keras.KerasTensor`. A Sequential model has no `.input`
        before it was called, so its one input is taken from `.inputs`.
    """
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    return model.input


def shows_its_graph(model):
    """Whether a model is Functional or a built Sequential one."""
    return hasattr(getattr(model, "_functional", model), "_nodes_by_depth")


def symbolic_outputs(model):
    """A model's outputs as it gives them, see `symbolic_inputs`."""
    return getattr(model, "_functional", model).output


def uncompiled(model):
    """The same layers as a Functional model that was not compiled.

    `keras.models.clone_model` compiles the clone of a compiled model, and fails
    at losses and metrics that are not registered.
    """
    ends = symbolic_inputs(model), symbolic_outputs(model)
    return keras.Model(*ends, name=model.name)


class Producer(NamedTuple):
    """The call that made a symbolic tensor.

    Attributes:
        operation: The layer, model or other `keras.Operation` called.
        inputs: The tensors it was called on; none for an `InputLayer`.
        output_index: Which of the outputs of `operation` the tensor is.
    """

    operation: Any
    inputs: list
    output_index: int


def producer(tensor):
    """Returns the `Producer` of a symbolic tensor, `None` for other tensors."""
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return None
    operation, node_index, tensor_index = history
    node = operation._inbound_nodes[node_index]
    return Producer(operation, node.input_tensors, tensor_index)


class SymbolicCall(NamedTuple):
    """A call in the graph of a model.

    Attributes:
        operation: The layer, model or other `keras.Operation` called.
        args, kwargs: What it was called with: structures with
            `keras.KerasTensor`s in them.
        outputs: A list of the tensors that it gave.
    """

    operation: Any
    args: tuple
    kwargs: dict
    outputs: list


def symbolic_calls(model):
    """The calls of a model's graph, each behind those that it depends on.

    Args:
        model: A Functional or Sequential model.

    Returns:
        A list of `SymbolicCall`; a model in the model is one call.
    """
    depths = getattr(model, "_functional", model)._nodes_by_depth
    return [
        SymbolicCall(
            node.operation,
            node.arguments.args,
            node.arguments.kwargs,
            node.outputs,
        )
        for depth in sorted(depths, reverse=True)
        for node in depths[depth]
        if not node.is_input
    ]


def call_outputs(layer):
    """The first output of each symbolic call of a layer, in order."""
    nodes = getattr(layer, "_inbound_nodes", ())
    return [node.output_tensors[0] for node in nodes]


def symbolic_output(model, layer, index=None):
    """The output of a layer as a tensor of a model's graph.

    Args:
        model: A Functional or Sequential model.
        layer: One of its layers, or a layer of a model in it.
        index: Number of the layer's call. Defaults to the first.

    Returns:
        A `keras.KerasTensor` that depends on the inputs of `model`, or `None`
        if the layer is in none of the graphs.
    """
    # A Sequential model keeps its graph in `_functional`.
    graph = getattr(model, "_functional", model)
    depths = getattr(graph, "_nodes_by_depth", {})
    in_graph = {id(node) for depth in depths.values() for node in depth}
    for operation in getattr(graph, "operations", ()):
        # A layer may be part of other graphs too.
        calls = [n for n in operation._inbound_nodes if id(n) in in_graph]
        if operation is layer:
            return calls[index or 0].output_tensors[0]
        if not calls or not isinstance(operation, keras.Model):
            continue
        inner = symbolic_output(operation, layer, index)
        if inner is not None:
            part = keras.Model(operation.inputs, inner)
            return part(list(calls[0].input_tensors))
    return None
