"""Text as streams of words for language models."""

import collections
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_strings
from keras_distill.datasets import texts
from keras_distill.datasets.pipelines import with_fast_epoch_end

_NAMES = "bible", "python", "fortunes"
UNKNOWN, END = "<unk>", "<eos>"
_PADDING, _START_OF_WORD, _END_OF_WORD = "<pad>", "<w>", "</w>"
_MARKS = [_PADDING, _START_OF_WORD, _END_OF_WORD, UNKNOWN, END]


class LanguageModelData(NamedTuple):
    """What `language_model` returns; `None` for what was not given."""

    train: tf.data.Dataset
    validation: tf.data.Dataset | None
    test: tf.data.Dataset | None
    vocabulary: list[str]
    characters: list[str] | None


def language_model(
    training: str | os.PathLike,
    validation: str | os.PathLike | None = None,
    test: str | os.PathLike | None = None,
    *,
    batch_size: int = 32,
    steps: int = 35,
    vocabulary: int | Sequence[str] | None = None,
    characters: int | None = None,
) -> LanguageModelData:
    """Makes streams of words, each with the next word as its label.

    The layout is that of the Penn Treebank's files: one sentence on each line,
    words between spaces, `<unk>` for a word out of the vocabulary. The end of a
    line becomes the word `<eos>`, and empty lines are left out.

    The words of a text are cut into `batch_size` streams of equal length, and
    these into pieces of `steps` words. Row b of each batch goes on where row b
    of the batch before ended, as a network with `stateful=True` layers needs:

        x[k][b, t] = words[b * length + k * steps + t],   y[k] is one word later

    Nothing is shuffled, and every batch is full: up to `steps` words at the end
    of each stream, and up to `batch_size - 1` at the end of the text, are left
    out.

    Args:
        training: A text, in one of four ways: the path of a file; the path of
            a folder with one file each for training (`*train*`), validation
            (`*valid*`) and test (`*test*`), as `ptb.train.txt`; `"bible"`,
            `"python"` or `"fortunes"`, see `kd.datasets.read_text`; or the text
            itself, a string with a line break.
        validation: A path or a text. Defaults to `None`: that of the folder or
            the name, or none.
        test: The same for the test.
        batch_size: The number of streams. A stateful network is made for this
            batch size. Defaults to 32 (Furlanello 2018).
        steps: The words in each piece of a stream, through which gradients
            flow. Defaults to 35 (Zaremba 2014).
        vocabulary: The largest number of words, with `<unk>` and `<eos>`: the
            most frequent ones of the training text, and `<unk>` for all
            others. Or the words themselves, such as the `vocabulary` that the
            teacher was trained with: student and teacher must share it.
            Defaults to `None`: all words of the training text.
        characters: The number of characters of a word: x is characters in
            place of words then, for Kim's network. It counts the marks of the
            word's beginning and end; longer words are cut. Defaults to `None`:
            words.

    Returns:
        A `LanguageModelData`:

        - `train`, `validation`, `test`: each a `tf.data.Dataset` of (x, y).
          y is int32 `(batch_size, steps)`, the words' places in `vocabulary`.
          x is the same one word earlier; with `characters`, int32
          `(batch_size, steps, characters)`, their places in `characters`.
        - `vocabulary`: a list of words, the most frequent one first.
        - `characters`: a list of characters, or `None`. The first ones are
          `<pad>` (0, after the end of a word), `<w>` and `</w>` (beginning and
          end of a word), `<unk>` (a character that training does not have,
          and the word `<unk>`) and `<eos>` (the word). Words out of the
          vocabulary are spelled, as Kim does.

    Raises:
        FileNotFoundError: If a file, or a package of Debian, is not there.
        ValueError: If a text is too short for one batch, or arguments do not
            fit.

    Example:

    ```python
    text = "the cat sat on the mat\\nthe mat sat\\n" * 3
    data = kd.datasets.language_model(text, batch_size=2, steps=5)
    print(data.vocabulary)  # ['the', '<eos>', 'mat', 'sat', 'cat', 'on', ...]
    for x, y in data.train:
        print(" ".join(data.vocabulary[i] for i in x[0]))
    # the cat sat on the
    # mat <eos> the mat sat
    ```

    Reference:
        Zaremba, Sutskever and Vinyals, "Recurrent Neural Network
        Regularization", 2014, arXiv:1409.2329; Kim et al., "Character-Aware
        Neural Language Models", 2016 (AAAI), arXiv:1508.06615.
    """
    checked_integer("batch_size", batch_size)
    checked_integer("steps", steps)
    checked_integer(
        "characters",
        characters,
        least=3,
        or_none=True,
        hint="a word's beginning, its end and at least one between them",
    )
    given = _texts(training, validation, test)
    words = {key: _words(text) for key, text in given.items()}
    kept = _vocabulary(vocabulary, words["training"])
    places = {word: place for place, word in enumerate(kept)}
    # Words out of the vocabulary have places after it, to be spelled.
    for part in words.values():
        for word in dict.fromkeys(part):
            places.setdefault(word, len(places))
    alphabet = table = None
    if characters is not None:
        alphabet = _alphabet(set(words["training"]).union(kept))
        table = _spelled(places, alphabet, characters)
    train, held_out, last = (
        _streams(
            key,
            np.array([places[word] for word in words[key]], "int32"),
            (batch_size, steps),
            (len(kept), places[UNKNOWN]),
            table,
        )
        if key in words
        else None
        for key in ("training", "validation", "test")
    )
    return LanguageModelData(train, held_out, last, kept, alphabet)


