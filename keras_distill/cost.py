"""What a network costs to run: multiply-accumulates, counted as it runs.

The model is called once on symbolic tensors, without computing anything, and
every layer reports the shapes of its call. Nested, shared and subclassed
models are counted alike; a shared layer counts once per call.
"""

import contextlib
import math
import warnings
from typing import Any

import keras

from keras_distill._arguments import checked_model
from keras_distill._keras.fingerprint import black_boxes
from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.layers import call_model
from keras_distill._keras.layers import flatten_layers
from keras_distill._keras.layers import only_rounds
from keras_distill._keras.method_patching import intercepted

__all__ = ["multiply_accumulates"]

layers = keras.layers


def multiply_accumulates(model: keras.Model, input_shape: Any = None) -> int:
    """Counts the multiply-accumulates of one forward pass on one sample.

    It counts the products of weights with inputs: convolutions (grouped,
    depthwise, separable, transposed), `Dense`, `EinsumDense`, recurrent layers
    (times their time steps), and the two products of the attention layers. It
    does not count biases, activations, elementwise operations, pooling,
    normalization, resizing, embedding look-ups, and products that a model
    computes with `keras.ops` or inside its own `tf.function`. One
    multiply-accumulate is two floating-point operations. As is usual, padding
    at the borders counts as multiplied.

    Args:
        model: A built `keras.Model`.
        input_shape: Shape of one sample without the batch axis, such as
            `(224, 224, 3)`; a list or dict of shapes for several inputs; or
            `keras.KerasTensor`s with the batch axis. Needed if the model does
            not know it: free sizes, several inputs of a subclassed model.
            Defaults to the shape the model was built with.

    Returns:
        An `int`.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If it is not built, or its input shape is not known.

    Warns:
        UserWarning: For layers of your own classes with weight matrices: what
            they compute with these is not counted.

    Example:

    ```python
    model = keras.Sequential([keras.Input((28, 28, 1)),
                              keras.layers.Conv2D(8, 3, padding="same")])
    kd.cost.multiply_accumulates(model)  # 28 * 28 * 8 * 3 * 3 * 1 = 56448
    ```
    """
    checked_model("model", model)
    counter = _Counter(model)
    counter.compute_output_spec(_inputs(model, input_shape))
    for layer in counter.uncounted.values():
        warnings.warn(
            f"multiply_accumulates counts nothing for '{layer.name}': it does "
            f"not know what {type(layer).__name__} computes with its weights.",
            stacklevel=2,
        )
    return counter.total


class _Counter(keras.Operation):
    """The model as an operation that counts during its symbolic pass."""

    def __init__(self, model):
        super().__init__()
        # In a list, so that Keras does not track the model.
        self._model = [model]
        self._called = []
        self.uncounted = {}

    @property
    def total(self):
        return sum(cost for _, cost in self._called)

    def call(self, inputs):
        model = self._model[0]
        inside = flatten_layers(model)
        quantized = [x for x in inside if getattr(x, "quantization_mode", None)]
        with contextlib.ExitStack() as stack:
            stack.enter_context(intercepted(inside, "call", self._record))
            stack.enter_context(
                intercepted(quantized, "quantized_call", self._record)
            )
            return call_model(model, inputs)

    def _record(self, layer, method, *args, **kwargs):
        before, self._called = self._called, []
        outputs = method(*args, **kwargs)
        inside = self._called
        rule = _rule(layer)
        if isinstance(layer, layers.RNN):
            # Keras traces the loop and does not run it: the number of calls of
            # the cell says nothing.
            steps = _shape(args[0] if args else kwargs["sequences"])[1]
            once = [cost for cell, cost in inside if cell is layer.cell]
            cost = steps * (once[0] if once else _recurrent(layer.cell))
        else:
            cost = sum(cost for _, cost in inside)
            if rule is not None:
                cost += rule(layer, outputs, *args, **kwargs)
            elif _has_matrices_of_its_own(layer):
                self.uncounted[id(layer)] = layer
        self._called = [*before, (layer, cost)]
        return outputs


