"""Connectors: layers that bring a student's feature to the teacher's shape.

Maps are `(batch, height, width, channels)`, sequences `(batch, time,
channels)`, vectors `(batch, channels)`. Whether two shapes can be joined is
decided from static shapes, before the first step.
"""

import keras
from keras import layers

from keras_distill._arguments import one_of
from keras_distill._shapes import sizes_agree

REGRESSORS = ("auto", "conv1x1", "conv_bn_relu", "dense", None)


def make_regressor(kind, teacher_shape, student_shape, dtype="float32"):
    """Builds the layer that brings a student to the teacher's channels.

    Args:
        kind: `"auto"` (none if the channels agree; else a 1x1 convolution
            for maps and a dense layer for vectors and sequences), `"conv1x1"`,
            `"conv_bn_relu"` (1x1 convolution, batch normalization over the
            replicas' whole batch, ReLU; call it with `training=True`),
            `"dense"`, or `None`. For a student's map and a teacher's vector,
            `"auto"` and `"dense"` average over the map first.
        teacher_shape: Tuple, batch axis first.
        student_shape: Tuple, batch axis first.
        dtype: dtype of the weights.

    Returns:
        A built layer, or `None` if none is needed.

    Raises:
        ValueError: for an unknown kind, unknown channels, or shapes that the
            kind cannot join.
    """
    one_of("regressor", kind, REGRESSORS)
    teacher_shape, student_shape = tuple(teacher_shape), tuple(student_shape)
    check_joinable(kind, teacher_shape, student_shape)
    stack = _stack(kind, teacher_shape, student_shape, dtype)
    if not stack:
        return None
    regressor = stack[0]
    if len(stack) > 1:
        regressor = keras.Sequential(stack, name="regressor")
    regressor.build((None, *student_shape[1:]))
    return regressor


def conv_bn(student_shape, channels, dtype="float32", kernel_size=1):
    """Builds a convolution and batch normalization, for pre-activations.

    Call it with `training=True`.

    Args:
        student_shape: `(batch, height, width, channels)`.
        channels: Number of channels of the result.
        dtype: dtype of the weights.
        kernel_size: Size of the convolution's window.
    """
    connector = keras.Sequential(
        [
            _conv(channels, kernel_size, dtype),
            batch_norm(dtype),
        ],
        name="connector",
    )
    connector.build((None, *tuple(student_shape)[1:]))
    return connector


def conv_bn_relu(channels, kernel_size, dtype="float32", strides=1):
    """Returns a convolution without bias, batch normalization and ReLU.

    Args:
        channels: Number of channels of the result.
        kernel_size: Size of the convolution's window.
        dtype: dtype of the weights.
        strides: Strides of the convolution.
    """
    return [
        _conv(channels, kernel_size, dtype, strides),
        batch_norm(dtype),
        layers.ReLU(dtype=dtype),
    ]


def batch_norm(dtype="float32"):
    """Batch normalization as every connector has it.

    The constants are those of the reference codes (PyTorch's defaults):
    epsilon 1e-5, and a tenth of each batch in the moving statistics, which
    follow a short training and which a deployed connector uses.

    Args:
        dtype: dtype of the weights.
    """
    return layers.BatchNormalization(
        epsilon=1e-5,
        momentum=0.9,
        # Only TensorFlow has it, and only there are replicas to synchronize.
        synchronized=keras.backend.backend() == "tensorflow",
        dtype=dtype,
    )