def _texts(training, validation, test):
    """Returns a dict of the texts that are there."""
    given = {"training": training, "validation": validation, "test": test}
    named = training in _NAMES
    is_path = _is_path(training) and not named
    if named or (is_path and os.path.isdir(as_path("training", training))):
        if validation is not None or test is not None:
            raise ValueError(
                f"training={training!r} has its own validation and test: leave "
                f"both out. Received: validation={validation!r}, test={test!r}"
            )
        if named:
            return texts.read_text(training)._asdict()
        given = _of_folder(pathlib.Path(training))
    return {
        key: _read(key, text)
        for key, text in given.items()
        if text is not None or key == "training"
    }


def _is_path(text):
    return not isinstance(text, str) or "\n" not in text


def _read(argument, text):
    if not _is_path(text):
        return text
    path = as_path(argument, text)
    if not os.path.isfile(path):  # False also for what no path can be
        raise FileNotFoundError(
            f"{argument} must be the path of a file, or a text with line "
            'breaks (training also a folder, "bible", "python" or "fortunes"). '
            f"There is no file '{str(path)[:80]}'."
        )
    return path.read_text("utf-8")


def _of_folder(folder):
    """Finds the files of a folder."""
    patterns = {"training": "train", "validation": "valid", "test": "test"}
    found = {}
    for key, pattern in patterns.items():
        files = sorted(f for f in folder.glob(f"*{pattern}*") if f.is_file())
        if len(files) > 1 or (not files and key == "training"):
            raise ValueError(
                f"The folder '{folder}' (training) must have one file "
                f"*{pattern}*, as ptb.{pattern}.txt. It has "
                f"{[f.name for f in files] or 'none'}. Give the paths of the "
                "files: training=..., validation=..., test=..."
            )
        found[key] = files[0] if files else None
    return found


def _words(text):
    """Returns the words of a text, `<eos>` at the end of each line."""
    words = []
    for line in text.split("\n"):
        sentence = line.split()
        if sentence:
            words += sentence
            words.append(END)
    return words


def _vocabulary(vocabulary, words):
    if vocabulary is None or not isinstance(vocabulary, (list, tuple)):
        most = checked_integer(
            "vocabulary",
            vocabulary,
            least=3,
            or_none=True,
            hint="the largest number of words, or a list of them",
        )
        counts = collections.Counter(words)
        counts.setdefault(UNKNOWN, 0)
        counts.setdefault(END, 0)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        if most is None or most >= len(ranked):
            return ranked
        others = [word for word in ranked if word not in (UNKNOWN, END)]
        kept = {UNKNOWN, END, *others[: most - 2]}
        return [word for word in ranked if word in kept]
    given = checked_strings("vocabulary", vocabulary)
    if not {UNKNOWN, END} <= set(given) or len(set(given)) < len(given):
        raise ValueError(
            f"vocabulary must be different words, '{UNKNOWN}' and '{END}' "
            "among them, such as the `vocabulary` of the teacher's data. "
            f"Received: {len(given)} words, {len(set(given))} different ones, "
            f"{given[:5]}..."
        )
    return given


def _alphabet(words):
    """Returns the marks, and then the characters of words, in order."""
    spelled = (word for word in words if word not in (UNKNOWN, END))
    return _MARKS + sorted(set().union(*spelled))


def _spelled(words, alphabet, length):
    """Returns the characters of each word, int32 `(words, length)`."""
    places = {character: place for place, character in enumerate(alphabet)}
    unknown = places[UNKNOWN]
    table = np.zeros((len(words), length), "int32")
    for row, word in enumerate(words):
        inner = [word] if word in (UNKNOWN, END) else word[: length - 2]
        ids = [places.get(character, unknown) for character in inner]
        ids = [places[_START_OF_WORD], *ids, places[_END_OF_WORD]]
        table[row, : len(ids)] = ids
    return table


def _streams(argument, words, size, known, table):
    """Cuts a text into streams.

    Args:
        argument: The name of the text, for messages.
        words: int32 `(words,)`, those out of the vocabulary at its end.
        size: The number of streams, and the words in each piece of them.
        known: The size of the vocabulary, and the place of `<unk>` in it.
        table: The characters of each word, or `None`.
    """
    batch_size, steps = size
    length = len(words) // batch_size
    pieces = (length - 1) // steps
    if pieces < 1:
        raise ValueError(
            f"{argument} has {len(words)} words, and {batch_size} streams of "
            f"{steps} words need {batch_size * (steps + 1)}. Give more text, "
            "or a smaller batch_size or steps."
        )
    words = words[: batch_size * length].reshape(batch_size, length)
    labels = np.where(words < known[0], words, known[1]).astype("int32")
    with tf.device("CPU"):  # where tf.data reads; no GPU memory for it
        inputs = tf.constant(labels if table is None else words)
        labels = tf.constant(labels)
        table = None if table is None else tf.constant(table)

    def piece(number):
        start = number * steps
        x = inputs[:, start : start + steps]
        y = labels[:, start + 1 : start + 1 + steps]
        x, y = (tf.ensure_shape(a, (batch_size, steps)) for a in (x, y))
        return (x if table is None else tf.gather(table, x)), y

    dataset = tf.data.Dataset.range(pieces).map(piece)
    return with_fast_epoch_end(dataset.prefetch(2))
