"""Batches in which the samples that mixup may blend stand together.

A replayed view of a sample must not depend on what else is in its batch. So
its partner is one of a fixed group of neighbours in the data set, and batches
are made of whole groups; it is groups that are shuffled.
"""

import numpy as np

from keras_distill._data.batch_fields import is_packed
from keras_distill._data.indexing import indexed


def grouped_batches(
    dataset,
    batch_size,
    *,
    group_size=16,
    shuffle_buffer_size=None,
    seed=None,
    drop_remainder=False,
):
    """Shuffles and batches samples for views with mixup that are replayed.

    Args:
        dataset: A finite `tf.data.Dataset` of single samples in fixed order,
            with their index (`kd.views.indexed`) or without: then they get it.
        batch_size: Samples of a (global) batch, a multiple of `group_size`
            times the number of replicas.
        group_size: The views' `mixup_group_size`. Defaults to 16.
        shuffle_buffer_size: Samples to shuffle among, in whole groups;
            reshuffled in every epoch. Defaults to `None`: no shuffling.
        seed: Of the shuffling, an integer. Defaults to `None`.
        drop_remainder: Whether to leave out a last batch that is not full.

    Returns:
        A `tf.data.Dataset` of batches. Samples that fill no whole group come
        last.

    Raises:
        ValueError: if `batch_size` is no multiple of `group_size`, or the
            dataset has no known end.

    Example:

    ```python
    images = np.random.uniform(size=(64, 8, 8, 3))
    samples = tf.data.Dataset.from_tensor_slices(images)
    batches = kd.views.grouped_batches(samples, 32, shuffle_buffer_size=64)
    ```
    """
    if batch_size < 1 or batch_size % group_size:
        raise ValueError(
            "batch_size must be a multiple of group_size, so that batches are "
            f"made of whole groups. Received: batch_size={batch_size}, "
            f"group_size={group_size}."
        )
    spec = dataset.element_spec
    if not is_packed(spec[0] if isinstance(spec, tuple) else spec):
        dataset = indexed(dataset)
    size = int(dataset.cardinality())
    if size < 0:
        raise ValueError(
            "The dataset does not know how many samples it has "
            f"(cardinality() is {size}). Say so: dataset.apply("
            "tf.data.experimental.assert_cardinality(samples))."
        )
    whole = size - size % group_size
    groups = dataset.take(whole).batch(group_size, drop_remainder=True)
    if shuffle_buffer_size is not None:
        groups = groups.shuffle(
            max(1, shuffle_buffer_size // group_size),
            seed=seed,
            reshuffle_each_iteration=True,
        )
    if whole < size:
        groups = groups.concatenate(dataset.skip(whole).batch(group_size))
    return groups.rebatch(batch_size, drop_remainder=drop_remainder)


def check_groups(sample_index, group_size, replicas=1):
    """Raises `ValueError` unless groups are whole, on every replica.

    Only the last group of the data set may have fewer samples, its first
    ones. It comes last, so a first batch that has it is the whole data set.

    Args:
        sample_index: NumPy array `(batch,)`, the first batch's.
        group_size: Samples of a group.
        replicas: Replicas that get equal parts of the batch, in order.
    """
    sample_index = np.asarray(sample_index)
    last = _partial_end(sample_index, group_size)
    for part in np.array_split(sample_index, replicas):
        groups, counts = np.unique(part // group_size, return_counts=True)
        broken = (counts != group_size) & (groups != last)
        if broken.any():
            share = f" (1 / {replicas} of a batch)" if replicas > 1 else ""
            raise ValueError(
                f"mixup blends samples of a group of {group_size} neighbours "
                "in the data set, so that a view can be replayed; but of the "
                f"group of sample {group_size * groups[broken][0]} only "
                f"{counts[broken][0]} are in the first batch{share}. "
                + advice(group_size, replicas)
            )


def is_whole_data_set(sample_index, group_size):
    """Whether a first batch with such groups leaves nothing for a second."""
    return _partial_end(np.asarray(sample_index), group_size) is not None


def advice(group_size, replicas=1):
    return (
        "Shuffle and batch with kd.views.grouped_batches(dataset, batch_size, "
        f"group_size={group_size}), or kd.datasets.batches(..., indexed=True, "
        f"group_size={group_size}); batch_size a multiple of "
        f"{group_size * replicas}."
    )


def _partial_end(sample_index, group_size):
    """The group that may be partial: that of the last sample, if samples
    follow each other without a gap from the beginning of a group."""
    seen = np.sort(sample_index)
    if not len(seen) or len(seen) % group_size == 0 or seen[0] % group_size:
        return None
    if not np.array_equal(seen, np.arange(seen[0], seen[0] + len(seen))):
        return None
    return seen[-1] // group_size
