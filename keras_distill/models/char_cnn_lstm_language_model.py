"""The character-aware language model of the born-again paper."""

from collections.abc import Sequence

import keras
from keras import layers as keras_layers
from keras import ops

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_integers
from keras_distill._arguments import checked_number
from keras_distill.models.recurrent import lstm_layers
from keras_distill.models.recurrent import stream_input
from keras_distill.models.recurrent import uniform


def char_cnn_lstm_language_model(
    vocabulary: int = 10_000,
    characters: int = 51,
    units: int = 650,
    layers: int = 2,
    dropout: float = 0.5,
    character_units: int = 15,
    widths: Sequence[int] = (1, 2, 3, 4, 5, 6, 7),
    filters: Sequence[int] | None = None,
    highways: int = 2,
    stateful: bool = True,
    batch_size: int | None = None,
    steps: int | None = None,
    word_length: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds the character-aware LSTM of Kim et al. 2016.

    It reads the characters of each word and predicts the next word:
    convolutions of several widths over the characters, tanh and their maximum
    over the word, highway layers, and a stack of LSTMs. Dropout, with new
    masks at every step, is behind each LSTM and not before the first. The
    defaults are the paper's large network with 19,367,965 weights, the 19
    million of the born-again paper.

    The layers are `"embedding"` (of characters), `"word"` (after the maximum),
    `"highway1"`, ..., `"lstm1"`, ..., and `"logits"`. Embedding, LSTMs and
    logits are initialized as in `lstm_language_model`, the gates of the
    highways with bias -2, so that they carry at first, and all else as Keras
    does.

    Args:
        vocabulary: Number of words to predict. Defaults to 10,000, PTB's.
        characters: Number of characters, with padding, which is 0. Defaults to
            51, those of PTB.
        units: Size of each LSTM. Defaults to 650; 300 in the small network.
        layers: Number of LSTMs. Defaults to 2.
        dropout: Share of units dropped behind each LSTM. Defaults to 0.5.
        character_units: Size of a character's embedding. Defaults to 15.
        widths: Widths of the convolutions, in characters. Defaults to 1 to 7;
            1 to 6 in the small network.
        filters: Filters of each width. Defaults to 50 per character, at most
            200; 25 per character in the small network.
        highways: Number of highway layers. Defaults to 2; 1 in the small
            network.
        stateful: As in `lstm_language_model`. Defaults to `True`.
        batch_size: As in `lstm_language_model`.
        steps: As in `lstm_language_model`.
        word_length: Characters of a word, with padding. At least the largest
            width. Defaults to `None`, any.
        name: Defaults to `"char_cnn_lstm_language_model"`.

    Returns:
        A `keras.Model`: integers `(batch, steps, word_length)` in [0,
        characters) to logits `(batch, steps, vocabulary)`.

    Raises:
        ValueError: for numbers out of range, words shorter than a convolution
            is wide, or a stateful network without `batch_size`.

    Example:

    ```python
    student = kd.models.char_cnn_lstm_language_model(
        1000,
        characters=30,
        units=64,
        widths=(1, 2, 3),
        filters=(8, 16, 24),
        highways=1,
        batch_size=8,
        steps=20,
        word_length=12,
    )
    student(np.zeros((8, 20, 12), "int32"))  # (8, 20, 1000)
    ```

    Reference:
        Kim, Jernite, Sontag and Rush, "Character-Aware Neural Language
        Models", AAAI 2016, table 2; Furlanello et al., "Born-Again Neural
        Networks", ICML 2018, table 6.
    """
    checked_integer("vocabulary", vocabulary)
    checked_integer("characters", characters)
    checked_integer("units", units)
    checked_integer("layers", layers)
    dropout = checked_number("dropout", dropout, "[0, 1)")
    checked_integer("character_units", character_units)
    widths = checked_integers("widths", widths)
    if filters is None:
        filters = [min(200, 50 * width) for width in widths]
    filters = checked_integers(
        "filters", filters, length=len(widths), hint="one for each width"
    )
    checked_integer("highways", highways, 0)
    checked_integer(
        "word_length",
        word_length,
        max(widths),
        or_none=True,
        hint="no convolution may be wider than a word",
    )
    ids = stream_input(
        stateful, batch_size, steps, word_length, name="characters"
    )
    x = keras_layers.Embedding(
        characters,
        character_units,
        embeddings_initializer=uniform(character_units),
        name="embedding",
    )(ids)
    # The vector of the padding is 0.
    x = x * ops.cast(ops.not_equal(ops.expand_dims(ids, -1), 0), x.dtype)
    x = _words(x, widths, filters)
    for number in range(1, highways + 1):
        x = _highway(x, f"highway{number}")
    x = lstm_layers(x, units, layers, dropout, stateful)
    logits = keras_layers.Dense(
        vocabulary, kernel_initializer=uniform(units), name="logits"
    )(x)
    return keras.Model(ids, logits, name=name or "char_cnn_lstm_language_model")


def _words(x, widths, filters):
    """`(batch, steps, word_length, units)` to `(batch, steps, filters)`."""
    maxima = []
    for number, (width, count) in enumerate(zip(widths, filters), 1):
        # Every word for itself: the kernel is one step high.
        y = keras_layers.Conv2D(count, (1, width), name=f"conv{number}")(x)
        maxima.append(ops.max(y, axis=2))
    x = maxima[0] if len(maxima) == 1 else ops.concatenate(maxima, axis=-1)
    # tanh is monotonic, so it may follow the maximum.
    return keras_layers.Activation("tanh", name="word")(x)


def _highway(x, name):
    gate = keras_layers.Dense(
        x.shape[-1],
        activation="sigmoid",
        bias_initializer=keras.initializers.Constant(-2.0),
        name=f"{name}_gate",
    )(x)
    y = keras_layers.Dense(
        x.shape[-1], activation="relu", name=f"{name}_transform"
    )(x)
    return keras_layers.Add(name=name)([gate * y, (1.0 - gate) * x])
