"""How each kind of layer is quantized.

A rule calls a copy of the layer on quantized tensors, and says what range its
output has in the file.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
from keras import layers

from keras_distill._arguments import checked_numbers
from keras_distill._arguments import one_of
from keras_distill.quantization.fake_quantize import FakeQuantize
from keras_distill.quantization.fake_quantize import QuantizedWeights

# An output's range in the file: measured; that of the input, whose values it
# only moves or picks; the input's again, rounded again; one with all inputs.
MEASURED, SAME, ROUNDED_AS_INPUT, SHARED = (
    "measured",
    "same",
    "rounded as input",
    "shared",
)
# TFLite fixes these: 256 integers, of which one is 0.
PROBABILITIES, _TANH = (0.0, 255 / 256), (-1.0, 127 / 128)


class Rule(NamedTuple):
    """How a kind of layer is quantized.

    Attributes:
        function: `(quantizer, layer, *args, **kwargs)` -> outputs.
        output: One of the constants of this module, or `(low, high)`.
    """

    function: Callable
    output: Any = MEASURED


class Quantizer:
    """What a rule builds the quantized network with.

    Args:
        weights: Number of bits of weights.
        activations: Number of bits of activations.
    """

    def __init__(self, weights: int, activations: int):
        self._weights = weights
        self._activations = activations
        self._wrapped: dict[int, QuantizedWeights] = {}

    def weights(
        self, layer: keras.layers.Layer, channel_axes: int = 1
    ) -> QuantizedWeights:
        """Returns a layer whose kernel is rounded, see `QuantizedWeights`."""
        if id(layer) not in self._wrapped:  # Of a layer that is called twice.
            self._wrapped[id(layer)] = QuantizedWeights(
                layer, self._weights, channel_axes
            )
        return self._wrapped[id(layer)]

    def activations(self, **kwargs: Any) -> FakeQuantize:
        """Returns a layer that rounds, see `FakeQuantize`."""
        return FakeQuantize(self._activations, **kwargs)


_RULES: dict[Any, Rule] = {}


def rule(layer_class: type, output: Any = MEASURED) -> Callable:
    """Registers how a kind of layer is quantized, as a decorator.

    The function is called with a `Quantizer`, a copy of the layer and the
    quantized tensors that the student calls it on. It returns the output, as
    TFLite will compute it: a layer with a kernel through
    `quantizer.weights(layer)`, what several operators compute with
    `quantizer.activations()` between them. The output is rounded behind it.

    Args:
        layer_class: A subclass of `keras.layers.Layer`. A rule that is there
            is replaced.
        output: The range of the output: `"measured"`, or `"same"` for a layer
            that moves or picks values of its input, or `(low, high)` where
            TFLite fixes it. Defaults to `"measured"`.

    Returns:
        A decorator that returns the function as it is.

    Raises:
        TypeError: If `layer_class` is not a subclass of `keras.layers.Layer`.
        ValueError: If `output` is none of the above.

    Example:

    ```python
    @keras.saving.register_keras_serializable()
    class Swish(keras.layers.Layer):
        def call(self, x):
            return x * keras.ops.sigmoid(x)


    @kd.quantization.rule(Swish)
    def quantized_swish(quantizer, layer, x):
        gate = keras.layers.Activation("sigmoid")(x)
        # The range of TFLite's sigmoid.
        gate = quantizer.activations(value_range=(0.0, 255 / 256))(gate)
        return keras.layers.Multiply()([x, gate])
    ```
    """
    if not (
        isinstance(layer_class, type)
        and issubclass(layer_class, keras.layers.Layer)
    ):
        raise TypeError(
            "`layer_class` must be a subclass of keras.layers.Layer. "
            f"Received: {layer_class!r}"
        )
    if isinstance(output, str) or output is None:
        one_of("`output`", output, (MEASURED, SAME))
    else:
        output = checked_numbers("`output`", output, "(-inf, inf)", length=2)

    def register(function):
        _RULES[layer_class] = Rule(function, output)
        return function

    return register


def rule_of(operation: keras.Operation) -> Rule:
    """Returns the `Rule` of a layer or another operation.

    Raises:
        ValueError: If there is none.
    """
    kind = type(operation)
    if kind is layers.Activation:
        found = _ACTIVATIONS.get(operation.activation) or _RULES.get(kind)
    elif kind is layers.ReLU:
        found = _relu(operation) or _RULES.get(kind)
    elif kind in _RULES:
        found = _RULES[kind]
    elif isinstance(operation, layers.Layer):
        found = None
    else:
        found = _OPERATIONS.get(kind.__name__)
    if found is None:
        raise ValueError(_no_rule(operation))
    return found


def _no_rule(operation):
    kind = type(operation).__name__
    what = f"the {kind} layer '{operation.name}'"
    if not isinstance(operation, layers.Layer):
        return (
            f"No rule says how the operation {kind} is quantized. Put it in a "
            "keras.layers.Layer and register a rule for that: "
            "@kd.quantization.rule(YourLayer)."
        )
    if isinstance(operation, layers.RNN):
        return (
            f"Recurrent layers cannot be trained for int8, as {what}. Export "
            'the student itself with quantization="int8" (calibrated after '
            'training) or "dynamic".'
        )
    if isinstance(operation, layers.Activation):
        activation = operation.activation
        name = getattr(activation, "__name__", type(activation).__name__)
        what += f" with the activation {name}"
    return (
        f"No rule says how {what} is quantized. Register one: "
        f"@kd.quantization.rule({kind}) on a function (quantizer, layer, x) "
        "that returns the output."
    )


def _call(_, layer, *args, **kwargs):
    return layer(*args, **kwargs)


def _per_channel(quantizer, layer, x):
    return quantizer.weights(layer)(x)


def _depthwise(quantizer, layer, x):
    return quantizer.weights(layer, channel_axes=2)(x)


def _dense(quantizer, layer, x):
    # TFLite's int8 operator of dense layers is refused one scale per channel.
    return quantizer.weights(layer, channel_axes=0)(x)


def _pairwise(quantizer, layer, inputs):
    """TFLite adds and multiplies two tensors at a time."""
    if len(inputs) == 2:
        return layer(inputs)
    result, *others = inputs
    for number, other in enumerate(others, 1):
        is_last = number == len(others)
        name = layer.name if is_last else f"{layer.name}_part_{number}"
        result = type(layer)(name=name, dtype=layer.dtype_policy)(
            [result, other]
        )
        if not is_last:
            result = quantizer.activations(name=f"{name}_range")(result)
    return result


def _hard_sigmoid(quantizer, layer, x):
    x = layers.ReLU(6.0, name=f"{layer.name}_relu6")(x + 3.0)
    return quantizer.activations(name=f"{layer.name}_inner_range")(x) * (1 / 6)


def _relu(layer):
    if layer.threshold or (layer.negative_slope and layer.max_value):
        return None
    return Rule(_call) if layer.max_value in (None, 6.0) else None


_RULES |= {
    layers.Conv2D: Rule(_per_channel),
    layers.DepthwiseConv2D: Rule(_depthwise),
    layers.Dense: Rule(_dense),
    **dict.fromkeys(
        (layers.Add, layers.Subtract, layers.Multiply), Rule(_pairwise)
    ),
    **dict.fromkeys(
        (
            layers.GlobalAveragePooling1D,
            layers.GlobalAveragePooling2D,
            layers.LeakyReLU,
            layers.PReLU,
        ),
        Rule(_call),
    ),
    **dict.fromkeys(
        (layers.Concatenate, layers.Maximum, layers.Minimum),
        Rule(_call, SHARED),
    ),
    **dict.fromkeys(
        (
            layers.AveragePooling1D,
            layers.AveragePooling2D,
            layers.Resizing,
            layers.UpSampling2D,
        ),
        Rule(_call, ROUNDED_AS_INPUT),
    ),
    **dict.fromkeys(
        (
            layers.Cropping1D,
            layers.ActivityRegularization,
            layers.Cropping2D,
            layers.Dropout,
            layers.GaussianDropout,
            layers.Flatten,
            layers.GaussianNoise,
            layers.GlobalMaxPooling1D,
            layers.GlobalMaxPooling2D,
            layers.Identity,
            layers.MaxPooling1D,
            layers.MaxPooling2D,
            layers.Permute,
            layers.RandomBrightness,
            layers.RandomContrast,
            layers.RandomFlip,
            layers.RandomRotation,
            layers.RandomTranslation,
            layers.RandomZoom,
            layers.Reshape,
            layers.SpatialDropout1D,
            layers.SpatialDropout2D,
            layers.UpSampling1D,
            layers.ZeroPadding1D,
            layers.ZeroPadding2D,
        ),
        Rule(_call, SAME),
    ),
    layers.Softmax: Rule(_call, PROBABILITIES),
}
_ACTIVATIONS = {
    keras.activations.linear: Rule(_call, SAME),
    keras.activations.leaky_relu: Rule(_call),
    keras.activations.hard_sigmoid: Rule(_hard_sigmoid),
    keras.activations.hard_silu: Rule(_call),
    keras.activations.sigmoid: Rule(_call, PROBABILITIES),
    keras.activations.softmax: Rule(_call, PROBABILITIES),
    keras.activations.tanh: Rule(_call, _TANH),
}
# Of `keras.ops`, in a Functional model.
_OPERATIONS = {
    **dict.fromkeys(("Add", "Multiply", "Subtract"), Rule(_call)),
    **dict.fromkeys(("GetItem", "Reshape", "Transpose"), Rule(_call, SAME)),
}
