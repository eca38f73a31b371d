"""Data for distillation: small real data sets and a reproducible pipeline.

`digits` and `fashion_mnist` give arrays, `load` gives any data set of
tensorflow-datasets, `subset` keeps few labels, and `batches` turns arrays
into a `tf.data` pipeline whose order is a function of (seed, epoch).
"""

import importlib
import pathlib
import tempfile
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_distill._arguments import checked_integer
from keras_distill._data.batch_fields import indexed as with_index
from keras_distill._data.batch_fields import with_epoch

DEBIAN_FASHION_MNIST = pathlib.Path("/usr/share/datasets/fashion-mnist")

# Modification times in the headers of upstream's gzip files. Debian strips
# them and the names, and leaves the compressed data alone: put back, the files
# have the checksums that tensorflow-datasets expects.
_UPSTREAM_TIMES = {
    "train-images-idx3-ubyte.gz": 1504176606,
    "train-labels-idx1-ubyte.gz": 1504176606,
    "t10k-images-idx3-ubyte.gz": 1504176627,
    "t10k-labels-idx1-ubyte.gz": 1504176627,
}


class Split(NamedTuple):
    """Images, float32 `(n, height, width, 1)` in [0, 1]; labels, int32."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def digits(fold=0, folds=5, seed=0):
    """Handwritten digits of scikit-learn: 1797 real images, no download.

    The test part is one fold of a stratified cross-validation shuffled with
    `seed`: all folds together test every image exactly once.

    Args:
        fold: which fold is the test part, in [0, folds).
        folds: number of folds, at least 2.
        seed: seed of the shuffle that makes the folds.

    Returns:
        A `Split` with images of shape `(n, 8, 8, 1)` and 10 classes.
    """
    checked_integer("`folds`", folds, least=2)
    checked_integer("`fold`", fold, least=0, most=folds - 1)
    images, labels = _optional("sklearn.datasets").load_digits(return_X_y=True)
    splitter = _optional("sklearn.model_selection").StratifiedKFold(
        folds, shuffle=True, random_state=seed
    )
    train, test = list(splitter.split(images, labels))[fold]
    images = (images / 16.0).astype("float32").reshape(-1, 8, 8, 1)
    labels = labels.astype("int32")
    return Split(images[train], labels[train], images[test], labels[test])


def fashion_mnist(data_dir=None):
    """Fashion-MNIST as arrays, through tensorflow-datasets' own builder.

    Prepared once (10 s) under `data_dir`, from Debian's package
    `dataset-fashion-mnist` where that is installed, else from the network.

    Args:
        data_dir: folder of prepared data sets; `None` is that of
            tensorflow-datasets, `~/tensorflow_datasets`.

    Returns:
        A `Split`: 60000 and 10000 images `(n, 28, 28, 1)`, 10 classes; 220 MB.

    Raises:
        ConnectionError: if the data can be neither found nor downloaded.

    Reference:
        Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for
        Benchmarking Machine Learning Algorithms", 2017, arXiv:1708.07747.
    """
    builder = _prepare_fashion_mnist(data_dir)
    arrays = []
    for split in ("train", "test"):
        whole = builder.as_dataset(split=split, batch_size=-1)
        arrays.append(whole["image"].numpy().astype("float32") / 255)
        arrays.append(whole["label"].numpy().astype("int32"))
    return Split(*arrays)


def load(name, split, data_dir=None, **kwargs):
    """`tfds.load`, with Fashion-MNIST prepared as in `fashion_mnist`.

    Takes the arguments of `tfds.load` and returns what that returns, each
    `tf.data.Dataset` in it with `with_fast_epoch_end`.
    """
    tfds = _optional("tensorflow_datasets")
    if name.startswith("fashion_mnist") and kwargs.get("download", True):
        _prepare_fashion_mnist(data_dir)

    def faster(item):
        is_dataset = isinstance(item, tf.data.Dataset)
        return with_fast_epoch_end(item) if is_dataset else item

    loaded = tfds.load(name, split=split, data_dir=data_dir, **kwargs)
    return tf.nest.map_structure(faster, loaded)


def with_fast_epoch_end(dataset):
    """The same dataset without tf.data's autotuner.

    With TensorFlow 2.21 the end of a pass over a pipeline often waits for the
    autotuner's next tick (1.28, 2.55, 5.1 s ... after the start): a pass of
    0.7 s took 1.5 s, one of 3 s took 5.1 s. Parallelism and prefetch given as
    numbers are not touched.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def steps_per_epoch(n, batch_size, drop_remainder=False):
    """Number of batches in one pass over `n` samples; never 0 (ValueError)."""
    steps = 0
    if n > 0 and batch_size > 0:
        steps = n // batch_size if drop_remainder else -(-n // batch_size)
    if not steps:
        raise ValueError(
            "`n` and `batch_size` must be at least 1, and with "
            "`drop_remainder=True` there must be one full batch. Received: "
            f"n={n}, batch_size={batch_size}, drop_remainder={drop_remainder}"
        )
    return steps


