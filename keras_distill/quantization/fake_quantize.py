"""Layers that round as a file of small integers does, and can be trained.

The rounding is `keras.quantizers.fake_quant_with_min_max_vars`: values are
rounded to the integers of a range and scaled back; the gradient passes as if
they were not, except outside of the range (Jacob et al. 2018, "Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
section 3).
"""

import math

import keras
from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_numbers

_round = keras.quantizers.fake_quant_with_min_max_vars
# A tensor that is always 0 has a range too.
_LEAST_WIDTH = 1e-6


def checked_bits(argument, bits):
    """Returns a number of bits, or raises."""
    return checked_integer(argument, bits, least=2, most=8)


@keras.saving.register_keras_serializable(package="keras_distill")
class FakeQuantize(keras.layers.Layer):
    """Rounds its input to the integers of a range, and scales back.

    The range is that of the training batches as a moving average, and stays
    once `momentum` is 1 (`kd.quantization.FreezeRanges`). The first batch sets
    it if `kd.quantization.calibrate` did not. It always contains 0.

    Args:
        bits: Number of bits, from 2 to 8. Defaults to 8.
        value_range: `(low, high)` for a range that stays. Defaults to `None`:
            it is measured.
        momentum: Of the moving average. Defaults to 0.99.
        is_shared: Whether several tensors have this range. It then widens at
            once to hold each of them, and follows as an average only when it
            shrinks. Defaults to `False`.

    Attributes:
        minimum, maximum: The range, two scalar variables.
    """

    only_rounds = True  # for `_keras.layers.only_rounds`

    def __init__(
        self,
        bits=8,
        value_range=None,
        momentum=0.99,
        is_shared=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.is_shared = checked_boolean("`is_shared`", is_shared)
        self.bits = checked_bits("`bits`", bits)
        self.value_range = value_range and checked_numbers(
            "`value_range`", value_range, "(-inf, inf)", length=2
        )
        self.initial_momentum = checked_number("`momentum`", momentum, "[0, 1]")
        self.is_observing = False

    def build(self, input_shape):
        low, high = self.value_range or (0.0, 0.0)
        constant = keras.initializers.Constant

        def scalar(name, value):
            return self.add_weight(
                shape=(),
                initializer=constant(value),
                trainable=False,
                dtype="float32",
                autocast=False,
                aggregation="mean",
                name=name,
            )

        self.minimum = scalar("minimum", low)
        self.maximum = scalar("maximum", high)
        self.momentum = scalar(
            "momentum",
            self.initial_momentum if self.value_range is None else 1.0,
        )

    @property
    def has_range(self):
        """Whether the range was measured or given."""
        return bool(self.maximum > self.minimum)

    def forget(self):
        """Drops the range, unless it was given."""
        if self.value_range is None:
            self.minimum.assign(0.0)
            self.maximum.assign(0.0)

    def freeze(self, frozen=True):
        """Keeps the range from now on, or lets it follow again."""
        if self.value_range is None:
            self.momentum.assign(1.0 if frozen else self.initial_momentum)

    def call(self, inputs, training=False):
        x = ops.cast(inputs, "float32")
        if self.is_observing:
            self._observe(x)
            return x
        if training and self.value_range is None:
            self._follow(x)
        y = _round(x, *self.rounding_range(), num_bits=self.bits)
        return ops.cast(y, self.compute_dtype)

    def rounding_range(self):
        """The range, widened until one of its integers is 0.

        TFLite would move it instead, by up to half an integer: of [-1, 1],
        which is that of many images, one end would be outside, and all values
        of a byte halfway between two integers, which no two programs round
        alike.
        """
        low, high = self.minimum, self.maximum
        largest = 2.0**self.bits - 1.0
        width = ops.maximum(high - low, _LEAST_WIDTH)
        zero = ops.round(-low / width * largest)
        scale = ops.maximum(
            -low / ops.maximum(zero, 1.0),
            high / ops.maximum(largest - zero, 1.0),
        )
        return -zero * scale, (largest - zero) * scale

    def compute_output_spec(self, inputs, training=False):
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def _observe(self, x):
        """Widens the range to hold `x`."""
        if self.value_range is None:
            low, high = _range_of(x)
            self.minimum.assign(ops.minimum(self.minimum, low))
            self.maximum.assign(ops.maximum(self.maximum, high))

    def _follow(self, x):
        """Moves the range towards that of `x`."""
        x = ops.stop_gradient(x)
        low, high = _range_of(x)
        is_new = ops.equal(self.maximum, self.minimum)
        momentum = ops.where(is_new, 0.0, self.momentum)
        new_low = momentum * self.minimum + (1.0 - momentum) * low
        new_high = momentum * self.maximum + (1.0 - momentum) * high
        if self.is_shared:
            follows = momentum < 1.0
            new_low = ops.where(follows, ops.minimum(new_low, low), new_low)
            new_high = ops.where(follows, ops.maximum(new_high, high), new_high)
        self.minimum.assign(new_low)
        self.maximum.assign(new_high)

    def get_config(self):
        return {
            **super().get_config(),
            "bits": self.bits,
            "value_range": self.value_range,
            "momentum": self.initial_momentum,
            "is_shared": self.is_shared,
        }


def _range_of(x):
    low = ops.minimum(ops.min(x), 0.0)
    return low, ops.maximum(ops.max(x), low + _LEAST_WIDTH)


@keras.saving.register_keras_serializable(package="keras_distill")
class QuantizedWeights(keras.layers.Wrapper):
    """Calls a layer with its kernel rounded to small integers.

    The integers are symmetric, from `-(2 ** (bits - 1) - 1)` to its opposite,
    for 8 bits [-127, 127]. One scale per channel, or one for the kernel, puts
    the largest weight on the largest integer.

    Args:
        layer: A layer with a `kernel`.
        bits: Number of bits, from 2 to 8. Defaults to 8.
        channel_axes: The last axes of the kernel along which scales differ: 1
            for a convolution, 2 for a depthwise one, 0 for one scale.
    """

    def __init__(self, layer, bits=8, channel_axes=1, **kwargs):
        kwargs.setdefault("name", layer.name)
        super().__init__(layer, **kwargs)
        self.bits = checked_bits("`bits`", bits)
        self.channel_axes = checked_integer(
            "`channel_axes`", channel_axes, least=0
        )

    def call(self, inputs):
        layer = self.layer
        trainable, others = (
            [
                self.quantized_kernel() if v is layer.kernel else v.value
                for v in variables
            ]
            for variables in (
                layer.trainable_variables,
                layer.non_trainable_variables,
            )
        )
        outputs, _ = layer.stateless_call(trainable, others, inputs)
        return outputs

    def quantized_kernel(self):
        """Returns the rounded kernel, a float32 tensor of its shape."""
        kernel = ops.cast(self.layer.kernel, "float32")
        shape = tuple(kernel.shape)
        split = len(shape) - self.channel_axes
        axis = None
        if self.channel_axes:
            # TFLite's operators quantize along one axis, the last of this one.
            kernel = ops.reshape(
                kernel, (*shape[:split], math.prod(shape[split:]))
            )
            axis = split
        axes = None if axis is None else tuple(range(axis))
        largest = ops.max(ops.abs(ops.stop_gradient(kernel)), axis=axes)
        largest = ops.maximum(largest, _LEAST_WIDTH)
        if self.bits < 8:
            # The file's scale has to be that of fewer integers, and TFLite's
            # converter takes it from the last rounding if it is the only one
            # of its kind.
            integers = 2 ** (self.bits - 1) - 1
            scale = largest / integers
            kernel += ops.stop_gradient(
                ops.round(kernel / scale) * scale - kernel
            )
            largest = 127 * scale
        kernel = _round(kernel, -largest, largest, narrow_range=True, axis=axis)
        return ops.reshape(kernel, shape)

    def get_config(self):
        return {
            **super().get_config(),
            "bits": self.bits,
            "channel_axes": self.channel_axes,
        }
