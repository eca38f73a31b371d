"""The vision transformer, as DeiT trains it."""

import keras
from keras import layers

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill.models.arguments import image_input
from keras_distill.models.tokens import ClassToken
from keras_distill.models.tokens import FirstToken


def vision_transformer(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    patch_size: int = 16,
    width: int = 192,
    depth: int = 12,
    heads: int = 3,
    dropout: float = 0.0,
    name: str | None = None,
) -> keras.Model:
    """Builds a vision transformer of Dosovitskiy et al. 2021.

    Patches become tokens, a learned class token comes before them, learned
    positions are added, and pre-normalized blocks of self-attention and a
    two-layer perceptron (4 times as wide, GELU) follow. The class token gives
    the logits. The defaults are DeiT-Ti, with 5,717,416 weights; width 384 and
    6 heads make DeiT-S, width 768 and 12 heads DeiT-B.

    `kd.models.with_distillation_token` adds the token of DeiT.

    The layers are `"stem_conv"` (patches), `"tokens"` (with positions),
    `"block1_attention"` and `"block1"`, ..., `"encoded"` (all tokens, after
    the last normalization), `"class_token"` (the first of them) and `"logits"`.

    Args:
        input_shape: (height, width, channels). Defaults to (224, 224, 3).
        classes: Number of logits. Defaults to 1000.
        patch_size: Height and width of a patch, which divide those of the
            image. Defaults to 16.
        width: Size of a token, a multiple of `heads`. Defaults to 192.
        depth: Number of blocks. Defaults to 12.
        heads: Number of attention heads. Defaults to 3.
        dropout: Share of units dropped behind each attention and perceptron.
            Defaults to 0, as in DeiT.
        name: Defaults to `"vision_transformer"`.

    Returns:
        A `keras.Model`: images to logits `(batch, classes)`.

    Raises:
        ValueError: for numbers out of range, an image that is not made of
            patches, or a width that the heads do not divide.

    Example:

    ```python
    model = kd.models.vision_transformer(
        (8, 8, 1), classes=10, patch_size=2, width=32, depth=2, heads=2
    )
    ```

    Reference:
        Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; Touvron
        et al., "Training data-efficient image transformers & distillation
        through attention" (DeiT), ICML 2021, table 1.
    """
    image = image_input(input_shape, classes)
    checked_integer("patch_size", patch_size)
    checked_integer("width", width)
    checked_integer("depth", depth)
    checked_integer("heads", heads)
    dropout = checked_number("dropout", dropout, "[0, 1)")
    sides = image.shape[1:3]
    if None in sides or any(side % patch_size for side in sides):
        raise ValueError(
            "Learned positions need an image of fixed size, made of patches: "
            f"patch_size={patch_size} must divide its height and width. "
            f"Received: input_shape={tuple(input_shape)}"
        )
    if width % heads:
        raise ValueError(
            f"width must be a multiple of heads. Received: width={width}, "
            f"heads={heads}"
        )
    x = layers.Conv2D(width, patch_size, patch_size, name="stem_conv")(image)
    x = layers.Reshape((-1, width), name="patches")(x)
    x = ClassToken(name="tokens")(x)
    for number in range(1, depth + 1):
        x = _block(x, heads, dropout, f"block{number}")
    x = layers.LayerNormalization(epsilon=1e-6, name="encoded")(x)
    x = FirstToken(name="class_token")(x)
    logits = layers.Dense(classes, name="logits")(x)
    return keras.Model(image, logits, name=name or "vision_transformer")


def _block(x, heads, dropout, name):
    width = x.shape[-1]
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    y = layers.MultiHeadAttention(
        heads, width // heads, name=f"{name}_attention"
    )(y, y)
    y = layers.Dropout(dropout, name=f"{name}_dropout1")(y)
    x = layers.Add(name=f"{name}_add")([x, y])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    y = layers.Dense(4 * width, activation="gelu", name=f"{name}_dense1")(y)
    y = layers.Dense(width, name=f"{name}_dense2")(y)
    y = layers.Dropout(dropout, name=f"{name}_dropout2")(y)
    return layers.Add(name=name)([x, y])
