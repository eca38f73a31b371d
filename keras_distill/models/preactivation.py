"""Parts of the networks that normalize before they convolve."""

from keras import layers


def network(image, blocks, filters, classes, path):
    """A residual network with units normalized first.

    Args:
        image: The `keras.Input`.
        blocks: Number of units in each stage.
        filters: Those of the first convolution and of each stage.
        classes: Number of logits.
        path: `basic` or `bottleneck`, or a function like these.

    Returns:
        The logits.
    """
    x = convolution(image, filters[0], 3, 1, "stem_conv")
    for stage, (last, width) in enumerate(zip(blocks, filters[1:]), 1):
        for block in range(1, last + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            prefix = f"stage{stage}_block{block}"
            y = normalized(x, f"{prefix}_1")
            if strides > 1 or x.shape[-1] != width:
                x = convolution(y, width, 1, strides, f"{prefix}_shortcut")
            y = path(y, width, strides, prefix)
            end = f"stage{stage}" if block == last else f"{prefix}_add"
            x = layers.Add(name=end)([x, y])
    x = normalized(x, "head")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return layers.Dense(classes, kernel_initializer="he_normal", name="logits")(
        x
    )


def normalized(x, prefix):
    x = layers.BatchNormalization(name=f"{prefix}_bn")(x)
    return layers.ReLU(name=f"{prefix}_relu")(x)


def convolution(x, filters, size, strides, name):
    return layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


# The path of a unit beside the shortcut, after its first normalization.


def basic(x, filters, strides, prefix, dropout=0.0):
    x = convolution(x, filters, 3, strides, f"{prefix}_1_conv")
    x = normalized(x, f"{prefix}_2")
    if dropout > 0:
        x = layers.Dropout(dropout, name=f"{prefix}_dropout")(x)
    return convolution(x, filters, 3, 1, f"{prefix}_2_conv")


def bottleneck(x, filters, strides, prefix):
    x = convolution(x, filters // 4, 1, strides, f"{prefix}_1_conv")
    x = normalized(x, f"{prefix}_2")
    x = convolution(x, filters // 4, 3, 1, f"{prefix}_2_conv")
    x = normalized(x, f"{prefix}_3")
    return convolution(x, filters, 1, 1, f"{prefix}_3_conv")
