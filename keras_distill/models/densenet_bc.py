"""The densely connected networks for CIFAR."""

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill.models.arguments import blocks_per_stage
from keras_distill.models.arguments import image_input
from keras_distill.models.preactivation import convolution
from keras_distill.models.preactivation import normalized


def densenet_bc(
    depth: int | None = None,
    growth: int = 12,
    compression: float = 0.5,
    blocks: Sequence[int] | None = None,
    stem_filters: int | None = None,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    name: str | None = None,
) -> keras.Model:
    """Builds DenseNet-BC for small images (Huang et al. 2017).

    A 3x3 convolution with 2 `growth` filters, then (with a depth) three stages
    of (depth - 4) / 6 blocks. A block reads all maps of its stage and adds
    `growth` maps to them: normalization, ReLU, 1x1 convolution to 4 `growth`
    maps (the bottleneck, B), normalization, ReLU, 3x3 convolution. Between two
    stages, normalization, ReLU and a 1x1 convolution leave the share
    `compression` of the maps (C), and an average pooling halves them.

    The stages end in the layers `"stage1"`, `"stage2"`, ..., the 1x1
    convolutions before the pooling, and the last in all its maps before the
    last normalization.

    The networks of the paper's table 2, (100, 12), (250, 24) and (190, 40),
    have 0.8, 15.3 and 25.6 million trainable weights with 10 classes.

    Furlanello et al. 2018 name theirs by depths that are not 6 n + 4. No single
    formula gives their sizes. With 16 filters in the stem and
    ceil((depth - 4) / 6) blocks, three of four are met to 1 %:

    | theirs | blocks | published | here, 10 and 100 classes |
    |---|---|---|---|
    | 90-60 | 15 | 16.1 million | 15.98, 16.12 |
    | 80-80 | 13 | 22.4 million | 22.41, 22.58 |
    | 80-120 | 13 | 50.4 million | 50.22, 50.47 |
    | 112-33 | 18 | 6.3 million | 6.62, 6.72 |

    The last is also called 106-33 there, and `densenet_bc(106, 33)` has 6.27
    million. Their table 4 names the 90-60 network by 14 blocks and gives it
    22.4 million; 14 blocks have 14.3.

    Weights are initialized as in He et al. 2015. The paper decays them by 1e-4
    and drops 0.2 of the maps if images are not augmented: set the decay in the
    optimizer; dropout is not built in.

    Args:
        depth: 6 n + 4: 100, 190 and 250 in the paper. Defaults to 100, unless
            `blocks` are given.
        growth: Maps that a block adds, the paper's k. Defaults to 12.
        compression: Share of the maps that go on to the next stage, in (0, 1],
            the paper's theta. Defaults to 0.5.
        blocks: Blocks in each stage instead of a depth, such as
            `(15, 15, 15)`.
        stem_filters: Filters of the first convolution. Defaults to 2 `growth`.
        input_shape: (height, width, channels). Defaults to CIFAR's.
        classes: Number of logits. Defaults to 10.
        name: Defaults to `"densenet_bc<depth>_<growth>"`, with the blocks
            instead of a depth.

    Returns:
        A `keras.Model`: images to logits `(batch, classes)`.

    Raises:
        ValueError: for a depth that is not 6 n + 4, a depth and blocks at
            once, a growth below 1, or a compression outside (0, 1].

    Example:

    ```python
    student = kd.models.densenet_bc(22, 12, input_shape=(28, 28, 1))
    ```

    Reference:
        Huang, Liu, van der Maaten and Weinberger, "Densely Connected
        Convolutional Networks", CVPR 2017, sections 3 and 4. Furlanello et
        al., "Born-Again Neural Networks", ICML 2018, tables 1 and 4.
    """
    blocks, label = blocks_per_stage(depth, blocks, 100, 2, others=4)
    growth = checked_integer("growth", growth)
    stem_filters = checked_integer("stem_filters", stem_filters, or_none=True)
    compression = checked_number("compression", compression, "(0, 1]")
    image = image_input(input_shape, classes)
    x = convolution(image, stem_filters or 2 * growth, 3, 1, "stem_conv")
    for stage, last in enumerate(blocks, 1):
        end = f"stage{stage}"
        for block in range(1, last + 1):
            prefix = f"{end}_block{block}"
            final = stage == len(blocks) and block == last
            x = layers.Concatenate(name=end if final else prefix)(
                [x, _new_maps(x, growth, prefix)]
            )
        if stage < len(blocks):
            maps = max(math.floor(compression * x.shape[-1]), 1)
            x = normalized(x, f"{end}_transition")
            x = convolution(x, maps, 1, 1, end)
            x = layers.AveragePooling2D(2, padding="same", name=f"{end}_pool")(
                x
            )
    x = normalized(x, "head")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.Dense(
        classes, kernel_initializer="he_normal", name="logits"
    )(x)
    name = name or f"densenet_bc{label}_{growth}"
    return keras.Model(image, logits, name=name)


def _new_maps(x, growth, prefix):
    x = normalized(x, f"{prefix}_1")
    x = convolution(x, 4 * growth, 1, 1, f"{prefix}_1_conv")
    x = normalized(x, f"{prefix}_2")
    return convolution(x, growth, 3, 1, f"{prefix}_2_conv")
