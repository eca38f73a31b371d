"""The attention-based fusion of `KnowledgeReview`."""

from typing import Any

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_distill.losses.connectors import conv_bn


def resize_nearest(x, height, width):
    """Repeats or drops rows and columns: `out[i] = x[floor(i * N / n)]`.

    Args:
        x: `(batch, H, W, channels)` with known `H` and `W`.
        height: Rows of the result.
        width: Columns of the result.
    """
    for axis, size in ((1, height), (2, width)):
        old = x.shape[axis]
        if old == size:
            continue
        if size % old == 0:
            x = ops.repeat(x, size // old, axis=axis)
        else:
            x = ops.take(x, np.arange(size) * old // size, axis=axis)
    return x


@keras.saving.register_keras_serializable(package="keras_distill")
class Fusion(layers.Layer):
    """Fuses the feature of one stage with the deeper stages' residual.

        x = BN(conv1x1(feature))
        a, b = sigmoid(conv1x1([x, deeper]))     two maps of weights
        residual = a * x + b * deeper            `x` at the deepest stage
        output = BN(conv3x3(residual))           at the teacher's size

    Args:
        student_shape: Shape of the stage's feature.
        teacher_shape: Shape of `output`.
        hidden_channels: Number of channels of `residual`.
        deepest: Whether this is the deepest stage.
        dtype: dtype of the weights.
    """

    def __init__(
        self,
        student_shape: Any,
        teacher_shape: Any,
        hidden_channels: int,
        deepest: Any,
        dtype: Any,
    ):
        super().__init__(name="fusion", dtype=dtype)
        self.size = tuple(teacher_shape[1:3])
        self.reduce = conv_bn(student_shape, hidden_channels, dtype)
        self.weigh = None
        if not deepest:
            self.weigh = layers.Conv2D(
                2,
                1,
                activation="sigmoid",
                data_format="channels_last",
                dtype=dtype,
            )
            self.weigh.build((None, None, None, 2 * hidden_channels))
        self.expand = conv_bn(
            (None, None, None, hidden_channels),
            teacher_shape[-1],
            dtype,
            kernel_size=3,
        )
        self.built = True

    def call(self, feature, deeper=None):
        """Returns `(output, residual)`, by the statistics of the batch."""
        x = self.reduce(feature, training=True)
        if self.weigh is not None:
            deeper = resize_nearest(deeper, *x.shape[1:3])
            weights = self.weigh(ops.concatenate([x, deeper], axis=-1))
            x = x * weights[..., :1] + deeper * weights[..., 1:]
        x = resize_nearest(x, *self.size)
        return self.expand(x, training=True), x
