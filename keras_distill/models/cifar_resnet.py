"""The residual networks for CIFAR."""

from collections.abc import Sequence

import keras
from keras import layers
from keras import ops

from keras_distill.models.arguments import blocks_per_stage
from keras_distill.models.arguments import image_input


def cifar_resnet(
    depth: int | None = None,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    name: str | None = None,
    blocks: Sequence[int] | None = None,
) -> keras.Model:
    """Builds the residual network for small images of He et al. 2016.

    A 3x3 convolution, then three stages of (depth - 2) / 6 blocks of two 3x3
    convolutions with 16, 32 and 64 filters; each stage but the first halves
    the image. Shortcuts have no weights ("option A"): every other pixel, and
    zeros for the new channels. The stages end in the layers `"stage1"`,
    `"stage2"` and `"stage3"`.

    Weights are initialized as in He et al. 2015. The paper decays them by
    1e-4: set that in the optimizer.

    Args:
        depth: 6 n + 2: 20, 32, 44, 56 and 110 in the paper, with 0.27, 0.46,
            0.66, 0.85 and 1.7 million weights (table 6). 8 and 14 are smaller
            ones of the same kind. Defaults to 20, unless `blocks` are given.
        input_shape: (height, width, channels). Defaults to CIFAR's.
        classes: Number of logits. Defaults to 10, those of CIFAR-10.
        name: Defaults to `"cifar_resnet<depth>"`.
        blocks: Blocks in each stage instead of a depth, such as `(2, 4, 3)`.
            As many stages as there are numbers, each with twice the filters
            of the one before.

    Returns:
        A `keras.Model`: images to logits `(batch, classes)`.

    Raises:
        ValueError: for a depth that is not 6 n + 2, for blocks that are not
            positive integers, or for both at once.

    Example:

    ```python
    teacher = kd.models.cifar_resnet(56)
    student = kd.models.cifar_resnet(20)
    print(kd.taps.suggest(teacher, student))
    ```

    Reference:
        He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition",
        CVPR 2016, section 4.2 and table 6.
    """
    blocks, label = blocks_per_stage(depth, blocks, 20, per_block=2)
    image = image_input(input_shape, classes)
    x = _convolution(image, 16, 1, "stem")
    x = layers.ReLU(name="stem")(x)
    for stage, last in enumerate(blocks, 1):
        for block in range(1, last + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            end = f"stage{stage}"
            prefix = f"{end}_block{block}"
            x = _block(
                x,
                8 * 2**stage,
                strides,
                prefix,
                end if block == last else prefix,
            )
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.Dense(
        classes, kernel_initializer="he_normal", name="logits"
    )(x)
    return keras.Model(image, logits, name=name or f"cifar_resnet{label}")


def _convolution(x, filters, strides, prefix):
    x = layers.Conv2D(
        filters,
        3,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{prefix}_conv",
    )(x)
    return layers.BatchNormalization(name=f"{prefix}_bn")(x)


def _block(x, filters, strides, prefix, end):
    y = _convolution(x, filters, strides, f"{prefix}_1")
    y = layers.ReLU(name=f"{prefix}_1")(y)
    y = _convolution(y, filters, 1, f"{prefix}_2")
    if strides > 1:
        x = layers.AveragePooling2D(1, strides, name=f"{prefix}_every_other")(x)
        more = filters - x.shape[-1]
        x = ops.pad(x, [[0, 0], [0, 0], [0, 0], [more // 2, more - more // 2]])
    y = layers.Add(name=f"{prefix}_add")([x, y])
    return layers.ReLU(name=end)(y)
