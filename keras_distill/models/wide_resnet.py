"""The wide residual networks for CIFAR."""

import functools

import keras

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill.models.arguments import blocks_of_depth
from keras_distill.models.arguments import image_input
from keras_distill.models.preactivation import basic
from keras_distill.models.preactivation import network


def wide_resnet(
    depth: int = 28,
    width: int = 10,
    dropout: float = 0.0,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    name: str | None = None,
) -> keras.Model:
    """Builds the wide residual network of Zagoruyko and Komodakis 2016.

    A 3x3 convolution with 16 filters, then three stages of (depth - 4) / 6
    pre-activation units of two 3x3 convolutions with 16, 32 and 64 times
    `width` filters; each stage but the first halves the image. Units and names
    are those of `preactivation_resnet`: the stages end in `"stage1"`,
    `"stage2"` and `"stage3"`, sums before the next normalization.

    WRN-28-1, -2, -5 and -10 have 0.38, 1.48, 9.16 and 36.5 million trainable
    weights with 100 classes (Furlanello et al. 2018, table 1; the last in
    table 5 of the paper), and 0.37, 1.47, 9.13 and 36.5 with 10.

    Weights are initialized as in He et al. 2015. The paper decays them by
    5e-4: set that in the optimizer.

    Args:
        depth: 6 n + 4: 16, 22, 28 and 40 in the paper. It counts the three
            convolutions in shortcuts, and not the logits. Defaults to 28.
        width: How many times wider than 16, 32 and 64 the stages are. Defaults
            to 10.
        dropout: Share of the values dropped between the two convolutions of a
            unit, 0.3 in the paper's networks with dropout. Defaults to 0.0.
        input_shape: (height, width, channels). Defaults to CIFAR's.
        classes: Number of logits. Defaults to 10.
        name: Defaults to `"wide_resnet<depth>_<width>"`.

    Returns:
        A `keras.Model`: images to logits `(batch, classes)`.

    Raises:
        ValueError: for a depth that is not 6 n + 4, a width below 1, or a
            dropout outside [0, 1).

    Example:

    ```python
    student = kd.models.wide_resnet(16, 1, input_shape=(28, 28, 1))
    ```

    Reference:
        Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, table 1,
        and its code, szagoruyko/wide-residual-networks.
    """
    blocks = blocks_of_depth(depth, per_block=2, others=4)
    width = checked_integer("width", width)
    dropout = checked_number("dropout", dropout, "[0, 1)")
    path = functools.partial(basic, dropout=dropout)
    image = image_input(input_shape, classes)
    filters = (16, 16 * width, 32 * width, 64 * width)
    logits = network(image, blocks, filters, classes, path)
    name = name or f"wide_resnet{depth}_{width}"
    return keras.Model(image, logits, name=name)
