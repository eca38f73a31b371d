"""Small real data sets: contents, laziness, messages."""

import contextlib
import io
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_distill import datasets
from keras_distill.datasets import loaders


def run(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.nightly
def test_import_is_lazy():
    # keras itself imports the root of scikit-learn where it is installed.
    code = (
        "import sys, keras, tensorflow; before = set(sys.modules);"
        "import keras_distill.datasets;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "lazy = {'tensorflow_datasets', 'sklearn'};"
        "print('LOADED', sorted(new & lazy), 'sklearn.datasets' in sys.modules)"
    )
    output = run(code).communicate()[0]
    assert "LOADED [] False" in output, output


@pytest.mark.parametrize(
    "module, use",
    [
        ("sklearn.datasets", datasets.digits),
        ("tensorflow_datasets", datasets.fashion_mnist),
        ("tensorflow_datasets", lambda: datasets.load("mnist", "train")),
    ],
)
def test_missing_package_names_the_remedy(monkeypatch, module, use):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"keras-distill\[examples\]") as info:
        use()
    assert module in str(info.value)


# digits


def test_digits_folds_partition_the_data():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    splits = [datasets.digits(fold) for fold in range(5)]
    for split in splits:
        assert split.x_train.shape[1:] == split.x_test.shape[1:] == (8, 8, 1)
        assert split.x_train.dtype == split.x_test.dtype == np.float32
        assert split.y_train.dtype == split.y_test.dtype == np.int32
        assert len(split.x_train) + len(split.x_test) == 1797
        assert split.x_test.min() == 0.0 and split.x_test.max() == 1.0
        # Stratified: no class is more than one image off its share.
        counts = np.bincount(split.y_test, minlength=10)
        assert np.all(np.abs(counts - np.bincount(labels) / 5) < 1)
        # Disjoint: train and test together are all images, each once.
        both = np.concatenate([split.x_train, split.x_test]).reshape(-1, 64)
        assert sorted(map(bytes, (both * 16).astype("uint8"))) == sorted(
            map(bytes, images.astype("uint8"))
        )
    # The test parts of all folds are the data, images with their labels.
    tested = np.concatenate(
        [
            np.column_stack([s.x_test.reshape(-1, 64) * 16, s.y_test])
            for s in splits
        ]
    )
    expected = np.column_stack([images, labels])
    np.testing.assert_array_equal(
        tested[np.lexsort(tested.T)], expected[np.lexsort(expected.T)]
    )


def test_digits_seed_and_fold_choose():
    first, again = datasets.digits(1), datasets.digits(1)
    np.testing.assert_array_equal(first.x_train, again.x_train)
    np.testing.assert_array_equal(first.y_test, again.y_test)
    for other in (datasets.digits(2), datasets.digits(1, seed=1)):
        assert not np.array_equal(first.x_test, other.x_test)
    assert len(datasets.digits(0, folds=3).x_test) == 599


@pytest.mark.parametrize(
    "fold, folds, message",
    [
        (5, 5, "`fold` must be an integer from 0 to 4. Received: 5"),
        (-1, 5, "`fold` must be an integer from 0 to 4. Received: -1"),
        (0, 1, "`folds` must be an integer of at least 2. Received: 1"),
    ],
)
def test_digits_fold_out_of_range(fold, folds, message):
    with pytest.raises(ValueError, match=message):
        datasets.digits(fold, folds)


# fashion_mnist, load

