"""A transformer that predicts the next token at every position."""

import keras
from keras import layers
from keras import ops

from keras_distill.models.transformer_block import checked_sizes
from keras_distill.models.transformer_block import transformer_block


def transformer_language_model(
    vocabulary: int,
    *,
    length: int = 128,
    width: int = 128,
    depth: int = 4,
    heads: int = 4,
    hidden: int | None = None,
    dropout: float = 0.1,
    name: str = "transformer_language_model",
) -> keras.Model:
    """A causal transformer: each token predicts the next one.

    A token attends to itself and the tokens before it. All ids are tokens, 0
    too: padding after a text changes none of its logits; give it the sample
    weight 0. The layers are normalized before the attention and before the
    dense layers, as in GPT-2.

    Taps: as in `kd.models.transformer_classifier`, without `"pool"`.

    Args:
        vocabulary: Number of token ids, and of logits.
        length: Number of tokens. Defaults to 128.
        width: Size of a token's vector. Defaults to 128.
        depth: Number of blocks. Defaults to 4.
        heads: Number of attention heads; a divisor of `width`. Defaults to 4.
        hidden: Units between the two dense layers of a block. Defaults to
            4 `width`.
        dropout: Share of elements that training drops: of the embeddings, the
            attention's output and the dense layers' output. Defaults to 0.1,
            GPT-2's.
        name: Name of the model. Defaults to `"transformer_language_model"`.

    Returns:
        A `keras.Model`: integer ids `(batch, length)` to logits
        `(batch, length, vocabulary)`.

    Raises:
        ValueError: If an argument is not of its kind, or `heads` does not
            divide `width`.

    Example:

    ```python
    student = kd.models.transformer_language_model(
        100, length=16, width=32, depth=2, heads=2
    )
    student(np.zeros((1, 16), "int32")).shape  # (1, 16, 100)
    ```

    Reference:
        Radford et al., "Language Models are Unsupervised Multitask Learners",
        2019; here with weights of their own for the logits.
    """
    hidden = checked_sizes(
        vocabulary, length, width, depth, heads, hidden, dropout
    )
    ids = keras.Input((length,), dtype="int32", name="ids")
    tokens = layers.Embedding(vocabulary, width, name="tokens")(ids)
    numbers = ops.cumsum(ops.ones_like(ids), axis=1) - 1
    positions = layers.Embedding(length, width, name="positions")(numbers)
    x = layers.Add(name="embeddings")([tokens, positions])
    x = layers.Dropout(dropout, name="embeddings_dropout")(x)
    for number in range(1, depth + 1):
        x = transformer_block(
            f"block{number}", length, width, heads, hidden, dropout, causal=True
        )(x)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    logits = layers.Dense(vocabulary, name="logits")(x)
    return keras.Model(ids, logits, name=name)
