"""The networks that several examples train, and their accuracy."""

import keras
import numpy as np

layers = keras.layers


def conv(x, filters, size, strides, name, depthwise=False):
    """A convolution and its batch normalization, `<name>_bn`."""
    options = {"padding": "same", "use_bias": False, "name": f"{name}_conv"}
    if depthwise:
        x = layers.DepthwiseConv2D(size, strides, **options)(x)
    else:
        x = layers.Conv2D(filters, size, strides, **options)(x)
    return layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)


def network(block, widths, shape=(28, 28, 1), classes=10, name=None):
    """A stem at half the resolution, blocks `block1`, ..., and a head.

    Args:
        block: `residual_block` or `separable_block`.
        widths: `(filters, strides)` of each block.
        shape: (height, width, channels).
        classes: Number of logits.
        name: Name of the model.
    """
    image = keras.Input(shape, name="image")
    x = layers.ReLU(name="stem")(conv(image, 12, 3, 2, "stem"))
    for number, (filters, strides) in enumerate(widths, 1):
        x = block(x, filters, strides, f"block{number}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(classes, name="head")(x), name=name)


def residual_block(x, filters, strides, name):
    y = layers.ReLU(name=f"{name}_a")(conv(x, filters, 3, strides, f"{name}_a"))
    y = conv(y, filters, 3, 1, f"{name}_b")
    x = conv(x, filters, 1, strides, f"{name}_short")
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=name)(x)


def separable_block(x, filters, strides, name):
    x = conv(x, None, 3, strides, f"{name}_depthwise", depthwise=True)
    x = layers.ReLU(name=f"{name}_depthwise")(x)
    return layers.ReLU(name=name)(conv(x, filters, 1, 1, name))


def plain_teacher():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(96, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.3),
            layers.Dense(10),
        ],
        name="teacher",
    )


def plain_student(width):
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(width, 3, 2, padding="same", activation="relu"),
            layers.Conv2D(2 * width, 3, 2, padding="same", activation="relu"),
            layers.Conv2D(2 * width, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ],
        name="student",
    )


def halved(images):
    """Fashion-MNIST at 14 x 14 pixels, each the mean of four; images of fewer
    than 28 pixels as they are."""
    size = images.shape[1]
    if size < 28:
        return images
    return images.reshape(-1, size // 2, 2, size // 2, 2, 1).mean((2, 4))


def accuracy(model, x, y):
    """The share of samples that a network of logits is right on."""
    logits = model.predict(x, batch_size=500, verbose=0)
    return float(np.mean(logits.argmax(-1) == y))
