"""`kd.export`'s child process, and what is said when TFLite refuses."""

import ast
import json
import pathlib
import subprocess

import keras
import numpy as np
import pytest
from exporting import exported

from keras_distill import export
from keras_distill.export.conversion import conversion
from keras_distill.export.conversion import converter
from keras_distill.export.conversion import explanation
from keras_distill.export.file import flatbuffer
from keras_distill.export.file.flatbuffer import Operator
from keras_distill.export.request import ExportRequest
from keras_distill.export.verification import memory
from keras_distill.export.writing import write

layers = keras.layers


def dense():
    return keras.Sequential(
        [
            keras.Input((6,), name="features"),
            layers.Dense(16, activation="relu"),
            layers.Dense(3),
        ]
    )


def uniform(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype("float32")


def int8(model, folder, data, **options):
    return export.tflite(
        model,
        folder / "a.tflite",
        quantization="int8",
        representative_dataset=data,
        **options,
    )


class Watched(subprocess.Popen):
    started = []

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        Watched.started.append(self)


@pytest.fixture
def children(monkeypatch):
    """The processes that a conversion started."""
    Watched.started = []
    monkeypatch.setattr(conversion.subprocess, "Popen", Watched)
    return Watched.started


@pytest.fixture
def child_runs(tmp_path_factory, monkeypatch):
    """Replaces what a child process runs, which imports TensorFlow first."""
    script = tmp_path_factory.mktemp("child") / "child.py"
    monkeypatch.setattr(converter, "__file__", str(script))
    return script.write_text


@pytest.mark.slow
def test_the_child_writes_what_the_parent_would(children, tmp_path, capsys):
    model, x = dense(), uniform(64, 6)
    path = int8(model, tmp_path, x)
    assert [child.returncode for child in children] == [0]
    assert "64/64" in capsys.readouterr().out  # progress crosses processes
    in_child = export.load(path)(x)
    path = exported(
        model,
        path,
        quantization="int8",
        representative_dataset=x,
        overwrite=True,
    )
    assert len(children) == 1
    assert capsys.readouterr().out == ""
    np.testing.assert_array_equal(export.load(path)(x), in_child)


def test_recurrent_layers_do_without_cudnn():
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.GRU(3, use_cudnn=True),
        ]
    )
    inside = [
        layer
        for layer in model._flatten_layers()
        if hasattr(layer, "use_cudnn")
    ]
    before = [layer.use_cudnn for layer in inside]
    assert len(inside) >= 3 and all(before)
    with conversion.convertible(model._flatten_layers(), unroll=False):
        assert not any(layer.use_cudnn for layer in inside)
    assert [layer.use_cudnn for layer in inside] == before


def halves():
    """A map of policies: one layer in half precision, one in another."""
    policies = keras.dtype_policies.DTypePolicyMap()
    policies["body"] = keras.DTypePolicy("mixed_bfloat16")
    policies["tail"] = keras.DTypePolicy("float16")
    inputs = keras.Input((6,), name="features")
    h = layers.Dense(4, dtype=policies, name="body")(inputs)
    h = layers.Dense(3, dtype=policies, name="tail")(h)
    return keras.Model(inputs, h), policies


@pytest.mark.slow
def test_policies_from_a_map_are_put_back(tmp_path):
    model, policies = halves()
    body, tail = model.get_layer("body"), model.get_layer("tail")
    before, config = dict(policies), model.get_config()
    x = uniform(4, 6)
    y = np.asarray(model(x), "float32")
    with conversion.convertible([model, body, tail], unroll=False):
        assert body.compute_dtype == tail.compute_dtype == "float32"
        assert tail.variable_dtype == "float16"  # weights stay as they are
    path = exported(model, tmp_path / "a.tflite")
    assert (body.compute_dtype, tail.compute_dtype) == ("bfloat16", "float16")
    assert body.dtype_policy is policies and tail.dtype_policy is policies
    assert dict(policies) == before
    np.testing.assert_array_equal(np.asarray(model(x), "float32"), y)
    np.testing.assert_allclose(export.load(path)(x), y, atol=3e-2)
    assert model.get_config() == config
    model.save(tmp_path / "a.keras")


