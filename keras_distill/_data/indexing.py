"""The index of every sample: how data gets it, and how it is checked."""

from typing import Any

import numpy as np

from keras_distill._data.batch_fields import is_packed
from keras_distill._data.batch_fields import packed
from keras_distill._data.batch_fields import sample_spec
from keras_distill._data.batch_fields import unpacked_batch
from keras_distill._data.batch_fields import with_sample_index
from keras_distill._data.sources import are_arrays
from keras_distill._data.sources import leaves
from keras_distill._data.sources import unsupported
from keras_distill._data.sparse import number_of_rows


def indexed(data: Any) -> Any:
    """Gives every sample its position in the data set, to travel with it.

    Losses with a memory (`kd.losses.ContrastiveRepresentation`) and views that
    are replayed need to know which sample they see. `fit`, `evaluate` and
    `predict` of a `kd.Distiller` take the result as they take the data itself.

    The order must be the same in every epoch: index first, shuffle and batch
    afterwards. Map over x first, too: after indexing, x is a dict with the
    inputs at `"keras_distill/inputs"` and the int32 index at
    `"keras_distill/sample_index"`.

    Views draw by the epoch of `fit`. A second `fit` starts at epoch 0 and
    replays the views of the first; to continue, use `fit(initial_epoch=k,
    epochs=k + n)`. `train_on_batch` stays at the epoch of the last `fit`.

    Args:
        data: A `tf.data.Dataset` of single samples (not of batches): `x`,
            `(x, y)` or `(x, y, sample_weight)`. Or the arrays `x` that `fit`
            takes: `distiller.fit(kd.views.indexed(x), y)`.

    Returns:
        The same data with a packed x.

    Raises:
        TypeError: If `data` is neither.
        ValueError: If `data` carries an index already. A dataset of batches
            is an error in `fit`, before the first step.

    Example:

    ```python
    samples = dataset.unbatch()
    batches = kd.views.indexed(samples).shuffle(1000).batch(32)
    ```
    """
    import tensorflow as tf

    is_dataset = isinstance(data, tf.data.Dataset)
    if is_packed(data) or (
        is_dataset and sample_spec(data).sample_index is not None
    ):
        raise ValueError(
            "The samples carry an index already. Call kd.views.indexed once, "
            "before shuffling and batching."
        )
    if is_dataset:
        return data.enumerate().map(
            lambda index, sample: _with_index(tf.cast(index, tf.int32), sample)
        )
    if not are_arrays(data):
        expected = "a tf.data.Dataset of single samples, or the arrays x of fit"
        raise unsupported(data, "data", expected)
    return packed(
        data, np.arange(number_of_rows(leaves(data)[0]), dtype="int32")
    )


def with_checked_index(dataset, check):
    """Returns a dataset of the same batches that checks every index.

    An error can be raised here, but not in a compiled training step.

    Args:
        dataset: A `tf.data.Dataset` of batches whose x carries an index.
        check: A function of a NumPy array `(batch,)`, which may raise.
    """
    import tensorflow as tf

    def checked(sample_index):
        check(sample_index)
        return sample_index

    whole = isinstance(dataset.element_spec, tuple)

    def look(*batch):
        batch = batch if whole else batch[0]
        index = unpacked_batch(batch)[0].sample_index
        same = tf.numpy_function(checked, [index], tf.int32)
        same.set_shape(index.shape)
        return with_sample_index(batch, same)

    return dataset.map(look)


def _with_index(index, sample):
    if not isinstance(sample, tuple):
        return packed(sample, index)
    x, *others = sample
    return (packed(x, index), *others)
