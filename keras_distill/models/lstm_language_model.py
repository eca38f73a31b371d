"""The LSTM language model of the born-again paper."""

import keras
from keras import layers as keras_layers

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill.models.recurrent import lstm_layers
from keras_distill.models.recurrent import stream_input
from keras_distill.models.recurrent import uniform
from keras_distill.models.tied_embedding import TiedEmbedding


def lstm_language_model(
    vocabulary: int = 10_000,
    units: int = 1500,
    layers: int = 2,
    dropout: float = 0.65,
    tied: bool = True,
    stateful: bool = True,
    batch_size: int | None = None,
    steps: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds the word-level LSTM of Zaremba et al. 2014.

    An embedding, a stack of LSTMs, and the logits of the next word at each
    step, with dropout between all of them whose masks are new at every step.
    The defaults are the 52 million weights of the born-again paper: 51,022,000
    with a tied embedding, 66,022,000 without.

    The layers are `"embedding"`, `"lstm1"`, `"lstm2"`, ..., and `"logits"`. A
    tied embedding runs twice in a pass: its tap is `"embedding#0"`. Weights
    are drawn from U(-r, r) with r = sqrt(2 / units): 0.037 at 1500 units and
    0.1 at 200, where the paper takes 0.04 and 0.1. The forget gates begin with
    bias 1, as everywhere in Keras.

    Args:
        vocabulary: Number of words. Defaults to 10,000, those of PTB.
        units: Size of the embedding and of each LSTM. Defaults to 1500, the
            paper's large network; the medium one has 650, the small one 200.
        layers: Number of LSTMs. Defaults to 2.
        dropout: Share of units dropped behind the embedding and each LSTM.
            Defaults to 0.65, the large network's; 0.5 for the medium one, 0
            for the small one.
        tied: Whether the embedding also gives the logits. Defaults to `True`.
        stateful: Whether each batch goes on where the last one ended, in
            `batch_size` parallel streams (`kd.datasets.language_model`). The
            states are no weights: both kinds exchange `get_weights()`.
            Defaults to `True`.
        batch_size: Number of streams. Required if `stateful`. Defaults to
            `None`, any.
        steps: Number of words of each stream in a batch. Defaults to `None`,
            any. For a TFLite file give it: loops have a fixed length there.
        name: Defaults to `"lstm_language_model"`.

    Returns:
        A `keras.Model`: integers `(batch, steps)` in [0, vocabulary) to logits
        `(batch, steps, vocabulary)`.

    Raises:
        ValueError: for numbers out of range, or a stateful network without
            `batch_size`.

    Example:

    ```python
    student = kd.models.lstm_language_model(
        1000, units=64, dropout=0.2, batch_size=8, steps=20
    )
    student(np.zeros((8, 20), "int32"))  # (8, 20, 1000)
    ```

    Reference:
        Zaremba, Sutskever and Vinyals, "Recurrent Neural Network
        Regularization", 2014; Furlanello et al., "Born-Again Neural Networks",
        ICML 2018, table 6.
    """
    checked_integer("vocabulary", vocabulary)
    checked_integer("units", units)
    checked_integer("layers", layers)
    dropout = checked_number("dropout", dropout, "[0, 1)")
    checked_boolean("tied", tied)
    words = stream_input(stateful, batch_size, steps, name="words")
    kind = TiedEmbedding if tied else keras_layers.Embedding
    embedding = kind(
        vocabulary,
        units,
        embeddings_initializer=uniform(units),
        name="embedding",
    )
    x = embedding(words)
    x = keras_layers.Dropout(dropout, name="embedding_dropout")(x)
    x = lstm_layers(x, units, layers, dropout, stateful)
    if tied:
        x = embedding(x, reverse=True)
        logits = keras_layers.Activation("linear", name="logits")(x)
    else:
        logits = keras_layers.Dense(
            vocabulary, kernel_initializer=uniform(units), name="logits"
        )(x)
    return keras.Model(words, logits, name=name or "lstm_language_model")