needs_files = pytest.mark.skipif(
    not loaders._DEBIAN.is_dir(),
    reason="Debian's package dataset-fashion-mnist is not installed",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which Fashion-MNIST is prepared once for these tests."""
    folder = tmp_path_factory.mktemp("data")
    with contextlib.redirect_stdout(io.StringIO()) as output:
        datasets.fashion_mnist(folder)
    return folder, output.getvalue()


def check_nothing_left_behind(folder):
    """Nothing half-done, and no copy of the source files."""
    assert [f.name for f in (folder / "fashion_mnist").iterdir()] == ["3.0.1"]
    assert not [f for f in (folder / "downloads").rglob("*") if f.is_file()]


@pytest.mark.slow
@needs_files
def test_preparation_says_where_from_and_tidies_up(prepared):
    folder, output = prepared
    assert f"from {loaders._DEBIAN}" in output
    check_nothing_left_behind(folder)


@pytest.mark.nightly
@needs_files
def test_another_process_may_be_first(prepared, monkeypatch, tmp_path):
    import tensorflow_datasets as tfds

    def too_late(self, **kwargs):
        name = pathlib.Path("fashion_mnist", "3.0.1")
        shutil.copytree(prepared[0] / name, tmp_path / name)
        raise OSError("Directory not empty")  # what the losing rename raises

    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", too_late
    )
    data = datasets.fashion_mnist(tmp_path)
    assert data.x_test.shape == (10000, 28, 28, 1)


PREPARE = """
import sys
from keras_distill import datasets
data = datasets.fashion_mnist(sys.argv[1])
print("SHAPES", data.x_train.shape, data.x_test.shape)
"""


@pytest.mark.nightly
@needs_files
def test_two_processes_prepare_at_once(tmp_path):
    processes = [run(PREPARE, str(tmp_path)) for _ in range(2)]
    for output in [process.communicate()[0] for process in processes]:
        assert "SHAPES (60000, 28, 28, 1) (10000, 28, 28, 1)" in output, output
    check_nothing_left_behind(tmp_path)


@pytest.mark.slow
@needs_files
def test_fashion_mnist(prepared, capsys):
    import tensorflow_datasets as tfds

    folder, _ = prepared
    data = datasets.fashion_mnist(folder)
    assert "Fashion-MNIST from" not in capsys.readouterr().out  # prepared once
    assert data.x_train.shape == (60000, 28, 28, 1)
    assert data.x_test.shape == (10000, 28, 28, 1)
    assert data.x_train.dtype == data.x_test.dtype == np.float32
    assert data.y_train.dtype == data.y_test.dtype == np.int32
    assert data.x_train.min() == 0.0 and data.x_train.max() == 1.0
    np.testing.assert_array_equal(np.bincount(data.y_train), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(data.y_test), [1000] * 10)
    # The pixels' mean that is known for Fashion-MNIST (MNIST's is 0.1307).
    assert abs(data.x_train.mean(dtype="float64") - 0.2860) < 1e-4

    builder = tfds.builder("fashion_mnist", data_dir=folder)
    module = type(builder).__module__
    assert module == "tensorflow_datasets.image_classification.mnist"
    assert builder.is_prepared()
    # The bytes that TFDS verified are those of the original download.
    assert builder.info.download_size == 30878645

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    )
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy")
    history = model.fit(
        datasets.batches(data.x_train, data.y_train, 128, seed=0, classes=10),
        steps_per_epoch=20,
        epochs=3,
        verbose=0,
    )
    losses = history.history["loss"]
    assert losses[0] > losses[1] > losses[2] and losses[2] < 0.8


@pytest.mark.slow
@needs_files
def test_load_gives_tfds_datasets(prepared):
    import tensorflow_datasets as tfds

    folder, _ = prepared
    dataset, info = datasets.load(
        "fashion_mnist",
        "test[:100]",
        folder,
        as_supervised=True,
        with_info=True,
    )
    assert isinstance(info, tfds.core.DatasetInfo)
    assert dataset.options().autotune.enabled is False
    image, label = next(iter(dataset.batch(200)))
    assert image.shape == (100, 28, 28, 1) and image.dtype == tf.uint8
    data = datasets.fashion_mnist(folder)
    np.testing.assert_array_equal(label, data.y_test[:100])
    np.testing.assert_allclose(image / 255, data.x_test[:100], atol=1e-6)


def test_load_passes_other_names_on(monkeypatch):
    import tensorflow_datasets as tfds

    calls = []

    def fake(name, **kwargs):
        calls.append((name, kwargs))
        return {"train": tf.data.Dataset.range(2)}

    monkeypatch.setattr(tfds, "load", fake)
    loaded = datasets.load("cifar10", None, "folder", shuffle_files=True)
    assert loaded["train"].options().autotune.enabled is False
    expected = {"split": None, "data_dir": "folder", "shuffle_files": True}
    assert calls == [("cifar10", expected)]


def test_fashion_mnist_unreachable_says_what_to_do(
    monkeypatch, tmp_path, capsys
):
    import tensorflow_datasets as tfds

    def no_network(self, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(loaders, "_DEBIAN", tmp_path / "none")
    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", no_network
    )
    with pytest.raises(ConnectionError, match="apt-get install dataset-") as e:
        datasets.fashion_mnist(tmp_path)
    assert "no route to host" in str(e.value)
    assert "apt-get install" in capsys.readouterr().out  # before the attempt


@needs_files
def test_damaged_files_are_refused(monkeypatch, tmp_path):
    import tensorflow_datasets as tfds

    source = tmp_path / "source"
    source.mkdir()
    for path in loaders._DEBIAN.glob("*.gz"):
        content = bytearray(path.read_bytes())
        content[-1] ^= "t10k-labels" in path.name
        (source / path.name).write_bytes(content)
    monkeypatch.setattr(loaders, "_DEBIAN", source)
    with pytest.raises(Exception, match="wrong checksum") as info:
        datasets.fashion_mnist(tmp_path / "data")
    assert "t10k-labels" in str(info.value)
    builder = tfds.builder("fashion_mnist", data_dir=tmp_path / "data")
    assert not builder.is_prepared()