def number_of_parameters(model):
    """The number of a model's parameters; `None` if a black box hides some."""
    return None if black_boxes(model) else count_parameters(model)


def count_parameters(model):
    """Counts a model's parameters; ranges (`kd.quantization`) are none."""
    of_ranges = sum(
        layer.count_params()
        for layer in flatten_layers(model)
        if only_rounds(layer)
    )
    return int(model.count_params()) - of_ranges


def cost_of_one_sample(model, x):
    """Multiply-accumulates of one row of `x`.

    Returns:
        An integer, or `None` if the model's own `call` has no symbolic form,
        or a black box hides some: a table is worth more than one of its cells.
    """
    import tensorflow as tf

    if black_boxes(model):
        return None
    inputs = keras.tree.map_structure(
        # Keras does not know NumPy's dtypes of strings.
        lambda a: keras.KerasTensor(
            (1, *a.shape[1:]), tf.as_dtype(a.dtype).name
        ),
        x,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return multiply_accumulates(model, inputs)
    except Exception:
        return None


def _convolution(layer, outputs, inputs, *args, **kwargs):
    channels = _shape(inputs)[_channel_axis(layer)]
    size = math.prod(layer.kernel_size)
    return _size(outputs) * size * channels // layer.groups


def _transposed_convolution(layer, outputs, inputs, *args, **kwargs):
    return _size(inputs) * math.prod(layer.kernel_size) * layer.filters


def _depthwise_convolution(layer, outputs, inputs, *args, **kwargs):
    return _size(outputs) * math.prod(layer.kernel_size)


def _separable_convolution(layer, outputs, inputs, *args, **kwargs):
    channels = _shape(inputs)[_channel_axis(layer)] * layer.depth_multiplier
    positions = _size(outputs) // layer.filters
    size = math.prod(layer.kernel_size)
    return positions * channels * (size + layer.filters)


def _dense(layer, outputs, inputs, *args, **kwargs):
    return _size(inputs) * layer.units


def _einsum_dense(layer, outputs, inputs, *args, **kwargs):
    operands, result = layer.equation.replace(" ", "").split("->")
    inputs_axes, weights = operands.split(",")
    before, dots, after = inputs_axes.partition("...")
    shape = _shape(inputs)
    sizes = dict(zip(before, shape))
    sizes.update(zip(reversed(after if dots else before), reversed(shape)))
    contracted = [sizes[x] for x in set(weights) - set(result) if x in sizes]
    return _size(outputs) * math.prod(contracted)


def _recurrent(layer, outputs=None, *args, **kwargs):
    """One step of a cell: each weight once per position."""
    positions = 1
    if outputs is not None and hasattr(layer, "filters"):
        positions = _size(keras.tree.flatten(outputs)[0]) // layer.filters
    return positions * (
        math.prod(layer.kernel.shape) + math.prod(layer.recurrent_kernel.shape)
    )


def _multi_head_attention(layer, outputs, query, value, *args, **kwargs):
    if isinstance(layer, layers.GroupQueryAttention):
        heads, axes = layer.num_query_heads, (1,)
        sizes = 2 * layer.head_dim
    else:
        heads, axes = layer.num_heads, layer.attention_axes
        sizes = layer.key_dim + layer.value_dim
    queries = math.prod(_shape(query)[1:-1])
    return queries * math.prod(_shape(value)[a] for a in axes) * heads * sizes


def _attention(layer, outputs, inputs, *args, **kwargs):
    query, value = _shape(inputs[0]), _shape(inputs[1])
    pairs = math.prod(query[1:-1]) * value[-2]
    additive = isinstance(layer, layers.AdditiveAttention)
    return pairs * (value[-1] + (0 if additive else query[-1]))


def _embedding(layer, outputs, inputs, reverse=False, *args, **kwargs):
    return _size(inputs) * layer.input_dim if reverse else 0


_RULES = {
    (layers.Conv1D, layers.Conv2D, layers.Conv3D): _convolution,
    (
        layers.Conv1DTranspose,
        layers.Conv2DTranspose,
        layers.Conv3DTranspose,
    ): _transposed_convolution,
    (layers.DepthwiseConv1D, layers.DepthwiseConv2D): _depthwise_convolution,
    (layers.SeparableConv1D, layers.SeparableConv2D): _separable_convolution,
    layers.Dense: _dense,
    layers.EinsumDense: _einsum_dense,
    (
        layers.MultiHeadAttention,
        layers.GroupQueryAttention,
    ): _multi_head_attention,
    layers.Attention: _attention,
    layers.Embedding: _embedding,
}


def _rule(layer):
    if hasattr(layer, "recurrent_kernel"):
        return _recurrent
    for classes, rule in _RULES.items():
        if isinstance(layer, classes):
            return rule
    return None


def _has_matrices_of_its_own(layer):
    """Whether a layer of the user's holds weights with two or more axes."""
    if type(layer).__module__.startswith("keras."):
        return False
    inside = {
        id(weight)
        for child in flatten_layers(layer, include_self=False)
        for weight in child.weights
    }
    return any(len(w.shape) > 1 and id(w) not in inside for w in layer.weights)


def _shape(tensor):
    shape = tuple(tensor.shape)
    if None in shape:
        raise ValueError(
            "multiply_accumulates needs every size, but a layer gets a tensor "
            f"of shape {shape}. Pass `input_shape` without free sizes."
        )
    return shape


def _size(tensor):
    return math.prod(_shape(tensor)[1:])


def _channel_axis(layer):
    return -1 if layer.data_format == "channels_last" else 1


def _inputs(model, shape):
    """The model's inputs as `keras.KerasTensor`s of one sample."""
    inputs = getattr(model, "inputs", None)
    if shape is None and inputs:
        shape = symbolic_inputs(model)
    elif shape is None:
        # What Keras remembers of a subclassed model's first call.
        shape = (model.get_build_config() or {}).get("input_shape")
        if shape is None:
            raise ValueError(
                f"The model '{model.name}' does not know its input shape. "
                "Pass `input_shape`, the shape of one sample, such as "
                "(224, 224, 3); for several inputs a list or dict of shapes."
            )
        shape = _samples(shape)
    one = inputs and len(inputs) == 1
    dtype = inputs[0].dtype if one else keras.config.floatx()
    specs = _with_batch_of_one(shape, dtype)
    return specs[0] if isinstance(specs, list) and len(specs) == 1 else specs


def _samples(shapes):
    """Shapes without their batch axis."""
    if isinstance(shapes, dict):
        return {key: _samples(shape) for key, shape in shapes.items()}
    if shapes and isinstance(shapes[0], (list, tuple)):
        return [_samples(shape) for shape in shapes]
    return tuple(shapes[1:])


def _with_batch_of_one(shape, dtype):
    """A structure of shapes or tensors as `keras.KerasTensor`s."""
    if isinstance(shape, dict):
        return {k: _with_batch_of_one(v, dtype) for k, v in shape.items()}
    if hasattr(shape, "shape"):
        dtype, shape = shape.dtype, tuple(shape.shape[1:])
    elif any(not isinstance(size, (int, type(None))) for size in shape):
        return [_with_batch_of_one(v, dtype) for v in shape]
    elif shape and shape[0] is None:  # Keras's way to write a batch axis.
        shape = shape[1:]
    if None in shape:
        raise ValueError(
            f"The input has free sizes: {tuple(shape)}. Pass `input_shape`, "
            "the shape of one sample, such as (224, 224, 3)."
        )
    return keras.KerasTensor((1, *shape), dtype)