def batches(
    x,
    y=None,
    batch_size=32,
    *,
    seed=None,
    first_epoch=0,
    classes=None,
    sample_weight=None,
    drop_remainder=False,
    indexed=False,
    group_size=1,
):
    """A `tf.data` pipeline over arrays in memory.

    Without a seed: one pass in order, for evaluation. With a seed: an endless
    stream of epochs, each a permutation that depends on (seed, epoch) alone,
    however many iterators there are. It needs `fit(steps_per_epoch=...)`; a
    run stopped after k epochs goes on with `first_epoch=k`.

    Args:
        x: array `(n, ...)`, or a tuple or dict of such arrays.
        y: array `(n, ...)`, a tuple or dict of them, or `None`: unlabelled.
        batch_size: samples per batch. Defaults to 32, as in Keras.
        seed: an int shuffles, without end. Defaults to `None`.
        first_epoch: the epoch with which a seeded stream begins.
        classes: number of classes; integer labels become one-hot, float32
            `(batch, ..., classes)`. `None` leaves `y` as it is.
        sample_weight: array `(n, ...)`, third member of each batch.
        drop_remainder: whether to leave out a last batch that is not full.
        indexed: whether every sample's position in the arrays travels with
            it, packed into x as by `kd.views.indexed`; of a seeded stream
            the epoch too.
        group_size: so many neighbours stay together when a seed shuffles, as
            `kd.views.grouped_batches` does it. Defaults to 1.

    Returns:
        A `tf.data.Dataset` of `x`, `(x, y)` or `(x, y, sample_weight)`;
        `(x,)` for a tuple `x` alone, which Keras would take for `(x, y)`.

    Raises:
        ValueError: for empty arrays, different lengths, `batch_size < 1`,
            labels other than integers in [0, classes), `sample_weight`
            without `y`, `first_epoch` without `seed`, `batch_size` no multiple
            of `group_size`.

    Example:

    >>> x, y = np.zeros((100, 8)), np.zeros(100, "int32")
    >>> dataset = batches(x, y, 32, seed=0, classes=10)
    >>> steps_per_epoch(len(x), 32)
    4
    """
    if sample_weight is not None and y is None:
        raise ValueError("`sample_weight` needs `y`, which is None.")
    if first_epoch < 0 or (seed is None and first_epoch):
        raise ValueError(
            "`first_epoch` must be >= 0, and 0 without a `seed` (a single "
            f"pass). Received: first_epoch={first_epoch}, seed={seed}"
        )
    if group_size < 1 or batch_size % group_size:
        raise ValueError(
            "`batch_size` must be a multiple of `group_size`. Received: "
            f"batch_size={batch_size}, group_size={group_size}"
        )
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


