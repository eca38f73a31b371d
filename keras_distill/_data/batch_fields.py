"""What travels with a batch beside inputs, labels and weights.

Keras takes a batch apart into (x, y, sample_weight), and nothing else comes
through. So what else belongs to the samples is packed into x, as a dict with
the keys below. This is the one file that knows them.
"""

from typing import Any
from typing import NamedTuple

import keras
import numpy as np

INPUTS = "keras_distill/inputs"
SAMPLE_INDEX = "keras_distill/sample_index"
EPOCH = "keras_distill/epoch"
TEACHER_OUTPUTS = "keras_distill/teacher_outputs"


class Sample(NamedTuple):
    """The x of a batch, taken apart.

    Attributes:
        inputs: What the networks take.
        sample_index: `(batch,)` int32, each sample's position in the data
            set; `None` where the data carries none.
        epoch: `(batch,)` int32, the epoch that each sample is seen in, where
            the data knows it; `None` alike.
        teacher_outputs: The teacher's, computed before: a dict `"output"`
            (missing where there is not one), `"taps"` (layer name -> tensor)
            and `"origin"` (`teacher_cache/origin.py`); `None` alike.
    """

    inputs: Any
    sample_index: Any = None
    epoch: Any = None
    teacher_outputs: Any = None


def is_packed(x):
    """Whether more than the inputs travels in this x."""
    return isinstance(x, dict) and INPUTS in x


def unpacked(x):
    """The x of a batch -> `Sample`. A plain x is all inputs."""
    if not is_packed(x):
        return Sample(x)
    return Sample(
        x[INPUTS], x.get(SAMPLE_INDEX), x.get(EPOCH), x.get(TEACHER_OUTPUTS)
    )


def unpacked_batch(batch):
    """A batch as Keras gives it -> `(Sample, y, sample_weight)`."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    return unpacked(x), y, sample_weight


def plain_batch(batch):
    """A batch as Keras gives it -> `(inputs, y, sample_weight)`."""
    sample, y, sample_weight = unpacked_batch(batch)
    return sample.inputs, y, sample_weight


def indexed(data):
    """Gives every sample its position in the data set, to travel with it.

    Losses with a memory (`kd.losses.ContrastiveRepresentation`) and views that
    are replayed need to know which sample they see. `fit`, `evaluate` and
    `predict` of a `kd.Distiller` take the result as they take the data itself.

    The order must be the same in every epoch: index first, shuffle and batch
    afterwards. What maps over x comes before, too: afterwards x is a dict,
    with the inputs at `"keras_distill/inputs"` and the int32 index at
    `"keras_distill/sample_index"`.

    Views draw by the epoch of `fit`. A second `fit` begins at epoch 0 and
    replays the views of the first; go on with `fit(initial_epoch=k,
    epochs=k + n)`. `train_on_batch` stays with the epoch of the last `fit`.

    Args:
        data: A `tf.data.Dataset` of single samples (not of batches): `x`,
            `(x, y)` or `(x, y, sample_weight)`. Or the arrays `x` that `fit`
            takes: `distiller.fit(kd.views.indexed(x), y)`.

    Returns:
        The same with a packed x.

    Raises:
        TypeError: for data of another kind.
        ValueError: for data that carries an index already. A dataset of
            batches shows in `fit`, before the first step.

    Example:

    ```python
    samples = dataset.unbatch()
    batches = kd.views.indexed(samples).shuffle(1000).batch(32)
    ```
    """
    import tensorflow as tf

    if isinstance(data, tf.data.Dataset):
        spec = data.element_spec
        _check_not_packed(spec[0] if isinstance(spec, tuple) else spec)
        return data.enumerate().map(
            lambda index, sample: _with_index(tf.cast(index, tf.int32), sample)
        )
    _check_not_packed(data)
    leaves = keras.tree.flatten(data)
    if not leaves or not all(
        np.ndim(a) and hasattr(a, "shape") for a in leaves
    ):
        raise TypeError(
            "indexed takes a tf.data.Dataset of single samples, or the arrays "
            f"x of fit. Received: {type(data).__name__}."
        )
    return packed(data, np.arange(len(leaves[0]), dtype="int32"))


def packed(inputs, sample_index):
    """-> an x that carries the index of its samples."""
    return {INPUTS: inputs, SAMPLE_INDEX: sample_index}


def with_epoch(batch, epoch):
    """A batch whose x carries an index, with the epoch that it, or each of
    its samples, belongs to."""
    import tensorflow as tf

    x, *others = batch if isinstance(batch, tuple) else (batch,)
    epoch = tf.cast(epoch, tf.int32)
    epoch = tf.broadcast_to(epoch, tf.shape(x[SAMPLE_INDEX]))
    epoch.set_shape(x[SAMPLE_INDEX].shape)
    x = {**x, EPOCH: epoch}
    return (x, *others) if isinstance(batch, tuple) else x


def with_teacher_outputs(batch, outputs):
    """A batch with a packed x, with what a teacher said of its samples."""
    x, *others = batch if isinstance(batch, tuple) else (batch,)
    x = {**x, TEACHER_OUTPUTS: outputs}
    return (x, *others) if isinstance(batch, tuple) else x


def carries_teacher_outputs(dataset):
    """Whether the x of a `tf.data.Dataset` has them."""
    spec = getattr(dataset, "element_spec", None)
    x = spec[0] if isinstance(spec, tuple) else spec
    return unpacked(x).teacher_outputs is not None


def with_checked_index(dataset, check):
    """The same batches, every index looked at on its way.

    Here an error can be raised; compiled training steps have none.

    Args:
        dataset: A `tf.data.Dataset` of batches whose x carries an index.
        check: A function of a NumPy array `(batch,)`, which may raise.
    """
    import tensorflow as tf

    def checked(sample_index):
        check(sample_index)
        return sample_index

    def look(*batch):
        x, *others = batch
        index = tf.numpy_function(checked, [x[SAMPLE_INDEX]], tf.int32)
        index.set_shape(x[SAMPLE_INDEX].shape)
        x = {**x, SAMPLE_INDEX: index}
        return (x, *others) if isinstance(dataset.element_spec, tuple) else x

    return dataset.map(look)


def _with_index(index, sample):
    if not isinstance(sample, tuple):
        return packed(sample, index)
    x, *others = sample
    return (packed(x, index), *others)


def _check_not_packed(x):
    if is_packed(x):
        raise ValueError(
            "The samples carry an index already. Call kd.views.indexed once, "
            "before shuffling and batching."
        )
