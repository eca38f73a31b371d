"""Mixup: each sample is blended with another one of its batch.

A replayed view of a sample must not depend on what else is in its batch. So
the partner of a sample comes from a fixed group of its neighbours in the data
set, and a batch consists of whole groups: groups are shuffled, not samples.

`keras_cv.layers.MixUp` draws partners and weights from its own state. The blend
itself is one line.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_dataset_seed
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._data.batch_fields import is_packed
from keras_distill._data.indexing import indexed
from keras_distill.views import draws


@keras.saving.register_keras_serializable(package="keras_distill")
class Mixup:
    """How `kd.views.FunctionMatching(mixup=...)` blends samples.

        x = weight * x_i + (1 - weight) * x_j,   y likewise,
        weight ~ Beta(a, a)

    Args:
        concentration: a of Beta(a, a). Defaults to 1.0, the uniform
            distribution, as in Beyer et al. 2022.
        group_size: Neighbours in an indexed data set that may be blended.
            Defaults to 16.
        num_classes: Number of classes of sparse labels, which become one-hot,
            in evaluation too. Train with a loss and metrics for one-hot labels
            (`CategoricalCrossentropy`). Defaults to `None`: the student's
            output tells it if its shape is `(batch, classes)`.

    Raises:
        ValueError: If `concentration` is not positive, `group_size` or
            `num_classes` less than 2.

    Reference:
        Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond empirical risk
        minimization", 2018.
    """

    def __init__(
        self,
        concentration: float = 1.0,
        *,
        group_size: int = 16,
        num_classes: int | None = None,
    ):
        self.concentration = checked_number(
            "concentration", concentration, "[0.001, 1000]"
        )
        self.group_size = checked_integer("group_size", group_size, least=2)
        self.num_classes = checked_classes(num_classes)
        self._weights = draws.SymmetricBeta(self.concentration)

    def blender(self, key, sample_index, whole_batch=False):
        """A function that blends `(batch, ...)` tensors, all of them alike.

        Args:
            key: Coordinates of the draws, see `draws`.
            sample_index: `(batch,)` int32.
            whole_batch: Whether the batch is one group.
        """
        groups = sample_index // self.group_size
        if whole_batch:
            groups = ops.zeros_like(sample_index)
        partner = partners(groups, draws.hashed(*key, 0))
        weight = self._weights(draws.uniform(*key, 1))
        return lambda x: blended(x, partner, weight)

    def get_config(self) -> dict[str, Any]:
        return {
            "concentration": self.concentration,
            "group_size": self.group_size,
            "num_classes": self.num_classes,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Mixup":
        return cls(**config)


def partners(groups, ranks):
    """The position in the batch of the sample that each one is blended with.

    The samples of a group form a circle in the order of their ranks, and each
    takes the next one. So no sample takes itself, unless it is alone in its
    group. The position in the batch and other groups do not matter.

    Args:
        groups: `(batch,)` int32.
        ranks: `(batch,)` uint32, `draws.hashed` of the samples.

    Returns:
        `(batch,)` int32.
    """
    key = ops.cast(groups, "int64") * 2**32 + ops.cast(ranks, "int64")
    order = ops.argsort(key)
    groups = ops.take(groups, order)
    start = ops.searchsorted(groups, groups, side="left")
    place = ops.arange(ops.shape(groups)[0], dtype="int32")
    is_last = groups != ops.roll(groups, -1)
    # The last sample of the batch closes its group even if it is the only one.
    is_last = ops.logical_or(is_last, place == ops.shape(groups)[0] - 1)
    following = ops.where(is_last, ops.cast(start, "int32"), place + 1)
    following = ops.take(order, following)
    # From the sorted order back to the batch's order.
    return ops.cast(ops.take(following, ops.argsort(order)), "int32")


def blended(x, partner, weight):
    """`weight * x + (1 - weight) * x[partner]`, in float32 or wider.

    Args:
        x: `(batch, ...)`.
        partner: `(batch,)` int32.
        weight: `(batch,)` float32 in [0, 1].
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype not in ("float32", "float64"):
        x = ops.cast(x, "float32")
    shape = (-1,) + (1,) * (len(x.shape) - 1)
    weight = ops.reshape(ops.cast(weight, x.dtype), shape)
    return weight * x + (1.0 - weight) * ops.take(x, partner, axis=0)


