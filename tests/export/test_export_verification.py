"""What `verify` says of the costs of a file, and of its data."""

import json
import shutil
import warnings

import keras
import numpy as np
import pytest
from exporting import exported
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill import export
from keras_distill._data.sources import batches
from keras_distill.export.file import flatbuffer
from keras_distill.export.verification import memory
from keras_distill.export.verification import verification
from keras_distill.export.verification.labels import of_output
from keras_distill.export.verification.result import Verification

layers = keras.layers


@pytest.fixture(scope="module")
def student():
    keras.utils.set_random_seed(0)
    return convnet()


@pytest.fixture(scope="module")
def float_file(student, tmp_path_factory):
    """A file for images in [0, 255]."""
    return exported(
        student,
        tmp_path_factory.mktemp("files") / "float32.tflite",
        metadata={"input_range": (0, 255)},
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*lies in")
def test_costs_of_a_file(student, float_file, tmp_path):
    x, y = data(40)
    files = {
        "float32": float_file,
        "int8": exported(
            student,
            tmp_path / "b.tflite",
            quantization="int8",
            representative_dataset=x,
        ),
    }
    found = export.verify(
        files, student, (x, y), num_threads=2, latency_runs=7, verbose=False
    )
    products = kd.cost.multiply_accumulates(student)
    assert {row["multiply_accumulates"] for row in found.rows} == {products}
    keras_row, float32, int8 = found.rows
    assert float32["operators"] == {
        "CONV_2D": 2,
        "MEAN": 1,
        "FULLY_CONNECTED": 1,
    }
    assert int8["operators"]["QUANTIZE"] == 1
    assert float32["builtin_operators_only"] is True
    assert keras_row["operators"] is keras_row["memory_bytes"] is None
    assert 2**18 < float32["memory_bytes"] < 2**25
    assert found.num_threads == 2
    text = str(found)
    assert "this machine, not on a phone; 2 threads, 7 calls" in text
    assert "4 builtin" in text and f"{products:,}" in text
    assert max(map(len, text.splitlines())) < 120
    assert json.loads(found.to_json()) == found.as_dict()
    found = export.verify(
        files, student, x, measure_memory=False, latency_runs=0, verbose=False
    )
    assert found.rows[1]["memory_bytes"] is None
    assert "memory" not in str(found)


@pytest.mark.parametrize(
    ("y", "output", "found"),
    [
        ({"z": 0, "y": 1}, "output_0", r"dict with labels for \['z', 'y'\]"),
        ((0, 1), "z", r"tuple with labels for \['output_0', 'output_1'\]"),
        ([0, 1], "output_2", r"list with labels for \['output_0', 'output_1'"),
        ((None, 1), "output_0", r"tuple with labels for \['output_1'\]"),
    ],
)
def test_labels_that_do_not_come_as_the_outputs_do(y, output, found):
    with pytest.raises(ValueError, match=f"'{output}'.*Received: a {found}"):
        of_output(y, output)


def test_labels_come_as_the_outputs_do():
    y, other = np.arange(3), np.zeros(3)
    for labels, output in (
        (y, "output_0"),
        ((other, y), "output_1"),
        ({"z": y, "y": other}, "z"),
    ):
        assert of_output(labels, output) is y


def test_arrays_of_different_lengths_are_refused():
    for arrays in (
        (np.ones((10, 6)), np.ones(9)),
        {"x": np.ones((10, 6)), "y": np.ones(9)},
    ):
        with pytest.raises(ValueError, match=r"of `dataset`.*\[9, 10\]"):
            list(batches(arrays, "dataset"))
    given = list(batches((np.ones((40, 6)), None), "dataset"))
    assert [len(x) for x, _ in given] == [32, 8]


@pytest.mark.slow
def test_memory_grows_with_the_network(float_file, tmp_path):
    inputs = keras.Input((512,))
    wide = layers.Dense(8192)
    model = keras.Model(inputs, layers.Dense(2)(wide(inputs)))
    large = exported(model, tmp_path / "a.tflite")
    # 16 MiB of weights were read, by a process that never saw TensorFlow.
    grown = memory.resident_memory(large, {}) - memory.resident_memory(
        float_file, {}
    )
    assert 14 * 2**20 < grown < 80 * 2**20
    damaged = tmp_path / "c.tflite"
    damaged.write_bytes(large.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="memory of '.*c.tflite' could not"):
        assert memory.resident_memory(damaged, {}) is None


def test_products_that_cannot_be_counted_are_left_out(tmp_path):
    class Own(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 2))

        def call(self, x):
            return keras.ops.matmul(x, self.kernel)

    inputs = keras.Input((6,))
    model = keras.Model(inputs, Own()(inputs))
    path = exported(model, tmp_path / "a.tflite")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = export.verify(
            path,
            model,
            np.ones((4, 6)),
            verbose=False,
            latency_runs=0,
            measure_memory=False,
        )
    assert found.rows[0]["multiply_accumulates"] is None


