"""The residual networks whose shortcuts stay free: pre-activation."""

from collections.abc import Sequence

import keras

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integers
from keras_distill.models.arguments import blocks_per_stage
from keras_distill.models.arguments import image_input
from keras_distill.models.preactivation import basic
from keras_distill.models.preactivation import bottleneck as bottleneck_path
from keras_distill.models.preactivation import network


def preactivation_resnet(
    depth: int | None = None,
    blocks: Sequence[int] | None = None,
    filters: Sequence[int] | None = None,
    bottleneck: bool = False,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    name: str | None = None,
) -> keras.Model:
    """Builds the pre-activation residual network of He et al. 2016b.

    For small images: a 3x3 convolution, then stages of units in which batch
    normalization and ReLU come before each convolution, so that the shortcut
    adds the map as it is. Each stage but the first halves the image. If a unit
    changes size or filters, its shortcut is a 1x1 convolution and both paths
    read the normalized map, as in the authors' code. Normalization and ReLU
    end the last stage.

    The stages end in the layers `"stage1"`, `"stage2"`, ...: sums before the
    next normalization, as in `bit_resnet`. The next stage reads the layers
    `"stage2_block1_1_relu"`, ..., `"head_relu"`. As in every network of
    `kd.models`, the first layer with weights is `"stem_conv"` and the last
    `"logits"`.

    Args:
        depth: 6 n + 2, or 9 n + 2 with bottlenecks. In the paper 110 (1.7
            million weights), and with bottlenecks 164 (1.7) and 1001 (10.2;
            with those of the normalization 10.3). Defaults to 20, or 29 with
            bottlenecks, unless `blocks` are given.
        blocks: Units in each stage instead of a depth, such as `(2, 4, 3)`.
        filters: Filters of the first convolution and of each stage's end.
            Defaults to 16, 16, 32, 64, ...; with bottlenecks to 16, 64, 128,
            256, ...
        bottleneck: Units of 1x1, 3x3 and 1x1 convolutions, the first two with
            a quarter of the filters, instead of two 3x3. Defaults to `False`.
        input_shape: (height, width, channels). Defaults to CIFAR's.
        classes: Number of logits. Defaults to 10.
        name: Defaults to `"preactivation_resnet<depth>"`.

    Returns:
        A `keras.Model`: images to logits `(batch, classes)`.

    Raises:
        ValueError: for a depth not of the form, a depth and blocks at once, or
            filters that do not fit the blocks.

    Example:

    ```python
    # The widths of a DenseNet, so that the two can share first and last layer.
    student = kd.models.preactivation_resnet(
        blocks=(2, 2, 2), filters=(24, 108, 150, 342)
    )
    ```

    Reference:
        He, Zhang, Ren and Sun, "Identity Mappings in Deep Residual Networks",
        ECCV 2016, and its code, KaimingHe/resnet-1k-layers. The free blocks
        and filters are those of Furlanello et al., "Born-Again Neural
        Networks", ICML 2018, table 5.
    """
    checked_boolean("bottleneck", bottleneck)
    default, convolutions = (29, 3) if bottleneck else (20, 2)
    blocks, label = blocks_per_stage(depth, blocks, default, convolutions)
    if filters is None:
        first = 64 if bottleneck else 16
        filters = (16, *(first * 2**stage for stage in range(len(blocks))))
    filters = checked_integers(
        "filters",
        filters,
        length=1 + len(blocks),
        hint="one for the first convolution and one for each stage",
    )
    if bottleneck and min(filters[1:]) < 4:
        raise ValueError(
            "With bottleneck=True the stages need at least 4 filters: a "
            f"quarter of them is inside. Received: filters={filters}"
        )
    image = image_input(input_shape, classes)
    path = bottleneck_path if bottleneck else basic
    logits = network(image, blocks, filters, classes, path)
    return keras.Model(
        image, logits, name=name or f"preactivation_resnet{label}"
    )
