"""The samples that one reader of a cache needs, and the files they are in."""

from typing import NamedTuple

from keras_distill.teachers.cache import header as headers


class Part(NamedTuple):
    """
    Attributes:
        samples: A `range` of sample indices.
        shards: Entries of the header's `shards` that hold them, per epoch.
        start: Index of the first sample of the first of these.
        rows: How many samples these hold.
    """

    samples: range
    shards: list
    start: int
    rows: int

    def files(self, header):
        """All that is to be read, the inputs' checksums too."""
        own = [entry for epoch in self.shards for entry in epoch]
        others = headers.files(header)[len(header["shards"]) :]
        return own + others


def part_of(cache, samples=None):
    """The part of a cache that holds the samples; `None`: all of it."""
    if samples is None:
        samples = range(cache.samples)
    if (
        not isinstance(samples, range)
        or samples.step != 1
        or not 0 <= samples.start < samples.stop <= cache.samples
    ):
        raise ValueError(
            "samples is the range of sample indices that this pipeline can "
            f"have, within range({cache.samples}), such as range(0, "
            f"{(cache.samples + 1) // 2}). Received: {samples!r}"
        )
    shards, starts, ends = [], [], []
    for epoch in range(cache.epochs):
        chosen, end = [], 0
        for entry in cache.header["shards"]:
            if entry["epoch"] != epoch:
                continue
            start, end = end, end + entry["samples"]
            if start < samples.stop and end > samples.start:
                chosen.append(entry)
                starts.append(start)
                ends.append(end)
        shards.append(chosen)
    # Every epoch is cut into files at the same samples.
    return Part(samples, shards, min(starts), max(ends) - min(starts))
