"""Short pieces of text in fifteen languages: Debian's translated manual pages.

    apt-get install manpages-{cs,da,de,es,fi,fr,hu,it,nb,nl,pl,pt-br,ro,sv,tr}

A page, such as ls.1, is for training, for choices or for the test, in all
languages.
"""

import collections
import functools
import gzip
import pathlib
import re
import sys
import zlib

import numpy as np

LANGUAGES = "cs da de es fi fr hu it nb nl pl pt-br ro sv tr".split()
PARTS = ("training", "choices", "test")
PACKAGES = [f"manpages-{language}" for language in LANGUAGES]
MOST_PAGES = 200
_LISTS = pathlib.Path("/var/lib/dpkg/info")
_PAGE = re.compile(r"/usr/share/man/[^/]+/man\d[^/]*/([^/]+)\.gz")
# What roff writes for fonts; for options, dashes and the like.
_FONT = re.compile(r"\\f(\[[^]]*\]|\(..|.)")
_ESCAPE = re.compile(r"\\-\S*|\\\(..|\\\[[^]]*\]|\\.")
# At least four words with nothing but commas between: no code, no options.
_WORDS = re.compile(r"(?:[^\W\d_]+,? ){4,}")
# Paragraphs that are not translated.
_ENGLISH = {"and", "from", "the", "this", "with", "you"}


@functools.cache
def read(language):
    """The passages of a language: a dict of lists, by part."""
    listed = _LISTS / f"manpages-{language}.list"
    if not listed.exists():
        sys.exit(f"Install the pages: apt-get install {' '.join(PACKAGES)}")
    pages = collections.defaultdict(list)
    found = map(_PAGE.fullmatch, listed.read_text().splitlines())
    found = [page for page in found if page]
    # Some languages have a thousand pages, others fifty.
    for page in found[:: -(-len(found) // MOST_PAGES)]:
        pages[page[1]] += _passages(pathlib.Path(page[0]))
    # What several pages say, such as who translated them, would be in both.
    counts = collections.Counter(
        p for each in pages.values() for p in set(each)
    )
    parts = {part: [] for part in PARTS}
    for name, passages in sorted(pages.items()):
        # A quarter for the test, an eighth for choices.
        part = {0: "test", 4: "test", 1: "choices"}.get(
            zlib.crc32(name.encode()) % 8, "training"
        )
        parts[part] += [p for p in passages if counts[p] == 1]
    return parts


def _passages(path):
    source = gzip.decompress(path.read_bytes()).decode("utf-8", "ignore")
    lines = source.splitlines()
    # A macro ends a passage.
    text = " ".join("." if x.startswith((".", "'")) else x for x in lines)
    text = _ESCAPE.sub(" . ", _FONT.sub("", text)).lower()
    passages = []
    for match in _WORDS.findall(text):
        words = match.split()
        # Most lists of single letters are no text.
        if len(match) > 4 * len(words) and not _ENGLISH & set(words):
            passages.append(match.strip(", "))
    return passages


def snippets(count, length, part, seed):
    """Pieces of passages, from the beginning of a word.

    Args:
        count: Number of pieces of each language.
        length: The number of characters of a piece, fewer at the end of a
            passage.
        part: One of `PARTS`.
        seed: Of the choice.

    Returns:
        A list of texts, and their languages' numbers, int32.
    """
    generator = np.random.default_rng(seed)
    texts, labels = [], []
    for number, language in enumerate(LANGUAGES):
        passages = read(language)[part]
        for chosen in generator.integers(len(passages), size=count):
            words = passages[chosen].split()
            start = generator.integers(len(words) - 2)
            texts.append(" ".join(words[start:])[:length])
            labels.append(number)
    order = generator.permutation(len(texts))
    return [texts[i] for i in order], np.array(labels, "int32")[order]
