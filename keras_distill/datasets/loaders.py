"""Small real data sets as arrays, and any data set of tensorflow-datasets."""

import importlib
import os
import pathlib
import tempfile
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_seed
from keras_distill._arguments import checked_string
from keras_distill.datasets.pipelines import with_fast_epoch_end

_DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")

# Modification times in the headers of upstream's gzip files. Debian strips
# them and the names but leaves the compressed data alone: with both put back,
# the files have the checksums that tensorflow-datasets expects.
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


def digits(fold: int = 0, folds: int = 5, seed: int = 0) -> Split:
    """Loads the handwritten digits of scikit-learn: 1797 images, no download.

    The test part is one fold of a stratified cross-validation: all folds
    together test every image exactly once.

    Args:
        fold: The fold that is the test part, in [0, folds). Defaults to 0.
        folds: The number of folds, at least 2. Defaults to 5.
        seed: The seed of the shuffle that makes the folds. Defaults to 0.

    Returns:
        A `Split` with images of shape `(n, 8, 8, 1)` and 10 classes.
    """
    checked_integer("`folds`", folds, least=2)
    checked_integer("`fold`", fold, least=0, most=folds - 1)
    checked_seed(seed, "`seed`")
    images, labels = optional("sklearn.datasets").load_digits(return_X_y=True)
    splitter = optional("sklearn.model_selection").StratifiedKFold(
        folds, shuffle=True, random_state=seed
    )
    train, test = list(splitter.split(images, labels))[fold]
    images = (images / 16.0).astype("float32").reshape(-1, 8, 8, 1)
    labels = labels.astype("int32")
    return Split(images[train], labels[train], images[test], labels[test])


def fashion_mnist(data_dir: str | os.PathLike | None = None) -> Split:
    """Loads Fashion-MNIST as arrays, with the builder of tensorflow-datasets.

    The first call prepares it under `data_dir` (10 s), from Debian's package
    `dataset-fashion-mnist` if that is installed, otherwise from the network.

    Args:
        data_dir: The folder of prepared data sets. Defaults to that of
            tensorflow-datasets, `~/tensorflow_datasets`.

    Returns:
        A `Split`: 60000 and 10000 images `(n, 28, 28, 1)`, 10 classes; 220 MB.

    Raises:
        ConnectionError: If the data can be neither found nor downloaded.

    Reference:
        Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for
        Benchmarking Machine Learning Algorithms", 2017, arXiv:1708.07747.
    """
    _check_folder(data_dir)
    builder = _prepare_fashion_mnist(data_dir)
    arrays = []
    for split in ("train", "test"):
        whole = builder.as_dataset(split=split, batch_size=-1)
        arrays.append(whole["image"].numpy().astype("float32") / 255)
        arrays.append(whole["label"].numpy().astype("int32"))
    return Split(*arrays)


def load(
    name: str,
    split: Any,
    data_dir: str | os.PathLike | None = None,
    **kwargs: Any,
) -> Any:
    """Calls `tfds.load`, with Fashion-MNIST prepared as in `fashion_mnist`.

    Args:
        name: The name of the data set, as in `tfds.load`.
        split: As in `tfds.load`.
        data_dir: As in `tfds.load`.
        **kwargs: The other arguments of `tfds.load`.

    Returns:
        What `tfds.load` returns, with `with_fast_epoch_end` applied to each
        `tf.data.Dataset` in it.
    """
    checked_string("`name`", name)
    _check_folder(data_dir)
    tfds = optional("tensorflow_datasets")
    if name.startswith("fashion_mnist") and kwargs.get("download", True):
        _prepare_fashion_mnist(data_dir)

    def faster(item):
        is_dataset = isinstance(item, tf.data.Dataset)
        return with_fast_epoch_end(item) if is_dataset else item

    loaded = tfds.load(name, split=split, data_dir=data_dir, **kwargs)
    return tf.nest.map_structure(faster, loaded)


def _check_folder(data_dir):
    if data_dir is not None:
        as_path("`data_dir`", data_dir)


def optional(module):
    """Imports a module that only some data sets need."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This data set needs {module} ({error}). Install it with: "
            'pip install "keras-distill[examples]"'
        ) from error


def _prepare_fashion_mnist(data_dir):
    """The builder of tensorflow-datasets, with its data on disk."""
    tfds = optional("tensorflow_datasets")
    builder = tfds.builder("fashion_mnist", data_dir=data_dir)
    if builder.is_prepared():
        return builder
    sources = [_DEBIAN / name for name in _UPSTREAM_TIMES]
    found = all(source.is_file() for source in sources)
    hint = "the network; offline: apt-get install dataset-fashion-mnist"
    print("Fashion-MNIST from", _DEBIAN if found else hint)
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
                f"{_DEBIAN}: `apt-get install "
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
