"""Text as streams: layout, vocabulary, characters, messages."""

import shutil

import numpy as np
import pytest

from keras_distill import datasets
from keras_distill.datasets import language_model
from keras_distill.datasets import texts

TEXT = "the cat sat on the mat\n\nthe  mat sat\n" * 3


def arrays(dataset):
    """All x and all y of a dataset, pieces first."""
    pairs = [(x.numpy(), y.numpy()) for x, y in dataset]
    return tuple(map(np.stack, zip(*pairs)))


def test_streams_carry_on_and_labels_are_the_next_words():
    data = language_model(TEXT, TEXT[:60], batch_size=2, steps=5)
    order = ["the", "<eos>", "mat", "sat", "cat", "on", "<unk>"]
    assert data.vocabulary == order
    assert data.test is data.characters is None
    words = TEXT.replace("\n\n", "\n").replace("\n", " <eos> ").split()
    ids = np.array([order.index(word) for word in words])  # 33 words
    streams = ids[:32].reshape(2, 16)
    x, y = arrays(data.train)
    assert x.dtype == y.dtype == np.int32 and x.shape == (3, 2, 5)
    np.testing.assert_array_equal(np.concatenate(x, 1), streams[:, :15])
    np.testing.assert_array_equal(np.concatenate(y, 1), streams[:, 1:16])
    again, _ = arrays(data.train)  # The next epoch is the same.
    np.testing.assert_array_equal(x, again)
    assert data.train.element_spec[0].shape == (2, 5)
    assert int(data.train.cardinality()) == 3


def test_vocabulary_of_the_most_frequent_words():
    other = "the dog sat\n" * 4
    data = language_model(TEXT, other, batch_size=1, steps=3, vocabulary=4)
    assert data.vocabulary == ["the", "<eos>", "mat", "<unk>"]
    _, y = arrays(data.validation)
    assert y[0].tolist() == [[3, 3, 1]]  # dog and sat
    # The words of the teacher's data, in their order.
    given = ["<unk>", "<eos>", "sat"]
    again = language_model(TEXT, other, batch_size=1, steps=3, vocabulary=given)
    assert again.vocabulary == given
    assert arrays(again.validation)[1][0].tolist() == [[0, 2, 1]]


def test_characters():
    data = language_model(
        TEXT,
        "the dogs sat\n" * 2,
        batch_size=1,
        steps=4,
        vocabulary=5,
        characters=5,
    )
    marks = ["<pad>", "<w>", "</w>", "<unk>", "<eos>"]
    assert data.characters == [*marks, *"acehmnost"]
    x, y = arrays(data.validation)
    assert x.shape == (1, 1, 4, 5) and y.shape == (1, 1, 4)

    def read(row):
        return "".join(data.characters[i] for i in row if i)

    spelled = [read(row) for row in x[0, 0]]
    # Cut to 3 letters; letters and words that training does not have.
    expected = ["the", "<unk>o<unk>", "sat", "<eos>"]
    assert spelled == [f"<w>{word}</w>" for word in expected]
    assert data.vocabulary[y[0, 0, 0]] == "<unk>"


def test_folder_with_the_names_of_the_penn_treebank(tmp_path):
    for part in ("train", "valid", "test"):
        (tmp_path / f"ptb.{part}.txt").write_text(f" {part} N <unk> \n" * 9)
    with pytest.raises(FileNotFoundError, match="a text with line breaks"):
        language_model("a text in one line " * 100)
    data = language_model(tmp_path, batch_size=2, steps=3)
    assert data.vocabulary == ["<eos>", "<unk>", "N", "train"]
    one = language_model(
        tmp_path / "ptb.train.txt",
        str(tmp_path / "ptb.valid.txt"),
        batch_size=2,
        steps=3,
    )
    for part in ("train", "validation"):
        both = [arrays(getattr(d, part)) for d in (data, one)]
        np.testing.assert_array_equal(*both)
    assert data.test is not None and one.test is None
    (tmp_path / "train.old").write_text("a\n")
    with pytest.raises(ValueError, match=r"one file \*train\*"):
        language_model(tmp_path)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"training": "no file"}, FileNotFoundError, "There is no file"),
        ({"validation": "no file"}, FileNotFoundError, "validation must be"),
        ({"training": "bible", "test": TEXT}, ValueError, "leave both out"),
        ({"batch_size": 30}, ValueError, "training has 33 words, and 30"),
        ({"validation": "a\n"}, ValueError, "validation has 2 words"),
        ({"vocabulary": 2}, ValueError, "vocabulary must be an integer"),
        ({"vocabulary": ["a", "b"]}, ValueError, "'<unk>' and '<eos>'"),
        (
            {"vocabulary": ["<unk>", "<eos>", "a", "a"]},
            ValueError,
            "3 different ones",
        ),
        ({"characters": 2}, ValueError, "at least 3"),
    ],
)
def test_messages(arguments, error, message):
    arguments = {"training": TEXT, "batch_size": 2, "steps": 5} | arguments
    with pytest.raises(error, match=message):
        language_model(**arguments)


def test_text_that_is_not_installed_names_the_packages(monkeypatch, tmp_path):
    monkeypatch.setattr(texts.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="apt-get install bible-kjv"):
        datasets.read_text("bible")
    monkeypatch.setattr(texts, "_FORTUNES", tmp_path)
    with pytest.raises(FileNotFoundError, match="apt-get install fortunes"):
        datasets.read_text("fortunes")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bible"), reason="needs bible-kjv")
def test_bible():
    text = datasets.read_text("bible")
    assert text.training.startswith("in the beginning god created the heaven")
    chapters = [part.count("\n") for part in text]
    assert sum(chapters) == 31102  # verses
    assert not set(text.training.split("\n")) >= set(text.test.split("\n"))


@pytest.mark.slow
def test_sources_of_python():
    text = datasets.read_text("python")
    shares = np.array([len(part) for part in text])
    assert shares.argmax() == 0 and (shares[1:] > 100_000).all()
    assert "def __init__ ( self )" in text.training
