"""The networks of "A good teacher is patient and consistent"."""

from collections.abc import Sequence

import keras
from keras import layers
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_integers
from keras_distill._arguments import one_of
from keras_distill.models.arguments import image_input


@keras.saving.register_keras_serializable(package="keras_distill")
class StandardizedConv2D(layers.Conv2D):
    """A convolution whose kernel has mean 0 and variance 1 for each filter.

    The kernel is standardized when it is used; what is trained and saved is
    the kernel before.

    Args:
        filters, kernel_size, ...: As in `keras.layers.Conv2D`.

    Input shapes:
        `(batch, height, width, channels)`.

    Reference:
        Qiao, Wang, Liu, Shen and Yuille, "Micro-Batch Training with
        Batch-Channel Normalization and Weight Standardization", 2019. The
        constant 1e-10 beside the variance is that of big_vision
        (`models/bit_paper.py`).
    """

    def convolution_op(self, inputs, kernel):
        wide = ops.cast(kernel, "float32")
        mean, variance = ops.moments(wide, axes=[0, 1, 2], keepdims=True)
        wide = (wide - mean) * ops.rsqrt(variance + 1e-10)
        return super().convolution_op(inputs, ops.cast(wide, kernel.dtype))


UNITS: dict[int, tuple[int, ...]] = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def bit_resnet(
    depth: int | Sequence[int] = 50,
    width: int = 1,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    *,
    stem_padding: str = "infinite",
    name: str | None = None,
) -> keras.Model:
    """Builds a BiT network: R50x1, R101x3, R152x4, and so on.

    A pre-activation ResNet with its stride in the 3x3 convolution, group
    normalization (32 groups) instead of batch normalization, and standardized
    kernels. It computes the same in training and inference and does not depend
    on the batch. The head starts at 0. The stages end in the layers `"stage1"`
    to `"stage4"`, before the next normalization. Images are in [-1, 1].

    R50x1 is the student that Beyer et al. 2022 bring to 82.8 %, the larger
    ones are teachers: `load_bit_weights` reads the published files.

    Args:
        depth: 50, 101 or 152, or the number of units of each of four stages.
            Defaults to 50.
        width: How many times as many filters as a ResNet of this depth.
            Defaults to 1. R50x1 has 25.5 million weights with 1000 classes,
            R152x4 has 937 million.
        input_shape: (height, width, channels). Defaults to (224, 224, 3).
        classes: Number of logits. Defaults to 1000.
        stem_padding: What the first pooling sees beyond the border: zeros
            (`"zeros"`), as in the code that trained BiT-S and BiT-M, or
            nothing (`"infinite"`), as in that of Beyer et al. With the
            other's weights, logits differ by 2 %. Defaults to `"infinite"`.
        name: Defaults to `"bit_resnet50x1"`, and so on.

    Returns:
        A `keras.Model`: images to logits `(batch, classes)`.

    Example:

    ```python
    student = kd.models.bit_resnet(50, 1, (64, 64, 3), classes=100)
    ```

    Reference:
        - Kolesnikov et al., "Big Transfer (BiT): General Visual Representation
          Learning", 2020.
        - Beyer et al., "Knowledge distillation: A good teacher is patient and
          consistent", 2022, and its code, google-research/big_vision,
          `models/bit_paper.py`.
    """
    if isinstance(depth, Sequence):
        hint = "units of each stage, or 50, 101 or 152"
        units = checked_integers("depth", depth, length=4, hint=hint)
        depth = sum(3 * n for n in units) + 2
    else:
        units = UNITS[one_of("depth", depth, tuple(UNITS))]
    checked_integer("width", width)
    one_of("stem_padding", stem_padding, ("infinite", "zeros"))
    image = image_input(input_shape, classes)
    x = layers.ZeroPadding2D(3, name="stem_pad")(image)
    x = _convolution(x, 64 * width, 7, "stem_conv", strides=2)
    if stem_padding == "zeros":
        x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = layers.MaxPooling2D(3, 2, name="stem")(x)
    else:
        # The pooling of size 3 and stride 2 that is padded on all sides: that
        # of stride 1, of which every other pixel is kept.
        x = layers.MaxPooling2D(3, 1, padding="same", name="stem_pool")(x)
        x = layers.MaxPooling2D(1, 2, name="stem")(x)
    for stage, count in enumerate(units, 1):
        for unit in range(1, count + 1):
            strides = 2 if stage > 1 and unit == 1 else 1
            prefix = f"stage{stage}_unit{unit}"
            end = f"stage{stage}" if unit == count else prefix
            x = _unit(x, width * 32 * 2**stage, strides, prefix, end)
    x = _normalized(x, "head_norm")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.Dense(classes, kernel_initializer="zeros", name="logits")(x)
    return keras.Model(image, logits, name=name or f"bit_resnet{depth}x{width}")


def _convolution(x, filters, size, name, strides=1):
    return StandardizedConv2D(
        filters,
        size,
        strides,
        padding="same" if strides == 1 else "valid",
        use_bias=False,
        kernel_initializer="lecun_normal",
        name=name,
    )(x)


def _normalized(x, name):
    x = layers.GroupNormalization(32, epsilon=1e-5, name=name)(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _unit(x, filters, strides, prefix, end):
    shortcut = x
    x = _normalized(x, f"{prefix}_norm1")
    if strides > 1 or shortcut.shape[-1] != 4 * filters:
        shortcut = _convolution(
            x, 4 * filters, 1, f"{prefix}_shortcut", strides
        )
    x = _convolution(x, filters, 1, f"{prefix}_conv1")
    x = _normalized(x, f"{prefix}_norm2")
    if strides > 1:
        x = layers.ZeroPadding2D(1, name=f"{prefix}_pad")(x)
    x = _convolution(x, filters, 3, f"{prefix}_conv2", strides)
    x = _normalized(x, f"{prefix}_norm3")
    x = _convolution(x, 4 * filters, 1, f"{prefix}_conv3")
    return layers.Add(name=end)([x, shortcut])