class BlendableLabels:
    """Turns labels into numbers that can be blended.

    Sparse labels become one-hot, those of a student with one unit `(batch, 1)`.

    Args:
        num_classes: Number of classes; `None`: of the student's output.
        argument: Where a user gives it, for the error message.
    """

    def __init__(self, num_classes, argument):
        self._argument = argument
        self._classes = self._given = num_classes
        self._one_unit = False

    def set_output_shape(self, shape):
        """Takes the number of classes from the student's output."""
        known = isinstance(shape, tuple) and len(shape) == 2
        if self._given is None and known and isinstance(shape[1], int):
            # One unit is the probability of class 1, not a class.
            self._one_unit = shape[1] == 1
            self._classes = None if self._one_unit else shape[1]

    def __call__(self, y):
        """Float32 labels, one-hot or `(batch, 1)`.

        Raises:
            ValueError: If labels are sparse and the number of classes is not
                known.
        """
        if self._one_unit:
            y = ops.cast(y, "float32")
            return ops.expand_dims(y, -1) if len(y.shape) == 1 else y
        dtype = keras.backend.standardize_dtype(y.dtype)
        sparse = len(y.shape) == 1 or (len(y.shape) == 2 and y.shape[-1] == 1)
        if not ("int" in dtype and sparse):
            return ops.cast(y, "float32")
        if self._classes is None:
            raise ValueError(
                "Blended labels must be one-hot (batch, classes). Received: "
                f"sparse labels of shape {tuple(y.shape)} and type {dtype}. "
                f"Pass {self._argument} and train with "
                "CategoricalCrossentropy, or leave the labels out (alpha=1): "
                "function matching needs none."
            )
        y = y[:, 0] if len(y.shape) == 2 else y
        return ops.one_hot(y, self._classes, dtype="float32")


def check_blended_labels(views, loss, y):
    """Raises if a task loss does not take the labels that views blend."""
    if views.blends_labels and isinstance(y, (dict, list, tuple)):
        raise ValueError(
            f"{type(views).__name__} blends the labels of one output, but the "
            "data has labels for several. Leave mixup out, or leave the labels "
            "out (alpha=1)."
        )
    if not isinstance(loss, str):
        loss = getattr(loss, "__name__", type(loss).__name__)
    if not views.blends_labels or "sparse" not in loss.lower():
        return
    shape = tuple(views.evaluation_labels(y).shape)
    raise ValueError(
        f"{type(views).__name__} blends labels: they become numbers of "
        f"shape {shape}, but the task loss is {loss}. Give integer or "
        "one-hot labels. Compile with CategoricalCrossentropy and metrics "
        "for one-hot labels; or leave labels out, with alpha=1."
    )


def checked_classes(number):
    """A number of classes, or `None`."""
    return checked_integer("num_classes", number, least=2, or_none=True)