def test_policies_are_put_back_after_an_error():
    model, policies = halves()
    before = dict(policies)
    with pytest.raises(RuntimeError):
        with conversion.convertible(model.layers, unroll=False):
            raise RuntimeError
    assert model.layers[1].dtype_policy is policies
    assert dict(policies) == before


@pytest.mark.slow
def test_float_files_need_no_child(children, tmp_path):
    for quantization in (None, "float16", "dynamic"):
        export.tflite(
            dense(),
            tmp_path / f"{quantization}.tflite",
            quantization=quantization,
            verbose=False,
        )
    assert children == []


@pytest.mark.slow
def test_a_crash_of_the_converter_is_an_error_here(
    children, tmp_path, monkeypatch
):
    # A loop that stays a loop: calibration ends its process.
    looped = property(lambda self: False, lambda self, value: None)
    monkeypatch.setattr(layers.RNN, "unroll", looped, raising=False)
    inputs = keras.Input((5, 4), name="sequence")
    model = keras.Model(inputs, layers.Dense(3)(layers.LSTM(6)(inputs)))
    with pytest.raises(
        export.ExportError,
        match=r"crashed.*SIGSEGV \(signal 11\) while it ran.*sample 1 of 20",
    ):
        int8(model, tmp_path, uniform(20, 5, 4), verbose=False)
    assert [child.returncode for child in children] == [-11]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import os, signal\n"
            "print('sample', flush=True)\n"
            "os.kill(os.getpid(), signal.SIGSEGV)",
            r"converter crashed; its process was ended by SIGSEGV \(signal "
            r"11\) while it ran .*\(sample 1 of 20\)\. Loops are",
        ),
        (
            "import sys\n"
            "sys.stderr.write('F0000 Check failed: size > 0\\n')\n"
            "sys.exit(3)",
            "exit status 3 before it ran the network. It said: F0000 Check "
            "failed: size > 0",
        ),
        (
            "import pathlib, sys\n"
            "pathlib.Path(sys.argv[1], 'failure.json').write_text("
            '\'{"type": "KeyError", "text": "no: dice"}\')\n'
            "sys.exit(1)",
            r"quantization='int8'\. KeyError: no: dice$",
        ),
    ],
)
def test_what_a_child_ends_with(code, message, children, child_runs, tmp_path):
    child_runs(code)
    with pytest.raises(export.ExportError, match=message):
        int8(dense(), tmp_path, uniform(20, 6), verbose=False)
    assert len(children) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_child_says_what_the_converter_raised(tmp_path, capsys):
    converter.store_samples(tmp_path / converter.SAMPLES, [])
    settings = {
        "quantization": None,
        "signature_name": "serving_default",
        "has_ranges": False,
    }
    (tmp_path / converter.SETTINGS).write_text(json.dumps(settings))
    assert converter.main(tmp_path) == 1  # there is no SavedModel
    failure = json.loads((tmp_path / converter.FAILURE).read_text())
    assert failure["type"] == "OSError"
    assert "SavedModel file does not exist" in failure["text"]


def test_an_interrupt_leaves_no_process_behind(
    children, child_runs, tmp_path, monkeypatch
):
    def interrupt(self):
        raise KeyboardInterrupt

    child_runs("import time\nprint('sample', flush=True)\ntime.sleep(600)")
    monkeypatch.setattr(conversion._Progress, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        int8(dense(), tmp_path, uniform(64, 6), verbose=False)
    assert len(children) == 1
    assert children[0].returncode is not None  # ended and waited for
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_integer_failure_names_operator_and_layer(tmp_path):
    inputs = keras.Input((4, 4, 3), name="image")
    h = layers.Conv2D(4, 3, name="conv")(inputs)
    h = layers.Activation("hard_swish", name="swish")(h)
    model = keras.Model(inputs, layers.Flatten()(h))
    with pytest.raises(
        export.ExportError,
        match=r"'int16x8'.*HARD_SWISH in layer 'swish' \(Activation\)\.",
    ):
        exported(
            model,
            tmp_path / "a.tflite",
            quantization="int16x8",
            representative_dataset=uniform(8, 4, 4, 3),
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_operators_of_layers_in_layers_are_found(tmp_path):
    erf = layers.Lambda(keras.ops.erf, name="own_gelu")
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4), erf], name="backbone"
    )
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(keras.ops.erf(inner(inputs))))
    with pytest.raises(export.ExportError, match="no builtin.*: Erf") as info:
        export.tflite(model, tmp_path / "a.tflite", verbose=False)
    assert list(tmp_path.iterdir()) == []
    assert (
        f"Erf in layer 'backbone/own_gelu' (Lambda), '{model.name}', outside "
        "of its layers."
    ) in str(info.value)