def perceptron(student_shape, teacher_shape, hidden_channels, dtype="float32"):
    """Builds three linear layers without biases, with ReLU between them.

    They are 1x1 convolutions for a map, and dense layers for a vector or
    sequence. For a student's map and a teacher's vector, the map is averaged
    first.

    Args:
        student_shape: Tuple, batch axis first.
        teacher_shape: Tuple, batch axis first.
        hidden_channels: Number of channels between the layers.
        dtype: dtype of the weights.
    """
    check_joinable("auto", tuple(teacher_shape), tuple(student_shape))
    is_map = len(student_shape) == 4
    stack = []
    if is_map and len(teacher_shape) == 2:
        stack, is_map = [_pooling(dtype)], False
    widths = (hidden_channels, hidden_channels, teacher_shape[-1])
    for width, activation in zip(widths, ("relu", "relu", None)):
        options = {
            "use_bias": False,
            "activation": activation,
            "dtype": dtype,
        }
        stack.append(
            layers.Conv2D(width, 1, data_format="channels_last", **options)
            if is_map
            else layers.Dense(width, **options)
        )
    network = keras.Sequential(stack, name="perceptron")
    network.build((None, *tuple(student_shape)[1:]))
    return network


def _stack(kind, teacher_shape, student_shape, dtype):
    channels = teacher_shape[-1]
    is_map = len(student_shape) == 4
    to_vector = is_map and len(teacher_shape) == 2
    stack = [_pooling(dtype)] if to_vector else []
    if kind is None or (kind == "auto" and channels == student_shape[-1]):
        return stack
    if kind == "dense" or (kind == "auto" and (to_vector or not is_map)):
        return [*stack, layers.Dense(channels, dtype=dtype)]
    stack = [_conv1x1(channels, dtype)]
    if kind == "conv_bn_relu":
        stack += [batch_norm(dtype), layers.ReLU(dtype=dtype)]
    return stack


def check_joinable(kind, teacher, student):
    """Raises if a regressor of this kind cannot join two shapes."""
    ranks = (len(teacher), len(student))
    problem = way_out = None
    tap_others = (
        "No regressor joins them: tap other layers with teacher_layer_name= "
        "and student_layer_name=."
    )
    if None in (teacher[-1], student[-1]) or min(ranks) < 2:
        problem = "the number of channels must be known"
        way_out = (
            "Tap layers whose output is (batch, ..., channels) with "
            "teacher_layer_name= and student_layer_name=."
        )
    elif ranks == (4, 2):
        problem = "a vector cannot be compared with a map"
        way_out = (
            "No regressor joins them: tap the student before its pooling with "
            "student_layer_name=."
        )
    elif ranks == (2, 4):
        if kind not in ("auto", "dense"):
            problem = f"regressor={kind!r} does not turn a map into a vector"
            way_out = 'Pass regressor="auto" or "dense", which pool the map.'
    elif ranks[0] != ranks[1]:
        problem = "they do not have the same number of axes"
        way_out = tap_others
    elif ranks[0] != 4 and not sizes_agree(teacher[1:-1], student[1:-1]):
        problem = "only the sizes of 2D maps may differ"
        way_out = tap_others
    elif ranks[0] != 4 and kind in ("conv1x1", "conv_bn_relu"):
        problem = f"regressor={kind!r} is for maps (batch, height, width, ...)"
        way_out = 'Pass regressor="dense".'
    elif kind is None and teacher[-1] != student[-1]:
        problem = "with regressor=None the channels must agree"
        way_out = 'Pass regressor="auto".'
    if problem:
        raise ValueError(
            f"The features cannot be compared: {problem}. Received: teacher "
            f"{teacher}, student {student}. {way_out}"
        )


class PointwiseConvolution(layers.Conv2D):
    """A 1x1 convolution that adds its bias by broadcasting.

    The gradient of TensorFlow's own bias addition runs in one thread and takes
    as long as all the rest.
    """

    def call(self, inputs):
        return self.convolution_op(inputs, self.kernel) + self.bias


def _conv(channels, kernel_size, dtype, strides=1):
    return layers.Conv2D(
        channels,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        data_format="channels_last",
        dtype=dtype,
    )


def _conv1x1(channels, dtype):
    return PointwiseConvolution(
        channels, 1, data_format="channels_last", dtype=dtype
    )


def _pooling(dtype):
    return layers.GlobalAveragePooling2D(
        data_format="channels_last", dtype=dtype
    )