def grouped_batches(
    dataset: Any,
    batch_size: int,
    *,
    group_size: int = 16,
    shuffle_buffer_size: int | None = None,
    seed: int | None = None,
    drop_remainder: bool = False,
) -> Any:
    """Shuffles and batches samples for replayable views with mixup.

    Args:
        dataset: A finite `tf.data.Dataset` of single samples in fixed order.
            Samples without an index (`kd.views.indexed`) get one.
        batch_size: Samples of a (global) batch, a multiple of `group_size`
            times the number of replicas.
        group_size: `group_size` of the views' `kd.views.Mixup`. Defaults to
            16.
        shuffle_buffer_size: Number of samples to shuffle among, in whole
            groups, anew in every epoch. Defaults to `None`: no shuffling.
        seed: Seed of the shuffling, an integer. Defaults to `None`.
        drop_remainder: Whether to leave out a last batch that is not full.
            Defaults to `False`.

    Returns:
        A `tf.data.Dataset` of batches. Samples that do not fill a group come
        last.

    Raises:
        ValueError: If `batch_size` is not a multiple of `group_size`, or the
            number of samples is not known.

    Example:

    ```python
    images = np.random.uniform(size=(64, 8, 8, 3))
    samples = tf.data.Dataset.from_tensor_slices(images)
    batches = kd.views.grouped_batches(samples, 32, shuffle_buffer_size=64)
    ```
    """
    checked_integer("batch_size", batch_size)
    checked_integer("group_size", group_size)
    checked_integer("shuffle_buffer_size", shuffle_buffer_size, or_none=True)
    checked_dataset_seed(seed)
    checked_boolean("drop_remainder", drop_remainder)
    if batch_size % group_size:
        raise ValueError(
            "batch_size must be a multiple of group_size, so that batches "
            f"consist of whole groups. Received: batch_size={batch_size}, "
            f"group_size={group_size}."
        )
    import tensorflow as tf

    spec = dataset.element_spec
    if not is_packed(spec[0] if isinstance(spec, tuple) else spec):
        dataset = indexed(dataset)
    size = int(dataset.cardinality())
    if size < 0:
        raise ValueError(
            "The dataset does not know how many samples it has "
            f"(cardinality() is {size}). Tell it: dataset.apply("
            "tf.data.experimental.assert_cardinality(samples))."
        )
    whole_groups = size - size % group_size
    groups = dataset.take(whole_groups).batch(group_size, drop_remainder=True)
    if shuffle_buffer_size is not None:
        groups = groups.shuffle(
            max(1, shuffle_buffer_size // group_size),
            seed=seed,
            reshuffle_each_iteration=True,
        )
    if whole_groups < size:
        rest = dataset.skip(whole_groups).batch(group_size)
        groups = groups.concatenate(rest)
    batches = groups.rebatch(batch_size, drop_remainder=drop_remainder)
    # rebatch forgets how many there are.
    steps = size // batch_size if drop_remainder else -(-size // batch_size)
    return batches.apply(tf.data.experimental.assert_cardinality(steps))


def check_groups(sample_index, group_size, replicas=1):
    """Raises unless groups are whole on every replica.

    Only the last group of the data set may have fewer samples, its first
    ones. It comes last, so a first batch that has it is the whole data set.

    Args:
        sample_index: NumPy array `(batch,)`, the first batch's.
        group_size: Samples of a group.
        replicas: Number of replicas that get equal parts of the batch, in
            order.

    Raises:
        ValueError: If samples of a group are missing.
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
                "in the data set, so that a view can be replayed. But of the "
                f"group of sample {group_size * groups[broken][0]} only "
                f"{counts[broken][0]} are in the first batch{share}. "
                + advice(group_size, replicas)
            )


def is_whole_data_set(sample_index, group_size):
    """Whether a first batch with such groups leaves nothing for a second."""
    return _partial_end(np.asarray(sample_index), group_size) is not None


def advice(group_size, replicas=1):
    """How to make batches of whole groups."""
    return (
        "Shuffle and batch with kd.views.grouped_batches(dataset, batch_size, "
        f"group_size={group_size}), or kd.datasets.batches(..., indexed=True, "
        f"group_size={group_size}); batch_size must be a multiple of "
        f"{group_size * replicas}."
    )


def _partial_end(sample_index, group_size):
    """The group that may be partial, or `None`.

    It is the group of the last sample, if the samples are consecutive and
    begin with a group.
    """
    index = np.sort(sample_index)
    if not len(index) or len(index) % group_size == 0 or index[0] % group_size:
        return None
    if not np.array_equal(index, np.arange(index[0], index[0] + len(index))):
        return None
    return index[-1] // group_size
