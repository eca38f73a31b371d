"""Real text that a Debian machine has: no download."""

import os
import pathlib
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from typing import NamedTuple

from keras_distill._arguments import one_of

_FORTUNES = pathlib.Path("/usr/share/games/fortunes")
_WORD = re.compile(r"[^\W\d]+|\d+(?:[.,]\d+)*|[^\w\s]")
# Of 20 documents in turn, these go to validation and test.
_DOCUMENTS, _OF_VALIDATION, _OF_TEST = 20, 9, 19


class Text(NamedTuple):
    """Texts in the layout of the Penn Treebank: a sentence on each line, words
    and punctuation marks between spaces."""

    training: str
    validation: str
    test: str


def read_text(name: str) -> Text:
    """Reads a text that this machine has, in training, validation and test.

    Of 20 documents in turn, 18 are for training, one for validation and one
    for test. A document is whole in one of them.

    | name | text | words | document | line |
    |---|---|---|---|---|
    | `"bible"` | King James Version of 1611 | 0.9 million | chapter | verse |
    | `"python"` | Python's standard library | 3 million | file | line |
    | `"fortunes"` | jokes and quotations | 0.5 million | joke | joke |

    `"bible"` needs Debian's packages `bible-kjv` and `bible-kjv-text` (the
    text is out of copyright, the program is GPL-2), and `"fortunes"` needs
    `fortunes` (BSD). Prose is in lower case, and `N` stands for a number, as in
    the Penn Treebank. Python's lines keep their case and lose their
    indentation.

    Args:
        name: `"bible"`, `"python"` or `"fortunes"`.

    Returns:
        A `Text`: `training`, `validation` and `test`, strings.

    Raises:
        FileNotFoundError: If the package is not installed; the message holds
            the `apt-get` line.

    Example:

    ```python
    text = kd.datasets.read_text("python")
    data = kd.datasets.language_model(
        text.training, text.validation, text.test, vocabulary=10_000
    )
    ```
    """
    documents = _READERS[one_of("name", name, tuple(_READERS))]()
    parts: tuple = [], [], []
    for number, document in enumerate(documents):
        place = number % _DOCUMENTS
        part = 1 if place == _OF_VALIDATION else 2 * (place == _OF_TEST)
        parts[part].append(document)
    return Text(*("\n".join(part) + "\n" for part in parts))


def _bible() -> Iterable[str]:
    program = shutil.which("bible")
    if program is None or not os.path.exists("/usr/lib/bible.data"):
        raise _missing("bible", "bible-kjv bible-kjv-text")
    verses = subprocess.run(
        [program, "-f", "-p", "/usr/lib", "gen1:1-rev22:21"],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    ).stdout
    chapters: dict = {}
    for verse in verses.splitlines():
        place, _, sentence = verse.partition(" ")
        chapter = place.partition(":")[0]
        chapters.setdefault(chapter, []).append(_prose(sentence))
    return map("\n".join, chapters.values())


def _python() -> Iterable[str]:
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    for file in sorted(library.rglob("*.py")):
        parts = file.relative_to(library).parts
        if {"site-packages", "dist-packages", "test"} & set(parts):
            continue
        source = file.read_text("utf-8", errors="replace")
        lines = [" ".join(_WORD.findall(line)) for line in source.split("\n")]
        yield "\n".join(filter(None, lines))


def _fortunes() -> Iterable[str]:
    files = sorted(_FORTUNES.glob("*"))
    files = [f for f in files if f.is_file() and not f.suffix]
    if not files:
        raise _missing("fortunes", "fortunes")
    for file in files:
        text = file.read_text("utf-8", errors="replace")
        yield from filter(None, map(_prose, text.split("\n%\n")))


_READERS = {"bible": _bible, "python": _python, "fortunes": _fortunes}


def _prose(sentence):
    words = _WORD.findall(sentence.lower())
    return " ".join("N" if word[0].isdigit() else word for word in words)


def _missing(name, packages):
    return FileNotFoundError(
        f"The text '{name}' is not on this machine. Install it with: apt-get "
        f'install {packages}; or use "python", which is always there.'
    )