def test_flex_operators_only_on_request(tmp_path):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(keras.ops.erf(inputs)))
    with pytest.warns(UserWarning, match="not run: it needs.*Flex.*FlexErf"):
        path = export.tflite(
            model,
            tmp_path / "a.tflite",
            interface=export.Interface(allow_select_tf_ops=True),
            verbose=False,
        )
    assert export.metadata(path)["model"] == model.name


class Noise(layers.Layer):
    """Forgets to look at `training`."""

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))


@pytest.mark.slow
def test_text_is_refused(tmp_path):
    text = keras.Input((), dtype="string")
    ids = layers.TextVectorization(vocabulary=["a", "b"], name="ids")(text)
    model = keras.Model(text, layers.Embedding(4, 2)(ids))
    with pytest.raises(
        export.ExportError,
        match=r"split or hash.*'ids' \(TextVectorization\).*part behind that",
    ):
        export.tflite(model, tmp_path / "a.tflite", verbose=False)


@pytest.mark.slow
def test_random_numbers_are_refused(tmp_path):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(Noise(name="noise")(inputs)))
    with pytest.raises(
        export.ExportError, match=r"Random\w+ in layer 'noise' \(Noise\).*only"
    ):
        export.tflite(model, tmp_path / "a.tflite", verbose=False)
    with pytest.raises(
        export.ExportError, match=r"draw random numbers: Flex\w+ in layer 'noi"
    ):
        export.tflite(
            model,
            tmp_path / "a.tflite",
            interface=export.Interface(allow_select_tf_ops=True),
            verbose=False,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_augmentation_and_dropout_leave_nothing_in_the_file(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.RandomContrast(0.2),
            layers.GaussianNoise(0.1),
            layers.Dropout(0.5),
            layers.Conv2D(2, 3),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    path = export.tflite(model, tmp_path / "a.tflite", verbose=False)
    counts = flatbuffer.operator_counts(flatbuffer.operators(path))
    assert counts == {"CONV_2D": 1, "RESHAPE": 1, "FULLY_CONNECTED": 1}


def test_samples_of_different_sizes_are_stored(tmp_path):
    samples = [
        {"b": uniform(1, 4 + i, 3), "a": np.full((1,), i)} for i in range(12)
    ]
    converter.store_samples(tmp_path / "s.npz", samples)
    stored = converter.StoredSamples(tmp_path / "s.npz")
    for before, after in zip(samples, stored, strict=True):
        assert list(before) == list(after)
        for name in before:
            np.testing.assert_array_equal(before[name], after[name])
            assert before[name].dtype == after[name].dtype


def test_stored_samples_are_read_one_at_a_time(tmp_path, monkeypatch):
    samples = [{"a": np.full((1,), i)} for i in range(12)]
    converter.store_samples(tmp_path / "s.npz", samples)
    read, load = [], np.lib.npyio.NpzFile.__getitem__

    def counted(self, key):
        read.append(key)
        return load(self, key)

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", counted)
    stored = converter.StoredSamples(tmp_path / "s.npz")
    for _ in range(2):  # int16x8 goes through them twice
        read.clear()
        for i, sample in enumerate(stored):
            assert sample["a"] == i and len(read) == i + 1


def fed(samples, batch, dtype="float32"):
    """The batches that the converter is given."""
    settings = {
        "calibration_batch": batch,
        "calibration_dtypes": dict.fromkeys(samples[0], dtype),
    }
    return [
        converter._batch(group, settings)
        for group in converter._groups(samples, batch)
    ]


def test_samples_are_fed_in_the_batch_of_the_signature():
    samples = [{"a": np.full((1, 2), i, "uint8")} for i in range(5)]
    batches = fed(samples, 2)
    assert {batch["a"].shape for batch in batches} == {(2, 2)}
    assert {batch["a"].dtype.name for batch in batches} == {"float32"}
    firsts = [batch["a"][:, 0].tolist() for batch in batches]
    assert firsts == [[0, 1], [2, 3], [4, 4]]
    assert [len(b["a"]) for b in fed(samples, 1)] == [1] * 5
    # What does not stack is repeated alone.
    samples = [{"a": np.full((1, size), size)} for size in (3, 3, 3, 5, 4)]
    shapes = [batch["a"].shape for batch in fed(samples, 2)]
    assert shapes == [(2, 3), (2, 3), (2, 5), (2, 4)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "quantization", ["int8", pytest.param("int16x8", marks=pytest.mark.slow)]
)
def test_a_fixed_batch_inside_of_the_network(quantization, tmp_path, capsys):
    inputs = keras.Input((4, 4, 1), name="image")
    h = layers.Reshape((2, 8))(layers.Flatten()(inputs))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(h)))
    x = uniform(10, 4, 4, 1)
    request = ExportRequest(
        model,
        tmp_path / "a.tflite",
        quantization=quantization,
        representative_dataset=x,
        interface=export.Interface(batch_size=4),
    )
    path = write(request, in_child=False)
    assert "10/10" in capsys.readouterr().out
    notes = export.metadata(path)
    assert notes["representative_samples"] == 10
    assert notes["inputs"]["image"]["shape"][0] == 4
    z = np.asarray(model(x))
    assert np.abs(export.load(path)(x) - z).max() / np.abs(z).max() < 0.08