def test_an_error_while_products_are_counted_costs_one_cell(monkeypatch):
    def fails(model, shape):
        raise TypeError("in a layer of the user's own")

    monkeypatch.setattr(kd.cost, "multiply_accumulates", fails)
    sample = np.ones((1, 8, 8, 3), "float32")
    assert verification._multiply_accumulates(convnet(), sample) is None


@pytest.mark.parametrize("labelled", [True, False])
def test_data_in_another_range_is_told_with_both_ranges(
    labelled, student, float_file, tmp_path
):
    x = np.linspace(0, 1, 30 * 192, dtype="float32").reshape(30, 8, 8, 3)
    paths = [
        shutil.copy(float_file, tmp_path / name)
        for name in ("a.tflite", "b.tflite")
    ]
    options = dict(verbose=False, latency_runs=0, measure_memory=False)
    y = np.zeros(30)
    with pytest.warns(UserWarning) as seen:
        export.verify(paths, student, (x, y) if labelled else x, **options)
    (message,) = (str(w.message) for w in seen if "lies in" in str(w.message))
    assert "'image' lies in [0, 1]" in message
    assert "['a.tflite', 'b.tflite'] expect [0, 255]" in message
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        export.verify(paths, student, (255 * x, y), **options)


@pytest.mark.slow
def test_memory_is_measured_on_a_sample_of_the_data(tmp_path):
    # Mean pooling over a mask divides by the number of tokens.
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    h = layers.Embedding(10, 4, mask_zero=True)(tokens)
    h = layers.GlobalAveragePooling1D()(h)
    model = keras.Model(tokens, layers.Dense(2)(h))
    x = np.random.default_rng(0).integers(1, 10, (50, 6)).astype("int32")
    with pytest.warns(UserWarning, match="is not integer throughout"):
        path = exported(
            model,
            tmp_path / "a.tflite",
            quantization="int8",
            representative_dataset=x,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = export.verify(path, model, x, latency_runs=0, verbose=False)
    assert found.rows[1]["memory_bytes"] > 2**18
    with pytest.warns(UserWarning, match="could not be measured.*div.cc"):
        assert memory.resident_memory(path, {}) is None


def test_the_table_says_what_the_bytes_are_for(float_file):
    parts = flatbuffer.size_parts(float_file)
    assert sum(parts.values()) == float_file.stat().st_size
    constants = 4 * export.metadata(float_file)["parameters"]
    # Statistics of batch normalization are folded in.
    assert abs(constants - parts["weights"]) < 100
    assert parts["metadata"] > 300 and parts["graph"] > 300
    float32 = {
        "file": "full",
        "quantization": "float32",
        "size_bytes": 4400,
        "latency_median_ms": 0.2,
    }
    parts = {"weights": 1000, "scales": 240, "metadata": 400, "graph": 360}
    int8 = {
        "file": "eight",
        "quantization": "int8",
        "parameters": 1000,
        "size_bytes": 2000,
        "size_parts": parts,
        "latency_median_ms": 0.5,
    }
    lines = str(Verification([float32, int8], 1, "output_0", 1, 9)).splitlines()
    assert lines[-2] == (
        "'eight' has 50 % of the bytes of its weights in float32: weights "
        "50 %, scales 12 %, metadata 20 %, graph 18 %."
    )
    assert lines[-1].startswith("'eight' takes 2.5 times as long as 'full' on")
    small = {**int8, "size_bytes": 1200, "latency_median_ms": 0.1}
    text = str(Verification([float32, small], 1, "output_0", 1, 9))
    assert "weights in float32" not in text and "times as long" not in text


def test_foreign_operators_stand_in_the_table():
    row = {
        "file": "a",
        "operators": {"CONV_2D": 3, "FlexErf": 2},
        "builtin_operators_only": False,
        "foreign_operators": ["FlexErf"],
    }
    text = str(Verification([row], 1, "output_0", 1, 0))
    assert "5, not builtin: FlexErf" in text


@pytest.mark.nightly
def test_bounds_on_fashion_mnist(tmp_path):
    try:
        split = kd.datasets.fashion_mnist()
    except ConnectionError:
        pytest.skip("Fashion-MNIST is not there")
    student = keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    student.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(3e-3, 4 * 313)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x, y = split.x_train[:20000], split.y_train[:20000]
    student.fit(x, y, batch_size=64, epochs=4, verbose=0)
    files = {
        str(name): exported(
            student,
            tmp_path / f"{name}.tflite",
            quantization=name,
            representative_dataset=x,
        )
        for name in (None, "float16", "int8")
    }
    found = export.verify(
        files,
        student,
        (split.x_test, split.y_test),
        max_accuracy_drop=0.5,
        latency_runs=0,
        verbose=False,
    )
    print(found)
    rows = {row["file"]: row for row in found.rows}
    assert rows["student (Keras)"]["accuracy"] > 0.75
    assert rows["None"]["max_relative_difference"] <= 1e-4
    assert rows["float16"]["agreement"] >= 0.999
    assert rows["int8"]["accuracy_drop_points"] <= 0.5
