"""A student for microcontrollers: three convolutions."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_distill._arguments import checked_integers
from keras_distill.models.arguments import image_input


def small_cnn(
    filters: Sequence[int] = (32, 64, 64),
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    name: str = "small_cnn",
) -> keras.Model:
    """Three 3x3 convolutions, for students on embedded devices.

    Convolution, batch normalization and ReLU, three times, with 2x2 maximum
    pooling between them; then the mean of each map and the logits. A TFLite
    file fuses normalization and ReLU into the convolutions. The stages end in
    the layers `"stage1"`, `"stage2"` and `"stage3"`, before the pooling.

    Args:
        filters: Filters of the three convolutions. Defaults to (32, 64, 64),
            57 thousand trainable weights with 10 classes.
        input_shape: (height, width, channels). Defaults to CIFAR's.
        classes: Number of logits. Defaults to 10.
        name: Name of the model. Defaults to `"small_cnn"`.

    Returns:
        A `keras.Model`: images to logits `(batch, classes)`.

    Raises:
        ValueError: unless there are three positive filters.

    Example:

    ```python
    student = kd.models.small_cnn((8, 16, 16), input_shape=(28, 28, 1))
    ```

    Reference:
        No paper. The convolutions, filters and poolings of TensorFlow's
        tutorial "Convolutional Neural Network (CNN)", here padded and
        normalized, and with the mean of each map where the tutorial flattens
        the last one and adds a dense layer of 64.
    """
    filters = checked_integers(
        "filters",
        filters,
        length=3,
        hint="one for each of the three convolutions",
    )
    x = image = image_input(input_shape, classes)
    for stage, width in enumerate(filters, 1):
        prefix = "stem" if stage == 1 else f"stage{stage}"
        x = layers.Conv2D(
            width,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"{prefix}_conv",
        )(x)
        x = layers.BatchNormalization(name=f"{prefix}_bn")(x)
        x = layers.ReLU(name=f"stage{stage}")(x)
        if stage < 3:
            x = layers.MaxPooling2D(
                2, padding="same", name=f"stage{stage}_pool"
            )(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.Dense(
        classes, kernel_initializer="he_normal", name="logits"
    )(x)
    return keras.Model(image, logits, name=name)
