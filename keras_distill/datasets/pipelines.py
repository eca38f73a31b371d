"""Arrays in memory as reproducible `tf.data` pipelines.

The order of the samples is a function of (seed, epoch) alone.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_dataset_seed
from keras_distill._arguments import checked_instance
from keras_distill._arguments import checked_integer
from keras_distill._data.batch_fields import with_epoch
from keras_distill._data.indexing import indexed as with_index
from keras_distill._data.values import check_sample_weight


def with_fast_epoch_end(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the same dataset without tf.data's autotuner.

    With TensorFlow 2.21, the end of a pass often waits for the autotuner's
    next tick (1.28, 2.55, 5.1 s ... after the start): a pass of 0.7 s took
    1.5 s, one of 3 s took 5.1 s. Parallelism and prefetch that are given as
    numbers stay as they are.
    """
    checked_instance(
        "dataset",
        dataset,
        tf.data.Dataset,
        "tf.data.Dataset",
        or_none=False,
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def steps_per_epoch(
    n: int, batch_size: int, drop_remainder: bool = False
) -> int:
    """Returns the number of batches in one pass over `n` samples.

    Raises:
        ValueError: If there is not one batch.
    """
    checked_integer("`n`", n)
    checked_integer("`batch_size`", batch_size)
    checked_boolean("`drop_remainder`", drop_remainder)
    steps = n // batch_size if drop_remainder else -(-n // batch_size)
    if not steps:
        raise ValueError(
            "There must be at least 1 batch, and with `drop_remainder=True` "
            "one full batch. Received: "
            f"n={n}, batch_size={batch_size}, drop_remainder={drop_remainder}"
        )
    return steps


def batches(
    x: Any,
    y: Any = None,
    batch_size: int = 32,
    *,
    seed: int | None = None,
    first_epoch: int = 0,
    classes: int | None = None,
    sample_weight: Any = None,
    drop_remainder: bool = False,
    indexed: bool = False,
    group_size: int = 1,
) -> tf.data.Dataset:
    """Makes a `tf.data` pipeline of arrays in memory.

    Without a seed, the pipeline is one pass in order, for evaluation. With a
    seed, it is an endless stream of epochs. Each is a permutation that depends
    on (seed, epoch) alone, however many iterators there are. Such a stream
    needs `fit(steps_per_epoch=...)`; a run that stopped after k epochs goes on
    with `first_epoch=k`.

    Args:
        x: An array `(n, ...)`, or a tuple or dict of such arrays.
        y: The same for the labels. Defaults to `None`: unlabelled.
        batch_size: The number of samples in a batch. Defaults to 32, as in
            Keras.
        seed: The seed of the shuffle. Defaults to `None`: not shuffled.
        first_epoch: The epoch that a seeded stream starts with. Defaults to 0.
        classes: The number of classes: integer labels become one-hot, float32
            `(batch, ..., classes)`. Defaults to `None`: `y` as it is.
        sample_weight: An array `(n, ...)`, the third member of each batch.
        drop_remainder: Whether to leave out a last batch that is not full.
        indexed: Whether the position of every sample in the arrays travels
            with it, packed into x as by `kd.views.indexed`. In a seeded
            stream, the epoch does too.
        group_size: The number of neighbours that stay together when a seed
            shuffles, as in `kd.views.grouped_batches`. Defaults to 1.

    Returns:
        A `tf.data.Dataset` of `x`, `(x, y)` or `(x, y, sample_weight)`;
        `(x,)` for a tuple `x` alone, which Keras would take for `(x, y)`.

    Raises:
        ValueError: If arrays are empty or differ in length, labels are not
            integers in [0, classes), or other arguments do not fit.

    Example:

    >>> x, y = np.zeros((100, 8)), np.zeros(100, "int32")
    >>> dataset = batches(x, y, 32, seed=0, classes=10)
    >>> steps_per_epoch(len(x), 32)
    4
    """
    if sample_weight is not None and y is None:
        raise ValueError("`sample_weight` needs `y`, which is None.")
    checked_integer("`batch_size`", batch_size)
    checked_dataset_seed(seed)
    checked_integer("`first_epoch`", first_epoch, least=0)
    checked_integer("`classes`", classes, or_none=True)
    checked_boolean("`drop_remainder`", drop_remainder)
    checked_boolean("`indexed`", indexed)
    checked_integer("`group_size`", group_size)
    if seed is None and first_epoch:
        raise ValueError(
            "`first_epoch` must be 0 without a `seed` (a single pass). "
            f"Received: first_epoch={first_epoch}, seed={seed}"
        )
    if batch_size % group_size:
        raise ValueError(
            "`batch_size` must be a multiple of `group_size`. Received: "
            f"batch_size={batch_size}, group_size={group_size}"
        )
    check_sample_weight(sample_weight)
    if indexed:
        x = with_index(_as_arrays(x))
    members = {"x": x, "y": y, "sample_weight": sample_weight}
    members = {k: _as_arrays(v) for k, v in members.items() if v is not None}
    n = _common_length(members)
    steps = steps_per_epoch(n, batch_size, drop_remainder)
    if classes is not None:
        members["y"] = _checked_labels(members.get("y"), classes)
    with tf.device("CPU"):  # where tf.data reads; no GPU memory for it
        tensors = tf.nest.map_structure(tf.constant, members)
    static_size = batch_size if steps * batch_size <= n else None

    def slice_of(tensor, step):
        return tensor[step * batch_size : (step + 1) * batch_size]

    def batch(pick):
        picked = tf.nest.map_structure(pick, tensors)
        for tensor in tf.nest.flatten(picked):
            tensor.set_shape([static_size, *tensor.shape[1:]])
        if classes is not None:
            picked["y"] = tf.one_hot(picked["y"], classes)
        alone = y is None and not isinstance(x, tuple)
        return picked["x"] if alone else tuple(picked.values())

    def permutation(epoch):
        # Philox by name: "auto_select" may choose by device.
        groups = tf.random.experimental.stateless_shuffle(
            tf.range(n // group_size),
            seed=[np.int64(seed), epoch],
            alg="philox",
        )
        order = groups[:, None] * group_size + tf.range(group_size)
        rest = tf.range(n - n % group_size, n)
        return tf.concat([tf.reshape(order, [-1]), rest], axis=0)

    def permutation_in_slices(epoch):
        order = permutation(epoch)
        return tf.data.Dataset.range(steps).map(
            lambda s: (slice_of(order, s), epoch)
        )

    def batch_of_epoch(indices, epoch):
        picked = batch(lambda tensor: tf.gather(tensor, indices))
        return with_epoch(picked, epoch) if indexed else picked

    if seed is None:
        steps_in_order = tf.data.Dataset.range(steps)
        dataset = steps_in_order.map(lambda s: batch(lambda t: slice_of(t, s)))
    else:
        epochs = tf.data.Dataset.counter(first_epoch)
        dataset = epochs.flat_map(permutation_in_slices).map(batch_of_epoch)
        # flat_map forgets that there is no end.
        endless = tf.data.experimental.assert_cardinality(-1)
        dataset = dataset.apply(endless)
    return with_fast_epoch_end(dataset.prefetch(2))


def subset(x: Any, y: Any, n: int, seed: int = 0) -> tuple[Any, np.ndarray]:
    """Chooses `n` labelled samples, stratified: what you have with few labels.

    Every class keeps its share of the samples, to within rounding. The choice
    depends on `y` and `seed` alone. Of two subsets with the same seed, the
    larger one contains the smaller one.

    Args:
        x: An array `(samples, ...)`, or a tuple or dict of such arrays.
        y: Class indices `(samples,)`.
        n: The number of samples to choose.
        seed: The seed of the choice. Defaults to 0.

    Returns:
        `(x, y)` of the chosen samples, in their original order.
    """
    checked_integer("`n`", n)
    checked_integer("`seed`", seed, least=0)
    x, y = _as_arrays(x), np.atleast_1d(y)
    samples = _common_length({"x": x, "y": y})
    if y.ndim != 1 or not 1 <= n <= samples:
        raise ValueError(
            "`y` must be class indices of shape (samples,) and `n` between 1 "
            f"and {samples}. Received: y of shape {y.shape}, n={n}"
        )
    # Line up each class at random and evenly along [0, 1]: any beginning of
    # the common line holds all classes in proportion.
    generator = np.random.default_rng(seed)
    place = np.empty(samples)
    for label in np.unique(y):
        count = int(np.sum(y == label))
        place[y == label] = (generator.permutation(count) + 0.5) / count
    chosen = np.sort(np.lexsort((generator.random(samples), place))[:n])
    return tf.nest.map_structure(lambda array: array[chosen], x), y[chosen]


def _as_arrays(structure):
    """Makes arrays of everything but tuples and dicts."""
    if isinstance(structure, dict):
        return {key: _as_arrays(value) for key, value in structure.items()}
    if isinstance(structure, tuple):
        return tuple(_as_arrays(value) for value in structure)
    return np.atleast_1d(structure)


def _common_length(members):
    """Returns the number of samples, which must be the same everywhere."""
    lengths = [len(array) for array in tf.nest.flatten(members)]
    if len(set(lengths)) != 1 or 0 in lengths:
        shapes = tf.nest.map_structure(np.shape, members)
        raise ValueError(
            "All arrays must have the same number of samples, at least 1. "
            f"Received shapes: {shapes}"
        )
    return lengths[0]


def _checked_labels(labels, classes):
    """Returns integer labels as int32; all must lie in [0, classes)."""
    integers = isinstance(labels, np.ndarray) and labels.dtype.kind in "iu"
    if not integers or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"`classes={classes}` makes labels one-hot and needs `y` to be an "
            f"array of integers in [0, {classes}). Leave `classes` out if `y` "
            f"is one-hot already. Received: {labels!r}"
        )
    return labels.astype("int32")
