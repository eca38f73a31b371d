"""A transformer that classifies a sequence of tokens."""

import keras
from keras import layers
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill.models.transformer_block import checked_sizes
from keras_distill.models.transformer_block import transformer_block


def transformer_classifier(
    vocabulary: int,
    classes: int,
    *,
    length: int = 128,
    width: int = 128,
    depth: int = 4,
    heads: int = 4,
    hidden: int | None = None,
    dropout: float = 0.1,
    name: str = "transformer_classifier",
) -> keras.Model:
    """A transformer encoder, the mean of its tokens, and the logits.

    Token 0 is padding, on either side: no token attends to it, and it is not
    in the mean. The layers are normalized before the attention and before the
    dense layers, which trains without a warm-up. A text that is all padding
    gives finite logits.

    Taps: `"embeddings"`; `"block1"`, `"block2"`, ..., the hidden states;
    `"block1/attention"`, and in it `"block1/attention/query"`, `".../key"`,
    `".../value"`, `".../scores"` and `".../probabilities"`; `"pool"`, the
    mean; `"logits"`.

    Args:
        vocabulary: Number of token ids, with the padding.
        classes: Number of logits.
        length: Number of tokens, with padding. Defaults to 128.
        width: Size of a token's vector. Defaults to 128.
        depth: Number of blocks. Defaults to 4.
        heads: Number of attention heads; a divisor of `width`. Defaults to 4.
        hidden: Units between the two dense layers of a block. Defaults to
            4 `width`.
        dropout: Share of elements that training drops: of the embeddings, the
            attention's output, the dense layers' output and the mean. Defaults
            to 0.1, BERT's.
        name: Name of the model. Defaults to `"transformer_classifier"`.

    Returns:
        A `keras.Model`: integer ids `(batch, length)` to logits
        `(batch, classes)`.

    Raises:
        ValueError: If an argument is not of its kind, or `heads` does not
            divide `width`.

    Example:

    ```python
    student = kd.models.transformer_classifier(
        1000, 5, length=16, width=32, depth=2, heads=2
    )
    ids = np.array([[5, 17, 3] + 13 * [0]])  # Three tokens and padding.
    student(ids).shape  # (1, 5)
    ```

    Reference:
        - Vaswani et al., "Attention Is All You Need", 2017.
        - Xiong et al., "On Layer Normalization in the Transformer
          Architecture", 2020: normalization before the layers.
    """
    hidden = checked_sizes(
        vocabulary, length, width, depth, heads, hidden, dropout
    )
    checked_integer("classes", classes)
    ids = keras.Input((length,), dtype="int32", name="ids")
    present = ops.not_equal(ids, 0)
    # Tokens count from 1, and padding is 0, which both tables mask.
    numbers = ops.cast(present, "int32")
    numbers = ops.cumsum(numbers, axis=1) * numbers
    tokens = layers.Embedding(vocabulary, width, mask_zero=True, name="tokens")(
        ids
    )
    positions = layers.Embedding(
        length + 1, width, mask_zero=True, name="positions"
    )(numbers)
    x = layers.Add(name="embeddings")([tokens, positions])
    x = layers.Dropout(dropout, name="embeddings_dropout")(x)
    for number in range(1, depth + 1):
        x = transformer_block(
            f"block{number}", length, width, heads, hidden, dropout
        )(x)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    # The mean of no token at all would be 0 / 0.
    empty = ops.logical_not(ops.any(present, axis=1, keepdims=True))
    x = layers.GlobalAveragePooling1D(name="pool")(
        x, mask=ops.logical_or(present, empty)
    )
    x = layers.Dropout(dropout, name="dropout")(x)
    logits = layers.Dense(classes, name="logits")(x)
    return keras.Model(ids, logits, name=name)
