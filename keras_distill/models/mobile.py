"""A family of students for phones: depthwise separable convolutions."""

import math

import keras
from keras import layers

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import one_of
from keras_distill.models.arguments import image_input

ACTIVATIONS = ("relu6", "hard_swish")


def mobile(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    width: float = 1.0,
    depth: int = 3,
    activation: str = "relu6",
    name: str = "mobile",
) -> keras.Model:
    """Depthwise separable convolutions, for students on phones.

    A 3x3 convolution, then stages of `depth` blocks: a 3x3 depthwise and a
    1x1 convolution, each with batch normalization and an activation, and a
    shortcut around every block that keeps its shape. Each stage but the first
    halves the map and doubles the filters; then the mean of each map and the
    logits. A TFLite file fuses normalization and ReLU6 into the convolutions,
    and consists of builtin operators.

    The number of stages follows from the smaller side of the image. It is
    halved until it is at most 8, and at least once; if it is halved more than
    once, the first convolution does so first:

        image         stages    maps
        8 x 8         2         8, 4
        28 x 28       2         14, 7
        32 x 32       2         16, 8
        64 x 64       3         32, 16, 8
        224 x 224     5         112, 56, 28, 14, 7

    The stages end in the layers `"stage1"`, `"stage2"`, ..., which
    `kd.taps.suggest` proposes.

    Args:
        input_shape: (height, width, channels) of images in [0, 1].
        classes: Number of logits.
        width: Factor of the filters: 16 at a width of 1 in the first stage.
            They are multiples of 4 (8 from 32 on), at least 4. Defaults to
            1.0.
        depth: Blocks in each stage. Defaults to 3: from 4 000 parameters on,
            deeper and narrower is better than wide and shallow
            (examples/studies/mobile.py; 78.5 ± 0.5 % at depth 1, 81.2 ± 0.9 %
            at depth 3 on Fashion-MNIST, three seeds).
        activation: `"relu6"` or `"hard_swish"`. Defaults to `"relu6"`.
        name: Name of the model. Defaults to `"mobile"`.

    Returns:
        A `keras.Model`: images to logits `(batch, classes)`. With images of
        28x28x1, 10 classes and depth 3 it has 910 parameters at a width of
        0.25, 6 106 at 1, 64 330 at 4 and 2 million at 24.

    Raises:
        ValueError: If an argument is not of its kind, or the height or width
            of the image is `None`.

    Example:

    ```python
    student = kd.models.mobile((28, 28, 1), 10, width=0.5)
    ```

    Reference:
        - Howard et al., "MobileNets: Efficient Convolutional Neural Networks
          for Mobile Vision Applications", 2017: the blocks, the width.
        - Howard et al., "Searching for MobileNetV3", ICCV 2019, section 5.2:
          hard-swish.
        - Shortcuts as in He et al., CVPR 2016; the published networks have
          other stages.
    """
    image = sized_image(input_shape, classes)
    checked_number("width", width)
    checked_integer("depth", depth)
    one_of("activation", activation, ACTIVATIONS)
    halvings = _halvings(image.shape)
    strides = 2 if halvings > 1 else 1
    x = _convolution(image, filters_of(width, 1), strides, "stem")
    x = _activation(x, activation, "stem")
    for stage in range(1, stages_of(image.shape) + 1):
        for block in range(1, depth + 1):
            prefix = f"stage{stage}_block{block}"
            x = _block(
                x,
                filters_of(width, stage),
                2 if stage > 1 and block == 1 else 1,
                activation,
                prefix,
                f"stage{stage}" if block == depth else prefix,
            )
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.Dense(
        classes, kernel_initializer="he_normal", name="logits"
    )(x)
    return keras.Model(image, logits, name=name)


def sized_image(input_shape, classes):
    """As `image_input`, but height and width must be known."""
    image = image_input(input_shape, classes)
    if None in image.shape[1:3]:
        raise ValueError(
            "input_shape must have a height and a width, not None: the number "
            f"of stages follows from them. Received: {input_shape!r}"
        )
    return image


def stages_of(shape):
    """The number of stages for images `(batch, height, width, channels)`."""
    return max(2, _halvings(shape))


def filters_of(width, stage):
    """The filters of a stage, the first of which is 1."""
    filters = 8 * width * 2**stage
    step = 4 if filters < 32 else 8
    return max(4, step * round(filters / step))


def kernels_of(shape, classes, width, depth):
    """Yields what determines the costs, for each layer with a kernel.

    Yields:
        `(weights, filters, positions)`: the size of the kernel, the number of
        its outputs, and at how many positions it is applied.
    """
    _, *sides, channels = shape
    if _halvings(shape) > 1:
        sides = [math.ceil(side / 2) for side in sides]
    filters = filters_of(width, 1)
    yield 9 * channels * filters, filters, math.prod(sides)
    for stage in range(1, stages_of(shape) + 1):
        if stage > 1:
            sides = [math.ceil(side / 2) for side in sides]
        for _ in range(depth):
            yield 9 * filters, filters, math.prod(sides)
            before, filters = filters, filters_of(width, stage)
            yield before * filters, filters, math.prod(sides)
    yield filters * classes, classes, 1


def _halvings(shape):
    return max(1, math.ceil(math.log2(min(shape[1:3]) / 8)))


def _block(x, filters, strides, activation, prefix, end):
    shortcut = x
    x = _convolution(x, None, strides, f"{prefix}_depthwise")
    x = _activation(x, activation, f"{prefix}_depthwise")
    x = _convolution(x, filters, 1, f"{prefix}_pointwise", size=1)
    if x.shape == shortcut.shape:
        x = layers.Add(name=f"{prefix}_add")([x, shortcut])
    return _activation(x, activation, end)


def _convolution(x, filters, strides, prefix, size=3):
    """A convolution and its normalization; without filters it is depthwise."""
    options = {"padding": "same", "use_bias": False, "name": f"{prefix}_conv"}
    if filters is None:
        convolution = layers.DepthwiseConv2D(
            size, strides, depthwise_initializer="he_normal", **options
        )
    else:
        convolution = layers.Conv2D(
            filters, size, strides, kernel_initializer="he_normal", **options
        )
    # Keras's default momentum, 0.99, still holds 5 % of the initial moments
    # after 300 steps; after 600 it costs nothing (examples/studies/mobile.py).
    return layers.BatchNormalization(momentum=0.9, name=f"{prefix}_bn")(
        convolution(x)
    )


def _activation(x, activation, name):
    if activation == "relu6":
        return layers.ReLU(6.0, name=name)(x)
    return layers.Activation(activation, name=name)(x)
