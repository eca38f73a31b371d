"""The block that the transformers of `kd.models` are made of."""

import keras
from keras import layers

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number


def checked_sizes(vocabulary, length, width, depth, heads, hidden, dropout):
    """Checks the arguments that both transformers have.

    Returns:
        `hidden`, 4 `width` if it was not given.
    """
    checked_integer("vocabulary", vocabulary, 2)
    checked_integer("length", length)
    checked_integer("depth", depth)
    checked_integer("width", width)
    checked_integer("heads", heads)
    checked_number("dropout", dropout, "[0, 1)")
    if width % heads:
        raise ValueError(
            "width must be a multiple of heads: each head gets an equal part. "
            f"Received: width={width}, heads={heads}"
        )
    return checked_integer("hidden", hidden, or_none=True) or 4 * width


@keras.saving.register_keras_serializable(package="keras_distill")
class TransformerBlock(keras.Model):
    """A model that passes masks on, and says so: Keras's own do it too, but
    warn that they do not."""

    def compute_mask(self, inputs, mask=None):
        return mask


def transformer_block(
    name, length, width, heads, hidden, dropout, causal=False
):
    """Self-attention and two dense layers, each normalized before and added.

    Args:
        name: Name of the block; the taps of its layers begin with it.
        length: Number of tokens.
        width: Size of a token's vector.
        heads: Number of attention heads.
        hidden: Units between the two dense layers.
        dropout: Share of the vectors' elements that training drops.
        causal: Whether a token sees itself and the tokens before it only.

    Returns:
        A `TransformerBlock`: `(batch, length, width)` to the same shape. A
        mask of the input is respected and passed on.
    """
    block = keras.Input((length, width), name="input")
    x = layers.LayerNormalization(epsilon=1e-6, name="attention_norm")(block)
    x = layers.MultiHeadAttention(heads, width // heads, name="attention")(
        x, x, use_causal_mask=causal
    )
    x = layers.Dropout(dropout, name="attention_dropout")(x)
    attended = layers.Add(name="attention_add")([block, x])
    x = layers.LayerNormalization(epsilon=1e-6, name="dense_norm")(attended)
    x = layers.Dense(hidden, "gelu", name="dense_hidden")(x)
    x = layers.Dense(width, name="dense_output")(x)
    x = layers.Dropout(dropout, name="dense_dropout")(x)
    x = layers.Add(name="dense_add")([attended, x])
    return TransformerBlock(block, x, name=name)