@pytest.mark.parametrize("module", [converter, memory])
def test_what_runs_in_a_child_imports_nothing_of_this_package(module):
    tree = ast.parse(pathlib.Path(module.__file__).read_text())
    found = {
        (getattr(node, "module", None) or node.names[0].name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert found and not {"keras_distill", "keras"} & found
    assert module is converter or "tensorflow" not in found


# The words, without a converter.


def net():
    inner = keras.Sequential(
        [keras.Input((3,)), layers.Dense(3, name="dense_1")], name="inner"
    )
    inputs = keras.Input((3,))
    h = layers.Dense(3, name="dense")(inputs)
    return keras.Model(inputs, inner(h), name="net")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("net/dense/MatMul", "layer 'dense' (Dense)"),
        ("net/inner/dense_1/MatMul", "layer 'inner/dense_1' (Dense)"),
        # Traced a second time, TensorFlow numbers every scope.
        ("net_1/dense_1/MatMul", "layer 'dense' (Dense)"),
        ("net_1/inner_1/dense_1_1/MatMul", "layer 'inner/dense_1' (Dense)"),
        ("net_1/dense_1/Relu;net_1/inner_1/x", "layer 'dense' (Dense)"),
        ("net_1/Erf", None),
        ("StatefulPartitionedCall:0", None),
        ("", None),
    ],
)
def test_layer_of_a_path(path, expected):
    assert explanation.layer_of(path, net()) == expected


def test_many_layers_are_not_all_named():
    model = keras.Sequential(
        [keras.Input((3,)), *(layers.ReLU(name=f"r{i}") for i in range(6))],
        name="net",
    )
    parts = [explanation.Part("RELU", f"net/r{i}/Relu") for i in range(6)]
    assert explanation.described(parts, model) == (
        "RELU in layer 'r0' (ReLU), layer 'r1' (ReLU), layer 'r2' (ReLU) and "
        "3 more"
    )


def test_an_interpreter_names_a_node_by_its_number():
    operators = [
        Operator("CONV_2D", True, ("net/dense/convolution",)),
        Operator("ADD", True, ("net/inner/dense_1/add",)),
    ]
    text = "kernel_util.cc:349 x was not true.Node number 1 (ADD) failed to "
    part = explanation.unprepared(text + "prepare.", operators)
    assert explanation.described([part], net()) == (
        "ADD in layer 'inner/dense_1' (Dense)"
    )
    # Delegates renumber: a number that does not fit is not believed.
    part = explanation.unprepared(
        "Node number 0 (ADD) failed to invoke.", operators
    )
    assert explanation.described([part], net()) == "ADD"
    assert explanation.unprepared("no more memory", operators) is None


def test_crashes_have_names():
    assert explanation.crash(-11) == "was ended by SIGSEGV (signal 11)"
    assert explanation.crash(-6) == "was ended by SIGABRT (signal 6)"
    assert explanation.crash(3) == "ended with exit status 3"