def subset(x, y, n, seed=0):
    """A stratified part of `n` labelled samples: what few labels there are.

    Every class keeps its share of the samples, to within rounding. The choice
    depends on `y` and `seed` alone; of two subsets of the same seed the larger
    one contains the smaller one.

    Args:
        x: array `(samples, ...)`, or a tuple or dict of such arrays.
        y: class indices `(samples,)`.
        n: number of samples to choose.
        seed: seed of the choice.

    Returns:
        `(x, y)` of the chosen samples, in their original order.
    """
    x, y = _as_arrays(x), np.asarray(y)
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
        count = np.sum(y == label)
        place[y == label] = (generator.permutation(count) + 0.5) / count
    chosen = np.sort(np.lexsort((generator.random(samples), place))[:n])
    return tf.nest.map_structure(lambda array: array[chosen], x), y[chosen]


def _optional(module):
    """Imports a module that only data sets need."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This data set needs {module} ({error}). Install it with: "
            'pip install "keras-distill[examples]"'
        ) from error


def _prepare_fashion_mnist(data_dir):
    """The builder of tensorflow-datasets, with its data on disk."""
    tfds = _optional("tensorflow_datasets")
    builder = tfds.builder("fashion_mnist", data_dir=data_dir)
    if builder.is_prepared():
        return builder
    sources = [DEBIAN_FASHION_MNIST / name for name in _UPSTREAM_TIMES]
    found = all(source.is_file() for source in sources)
    hint = "the network; offline: apt-get install dataset-fashion-mnist"
    print("Fashion-MNIST from", DEBIAN_FASHION_MNIST if found else hint)
    with tempfile.TemporaryDirectory() as folder:
        config = tfds.download.DownloadConfig()
        if found:
            # TFDS compares the checksums of "manual" files with its own. Their
            # names are also MNIST's: extract them apart.
            config.manual_dir = folder
            config.extract_dir = f"{folder}/extracted"
            for source in sources:
                target = pathlib.Path(folder, source.name)
                target.write_bytes(_as_upstream(source))
        try:
            builder.download_and_prepare(download_config=config)
        except Exception as error:
            # Another process may have been first: its result is as good.
            builder = tfds.builder("fashion_mnist", data_dir=data_dir)
            if builder.is_prepared():
                return builder
            if found:
                raise
            raise ConnectionError(
                "Fashion-MNIST could not be downloaded and is not in "
                f"{DEBIAN_FASHION_MNIST}: `apt-get install "
                "dataset-fashion-mnist`, or copy `~/tensorflow_datasets/"
                "fashion_mnist` from a machine with internet into `data_dir`. "
                f"Cause: {error}"
            ) from error
    return builder


def _as_upstream(path):
    """Debian's gzip file with upstream's name and time back in its header."""
    content = path.read_bytes()
    if content[3]:  # flags: a name is there, nothing was removed
        return content
    time = _UPSTREAM_TIMES[path.name].to_bytes(4, "little")
    name = path.stem.encode() + b"\0"
    return b"\x1f\x8b\x08\x08" + time + content[8:10] + name + content[10:]


def _as_arrays(structure):
    """Tuples and dicts keep their form; everything else is an array."""
    if isinstance(structure, dict):
        return {key: _as_arrays(value) for key, value in structure.items()}
    if isinstance(structure, tuple):
        return tuple(_as_arrays(value) for value in structure)
    return np.atleast_1d(structure)


def _common_length(members):
    """The number of samples, the same in every array."""
    lengths = [len(array) for array in tf.nest.flatten(members)]
    if len(set(lengths)) != 1 or 0 in lengths:
        shapes = tf.nest.map_structure(np.shape, members)
        raise ValueError(
            "All arrays must have the same number of samples, at least 1. "
            f"Received shapes: {shapes}"
        )
    return lengths[0]


def _checked_labels(labels, classes):
    """Integer labels as int32, all of them in [0, classes)."""
    integers = isinstance(labels, np.ndarray) and labels.dtype.kind in "iu"
    if not integers or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"`classes={classes}` makes labels one-hot and needs `y` to be an "
            f"array of integers in [0, {classes}). Leave `classes` out if `y` "
            f"is one-hot already. Received: {labels!r}"
        )
    return labels.astype("int32")
