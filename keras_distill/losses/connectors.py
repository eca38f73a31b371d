"""What joins two features of unlike shapes: pooling and regressors.

Maps are `(batch, height, width, channels)`, sequences `(batch, time,
channels)`, vectors `(batch, channels)`. Whether two shapes can be joined is
decided from static shapes, before the first step.
"""

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_distill._arguments import one_of

REGRESSORS = ("auto", "conv1x1", "conv_bn_relu", "dense", None)


def adaptive_average_pool(x, height, width):
    """Averages a map down to `height` x `width`, whatever its size.

        out[i, j] = mean of x[floor(i*N/n) : ceil((i+1)*N/n), ... columns alike]

    Windows overlap where `n` does not divide `N`.

    Args:
        x: `(batch, H, W, channels)` with known `H` and `W`.
        height: Rows of the result, or `None` to leave the rows alone.
        width: Columns of the result, or `None` to leave them alone.

    Returns:
        `(batch, height, width, channels)`, the dtype of `x`.
    """
    rows, columns = x.shape[1:3]
    height = rows if height is None else height
    width = columns if width is None else width
    if (rows, columns) == (height, width):
        return x
    if _divides(height, rows) and _divides(width, columns):
        window = (rows // height, columns // width)
        return ops.average_pool(
            x, window, strides=window, data_format="channels_last"
        )
    dtype = keras.backend.standardize_dtype(x.dtype)
    if height != rows:
        averages = ops.convert_to_tensor(_averages(rows, height), dtype)
        x = ops.einsum("ir,brwc->biwc", averages, x)
    if width != columns:
        averages = ops.convert_to_tensor(_averages(columns, width), dtype)
        x = ops.einsum("jw,bhwc->bhjc", averages, x)
    return x


def match_spatial(a, b, pool=adaptive_average_pool):
    """Pools the larger of two maps to the size of the smaller, per axis.

    Args:
        a: `(batch, H_a, W_a, channels_a)`.
        b: `(batch, H_b, W_b, channels_b)`.
        pool: `function(map, height, width)`. Defaults to the average.

    Returns:
        Both, with equal height and width. An axis that is unknown in both
        while tracing is taken as equal.

    Raises:
        ValueError: for an axis that is known in one of the two only.
    """
    size = []
    for axis in (1, 2):
        known = [n for n in (a.shape[axis], b.shape[axis]) if n is not None]
        if len(known) == 1:
            raise ValueError(
                "Maps of unlike sizes are pooled to the smaller one, so both "
                "sizes must be known. Received: "
                f"{tuple(a.shape)} and {tuple(b.shape)}. Give both networks an "
                "input of known height and width."
            )
        size.append(min(known) if known else None)
    return pool(a, *size), pool(b, *size)


def make_regressor(kind, teacher_shape, student_shape, dtype="float32"):
    """The layer that maps a student's feature to the teacher's channels.

    Args:
        kind: `"auto"` (none where the channels agree; else a 1x1 convolution
            for maps and a dense layer for vectors and sequences), `"conv1x1"`,
            `"conv_bn_relu"` (1x1 convolution, batch normalization over the
            replicas' whole batch, ReLU; call it with `training=True`),
            `"dense"`, or `None`. For a student's map and a teacher's vector,
            `"auto"` and `"dense"` average over the map first.
        teacher_shape: Tuple, batch axis first.
        student_shape: Tuple, batch axis first.
        dtype: dtype of the weights.

    Returns:
        A built layer, or `None` where none is needed.

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
    """A convolution without bias, and batch normalization: for features
    before their activation. Call it with `training=True`.

    Args:
        student_shape: `(batch, height, width, channels)`.
        channels: How many channels it gives.
        dtype: dtype of the weights.
        kernel_size: Of the convolution; the size of the map stays.
    """
    connector = keras.Sequential(
        [
            layers.Conv2D(
                channels,
                kernel_size,
                padding="same",
                use_bias=False,
                data_format="channels_last",
                dtype=dtype,
            ),
            _batch_norm(dtype),
        ],
        name="connector",
    )
    connector.build((None, *tuple(student_shape)[1:]))
    return connector


def perceptron(student_shape, teacher_shape, hidden_channels, dtype="float32"):
    """Three linear layers without biases, ReLU between: 1x1 convolutions of a
    map; dense layers of a vector or sequence. For a map and a teacher's
    vector, the map is averaged first.

    Args:
        student_shape: Tuple, batch axis first.
        teacher_shape: Tuple, batch axis first.
        hidden_channels: Channels between the layers.
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
        stack += [_batch_norm(dtype), layers.ReLU(dtype=dtype)]
    return stack


def check_joinable(kind, teacher, student):
    """Raises for two shapes that a regressor of this kind cannot join."""
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
    elif ranks[0] != 4 and not _sizes_agree(teacher, student):
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


def _sizes_agree(teacher, student):
    return all(
        t is None or s is None or t == s
        for t, s in zip(teacher[1:-1], student[1:-1])
    )


def _divides(small, large):
    return small is not None and large is not None and large % small == 0


def _averages(size, cells):
    """`(cells, size)`: row `i` averages the window of cell `i`."""
    matrix = np.zeros((cells, size))
    for i in range(cells):
        start, end = i * size // cells, -(-(i + 1) * size // cells)
        matrix[i, start:end] = 1.0 / (end - start)
    return matrix


class PointwiseConvolution(layers.Conv2D):
    """A 1x1 convolution whose bias is added as any number is.

    The gradient of TensorFlow's own addition of a bias runs in one thread and
    takes as long as all the rest.
    """

    def call(self, inputs):
        return self.convolution_op(inputs, self.kernel) + self.bias


def _conv1x1(channels, dtype):
    return PointwiseConvolution(
        channels, 1, data_format="channels_last", dtype=dtype
    )


def _batch_norm(dtype):
    return layers.BatchNormalization(
        epsilon=1e-5,  # The reference's; Keras's default is 1e-3.
        # Only this backend has it, and only there it is needed.
        synchronized=keras.backend.backend() == "tensorflow",
        dtype=dtype,
    )


def _pooling(dtype):
    return layers.GlobalAveragePooling2D(
        data_format="channels_last", dtype=dtype
    )
