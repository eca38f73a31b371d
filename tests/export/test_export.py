"""`kd.export`: the files, what is refused, and the numbers of `verify`."""

import json
import pathlib
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from exporting import exported
from marks import nightly

from keras_distill import export
from keras_distill.export import formats
from keras_distill.export import model_inputs
from keras_distill.export import paths
from keras_distill.export import request
from keras_distill.export.conversion import conversion
from keras_distill.export.file import lite_model

layers = keras.layers
INTEGER = ("int8", "int16x8")
# Largest difference allowed, relative to the largest output.
TOLERANCE = {
    None: 1e-5,
    "float16": 5e-3,
    "dynamic": 5e-2,
    "int8": 8e-2,
    "int16x8": 8e-2,
}


def dense():
    return keras.Sequential(
        [
            keras.Input((6,), name="features"),
            layers.Dense(16, activation="relu"),
            layers.Dense(3),
        ]
    )


def two_inputs():
    """The order of its inputs and outputs is not the alphabetical one."""
    b = keras.Input((8,), name="b")
    a = keras.Input((4,), name="a")
    h = layers.Concatenate()(
        [layers.Dense(7, activation="relu")(b), layers.Dense(9)(a)]
    )
    return keras.Model(
        {"b": b, "a": a},
        {"z": layers.Dense(5)(h), "y": layers.Dense(2)(h)},
    )


def two_inputs_data(n=64, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "b": rng.normal(size=(n, 8)).astype("float32"),
        "a": rng.normal(size=(n, 4)).astype("float32"),
    }


def features(n=64, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 6)).astype("float32")


def largest_relative_difference(expected, actual):
    expected, actual = np.asarray(expected), np.asarray(actual)
    assert expected.shape == actual.shape
    return np.abs(expected - actual).max() / np.abs(expected).max()


def tensor_dtypes(path):
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=(
            OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    return {np.dtype(d["dtype"]).name for d in interpreter.get_tensor_details()}


def by_hand(path, x):
    """Outputs of the first output of a float file, driven without kd."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    sink = interpreter.get_output_details()[0]["index"]
    outputs = []
    for sample in x:
        interpreter.set_tensor(source, sample[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(sink)[0].copy())
    return np.array(outputs)


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order].astype("int32")
    return (x[:1200], y[:1200]), (x[1200:], y[1200:])


@pytest.fixture(scope="module")
def student(digits):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    h = layers.RandomTranslation(0.1, 0.1)(image)
    h = layers.Conv2D(16, 3, padding="same")(h)
    h = layers.BatchNormalization()(h)
    h = layers.ReLU()(h)
    h = layers.MaxPooling2D()(h)
    h = layers.Dropout(0.2)(h)
    model = keras.Model(image, layers.Dense(10)(layers.Flatten()(h)))
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(*digits[0], batch_size=100, epochs=15, verbose=0)
    return model


@pytest.fixture(scope="module")
def files(student, digits, tmp_path_factory):
    """quantization -> file of the trained student."""
    folder = tmp_path_factory.mktemp("files")
    return {
        quantization: exported(
            student,
            folder / f"{quantization or 'float32'}.tflite",
            quantization=quantization,
            representative_dataset=digits[0],
        )
        for quantization in request.QUANTIZATIONS
    }


@pytest.fixture(scope="module")
def dense_file(tmp_path_factory):
    """A model and its float file."""
    model = dense()
    path = tmp_path_factory.mktemp("dense") / "dense.tflite"
    return model, exported(model, path)


@pytest.fixture(scope="module")
def two_files(tmp_path_factory):
    """The model `two_inputs` and a function quantization -> its file."""
    model, folder, made = two_inputs(), tmp_path_factory.mktemp("two"), {}

    def file(quantization=None):
        if quantization not in made:
            made[quantization] = exported(
                model,
                folder / f"{quantization}.tflite",
                quantization=quantization,
                representative_dataset=two_inputs_data(),
            )
        return made[quantization]

    return model, file


# The files.


@pytest.mark.parametrize("quantization", request.QUANTIZATIONS)
def test_convnet(quantization, files, student, digits):
    x, _ = digits[1]
    path = files[quantization]
    expected = student.predict(x, verbose=0)
    actual = export.load(path)(x)
    difference = largest_relative_difference(expected, actual)
    assert difference <= TOLERANCE[quantization]
    agreement = np.mean(expected.argmax(-1) == actual.argmax(-1))
    # Of 597 samples float16 may flip one: there may be a tie.
    bounds = {None: 1.0, "float16": 0.998}
    assert agreement >= bounds.get(quantization, 0.99)
    # That it was quantized at all, and as asked.
    dtypes = tensor_dtypes(path)
    assert ("float16" in dtypes) == (quantization == "float16")
    assert ("int8" in dtypes) == (quantization in ("dynamic", *INTEGER))
    assert ("int16" in dtypes) == (quantization == "int16x8")
    if quantization in INTEGER:
        assert lite_model.float_tensors(path) == []


@pytest.mark.slow
def test_dense_network(dense_file):
    (model, path), x = dense_file, features()
    difference = largest_relative_difference(model(x), export.load(path)(x))
    assert difference <= TOLERANCE[None]


@pytest.mark.slow
@pytest.mark.parametrize(
    "quantization",
    [
        None,
        "int8",
        *nightly("float16", "dynamic", "int16x8"),
    ],
)
def test_two_inputs_and_two_outputs(quantization, two_files):
    (model, file), x = two_files, two_inputs_data()
    file = export.load(file(quantization))
    assert sorted(file.input_names) == ["a", "b"]
    assert sorted(file.output_names) == ["y", "z"]
    expected, actual = model(x), file(x)
    for name in ("y", "z"):
        difference = largest_relative_difference(expected[name], actual[name])
        assert difference <= TOLERANCE[quantization]


@pytest.mark.slow
def test_lists_of_inputs_and_outputs(tmp_path):
    a, b = keras.Input((4,)), keras.Input((8,), name="second")
    h = layers.Concatenate()([layers.Dense(3)(a), layers.Dense(3)(b)])
    outputs = [layers.Dense(i + 1)(h) for i in range(11)]  # output_10 < _2
    model = keras.Model([a, b], outputs)
    data = two_inputs_data()
    x = [data["a"], data["b"]]
    _, inputs = model_inputs.input_signature(model)
    (first, *_) = model_inputs.representative_samples((x,), 9, inputs)
    np.testing.assert_array_equal(first["input_0"], x[0][:1])
    np.testing.assert_array_equal(first["second"], x[1][:1])
    file = export.load(exported(model, tmp_path / "list.tflite"))
    actual = file({"input_0": x[0], "second": x[1]})
    for i, expected in enumerate(model(x)):
        difference = largest_relative_difference(
            expected, actual[f"output_{i}"]
        )
        assert difference <= TOLERANCE[None]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x, training=None):
        return {"logits": self.dense(x["p"]), "twice": 2 * self.dense(x["p"])}


@pytest.mark.slow
def test_subclassed_model(tmp_path):
    model, x = Subclassed(), {"p": features()}
    expected = model(x)
    actual = export.load(exported(model, tmp_path / "a.tflite"))(x)
    for name in ("logits", "twice"):
        assert largest_relative_difference(expected[name], actual[name]) < 1e-5


@pytest.mark.slow
def test_the_file_has_batch_one_and_a_stable_input_name(tmp_path):
    for _ in range(2):  # anonymous inputs: Keras counts them up
        inputs = keras.Input((5,))
        model = keras.Model(inputs, layers.Dense(2)(inputs))
        (spec,) = request.ExportRequest(model, tmp_path / "a.tflite").signature
        assert (spec.name, tuple(spec.shape)) == ("input", (1, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # key is no tensor's name
        model = keras.Model({"my key/0": inputs}, layers.Dense(2)(inputs))
    file = export.load(exported(model, tmp_path / "key.tflite"))
    assert file.input_names == ["my_key_0"]
    (detail,) = file._interpreter.get_input_details()
    assert list(detail["shape_signature"]) == [1, 5]


@pytest.mark.slow
def test_input_signature(tmp_path):
    inputs = keras.Input((None, None, 3), name="image")
    h = layers.Conv2D(4, 3)(inputs)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(h))
    with pytest.raises(ValueError, match="leaves sizes open.*None"):
        exported(model, tmp_path / "a.tflite")
    path = exported(
        model,
        tmp_path / "a.tflite",
        interface=export.Interface(
            input_signature=[tf.TensorSpec((4, 9, 7, 3), tf.float32)]
        ),
    )
    x = np.random.default_rng(0).normal(size=(10, 9, 7, 3)).astype("float32")
    file = export.load(path)  # 10 samples through a file of batch 4
    assert file.input_names == ["image"]
    assert largest_relative_difference(model(x), file(x)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_student(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((8, 8, 3))
    h = layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs))
    h = layers.GlobalAveragePooling2D()(layers.ReLU()(h))
    model = keras.Model(inputs, layers.Dense(3, dtype="float32")(h))
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")
    before = model(x).numpy()
    file = export.load(exported(model, tmp_path / "half.tflite"))
    assert file.input_dtypes == {"input": "float32"}
    # Left as it was: policies, and so every bit of what it computes.
    assert all(layer.dtype_policy.name == policy for layer in model.layers[1:5])
    np.testing.assert_array_equal(model(x).numpy(), before)
    assert largest_relative_difference(before, file(x)) < 3e-2
    # The file computes in float32, from the same weights.
    exact = keras.models.clone_model(
        model,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "dtype": "float32"}
        ),
    )
    exact.set_weights(model.get_weights())
    assert largest_relative_difference(exact(x), file(x)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantization", "tolerance"), [("int8", 0.4), ("int16x8", 0.02)]
)
@pytest.mark.filterwarnings("ignore:.*is not integer throughout")
def test_recurrent_layers_quantize(quantization, tolerance, tmp_path):
    # Not unrolled, calibration of either ends the whole process (SIGSEGV).
    inputs = keras.Input((2, 4), name="sequence")
    h = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.GRU(6)(h)))
    x = np.random.default_rng(0).normal(size=(64, 2, 4)).astype("float32")
    path = exported(
        model,
        tmp_path / "rnn.tflite",
        quantization=quantization,
        representative_dataset=x,
    )
    difference = largest_relative_difference(model(x), export.load(path)(x))
    assert difference < tolerance
    wrapper, gru = model.layers[1], model.layers[2]
    assert not wrapper.forward_layer.unroll and not gru.unroll


def test_int8_keeps_the_accuracy_of_digits(files, student, digits):
    found = export.verify(
        list(files.values()),
        student,
        digits[1],
        verbose=False,
        latency_runs=0,
        measure_memory=False,
    )
    assert found.rows[0]["accuracy"] > 0.95  # it has learned something to lose
    assert found.check(max_accuracy_drop=0.5) is found


@pytest.mark.parametrize("quantization", INTEGER)
def test_integer_io(quantization, tmp_path):
    # One layer: its range is that of the representative data.
    inputs = keras.Input((6,), name="features")
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    x = features(200)
    x[:, 0] = np.linspace(-3.0, 7.0, 200)
    path = exported(
        model,
        tmp_path / "integer.tflite",
        quantization=quantization,
        representative_dataset=(x, np.zeros(200)),
        interface=export.Interface(integer_io=True),
    )
    file = export.load(path)
    dtype = {"int8": "int8", "int16x8": "int16"}[quantization]
    assert file.input_dtypes == {"features": dtype}
    assert list(file.output_dtypes.values()) == [dtype]
    assert "float32" not in tensor_dtypes(path)
    # Scales by hand, sample by sample.
    (source,) = file._interpreter.get_input_details()
    (sink,) = file._interpreter.get_output_details()
    (s_in, z_in), (s_out, z_out) = source["quantization"], sink["quantization"]
    lengths = {"int8": (7.0 - x.min()) / 255, "int16x8": 7.0 / 32767}
    np.testing.assert_allclose(s_in, lengths[quantization], rtol=1e-3)
    assert s_out > 0
    integers = np.clip(
        np.rint(x / s_in) + z_in, np.iinfo(dtype).min, np.iinfo(dtype).max
    )
    expected = s_out * (
        by_hand(path, integers.astype(dtype)).astype("float64") - z_out
    )
    actual = file(x)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    difference = largest_relative_difference(model(x), actual)
    assert difference <= TOLERANCE[quantization]


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return len(self.x) // 8

    def __getitem__(self, index):
        return self.x[8 * index : 8 * index + 8], np.zeros(8)


FORMS = {
    "array": lambda x: x,
    "tensor": tf.constant,
    "tuple": lambda x: (x, np.zeros(len(x))),
    "dict": lambda x: {"features": x},
    "batches": lambda x: [x[:30], x[30:]],
    "labelled": lambda x: [(x[:30], 0), (x[30:], 0)],
    "listed": lambda x: [[sample[None]] for sample in x],
    "function": lambda x: lambda: ((s[None], 0, 1.0) for s in x),
    "generator": lambda x: (s[None] for s in x),
    "pydataset": Batches,
    "tf.data": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(7),
    "tf.data, labels": lambda x: tf.data.Dataset.from_tensor_slices(
        (x, x, x)
    ).batch(7),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_representative_data(form):
    x = features(64).astype("float64")
    _, inputs = model_inputs.input_signature(dense())
    samples = model_inputs.representative_samples(FORMS[form](x), 500, inputs)
    assert {sample["features"].shape for sample in samples} == {(1, 6)}
    assert {sample["features"].dtype for sample in samples} == {
        np.dtype("float32")
    }
    seen = np.concatenate([sample["features"] for sample in samples])
    np.testing.assert_array_equal(seen, x.astype("float32"))


def test_representative_samples_is_a_limit():
    x = np.arange(600, dtype="float32")[:, None].repeat(6, 1)
    _, inputs = model_inputs.input_signature(dense())

    def seen(data, limit):
        samples = model_inputs.representative_samples(data, limit, inputs)
        return [int(sample["features"][0, 0]) for sample in samples]

    assert seen(x, 7) == [0, 99, 199, 299, 399, 499, 599]  # evenly spaced
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(4).repeat()
    assert seen(dataset, 7) == list(range(7))  # an endless dataset, too


def test_representative_samples_are_500_or_as_many_as_you_say(tmp_path):
    def count(data):
        return len(
            request.ExportRequest(
                dense(),
                tmp_path / "a.tflite",
                quantization="int8",
                representative_dataset=data,
            ).samples
        )

    x = features(600)
    assert count(x) == 500
    assert count(export.RepresentativeDataset(x, samples=7)) == 7
    assert count(export.RepresentativeDataset(x, samples=550)) == 550


# What is refused, and what is left behind.


class Empty(keras.Model):
    pass


ERRORS = {
    "no model": (
        dict(model="student.keras"),
        TypeError,
        "must be a keras.Model.*'student.keras' of type str",
    ),
    "unbuilt": (
        dict(model=keras.Sequential([layers.Dense(3)])),
        ValueError,
        "is not built",
    ),
    "suffix": (dict(filepath="a.lite"), ValueError, "must end in '.tflite'"),
    "quantization": (
        dict(quantization="int3"),
        ValueError,
        r"one of None, 'float16', 'dynamic', 'int8', 'int16x8'.*'int3'",
    ),
    "integer io": (
        dict(
            quantization="float16",
            interface=export.Interface(integer_io=True),
        ),
        ValueError,
        "integer_io=True.*needs.*float16",
    ),
    "int8 without data": (
        dict(quantization="int8"),
        ValueError,
        'quantization="int8" needs `representative_dataset=`',
    ),
    "int16x8 without data": (
        dict(quantization="int16x8"),
        ValueError,
        'quantization="int16x8" needs `representative_dataset=`',
    ),
    "empty array": (
        dict(quantization="int8", representative_dataset=features(0)),
        ValueError,
        "`representative_dataset` is empty",
    ),
    "empty dataset": (
        dict(
            quantization="int8",
            representative_dataset=tf.data.Dataset.from_tensor_slices(
                features()
            ).batch(128, drop_remainder=True),
        ),
        ValueError,
        "`representative_dataset` is empty",
    ),
    "wrong shape": (
        dict(quantization="int8", representative_dataset=np.ones((9, 5))),
        ValueError,
        r"shape \(9, 5\) for the input 'features'.*\('batch', 6\)",
    ),
    "one sample unbatched": (
        dict(
            quantization="int8",
            representative_dataset=tf.data.Dataset.from_tensor_slices(
                features()
            ),
        ),
        ValueError,
        r"shape \(6,\).*\('batch', 6\).*batch it",
    ),
    "wrong name": (
        dict(quantization="int8", representative_dataset={"image": features()}),
        ValueError,
        r"'features': \('batch', 6\).*\{'image': \(32, 6\)\}",
    ),
    "not finite": (
        dict(
            quantization="int8",
            representative_dataset=np.full((4, 6), np.nan),
        ),
        ValueError,
        "NaN or infinity",
    ),
    "no data": (
        dict(quantization="int8", representative_dataset=5),
        TypeError,
        "`representative_dataset` must be.*Received: 5",
    ),
    "interface": (
        dict(interface={"batch_size": 4}),
        TypeError,
        "must be a kd.export.Interface.*{'batch_size': 4} of type dict",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_come_before_conversion(case, tmp_path, monkeypatch):
    arguments, error, message = ERRORS[case]
    arguments = {"model": dense(), "filepath": "a.tflite", **arguments}
    arguments["filepath"] = tmp_path / "folder" / arguments["filepath"]

    def conversion_is_reached(*args, **kwargs):
        raise AssertionError("conversion was started")

    monkeypatch.setattr(conversion, "convert", conversion_is_reached)
    with pytest.raises(error, match=f"(?s){message}"):
        exported(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="`samples` must be an integer .*0"):
        export.RepresentativeDataset(features(), samples=0)


def test_a_subclassed_model_that_was_never_called(tmp_path):
    model = Empty()
    model.built = True
    with pytest.raises(ValueError, match="does not know its input shape"):
        exported(model, tmp_path / "a.tflite")


@pytest.fixture
def converts_at_once(dense_file, monkeypatch):
    """The model `dense` is converted to a file that is there already."""
    data = dense_file[1].read_bytes()
    monkeypatch.setattr(conversion, "convert", lambda *args: data)


def test_an_existing_file_is_replaced_only_on_request(
    tmp_path, converts_at_once, capsys
):
    path = tmp_path / "a.tflite"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export.tflite(dense(), path)
    assert path.read_bytes() == b"mine"
    assert export.tflite(dense(), str(path), overwrite=True) == path
    assert f"Saved '{path}': float32, " in capsys.readouterr().out
    assert path.read_bytes()[4:8] == b"TFL3"
    assert list(tmp_path.iterdir()) == [path]
    export.tflite(dense(), path, overwrite=True, verbose=False)
    assert capsys.readouterr().out == ""


def test_folders_are_made(tmp_path, converts_at_once):
    path = exported(dense(), tmp_path / "a" / "b" / "c.tflite")
    assert list((tmp_path / "a" / "b").iterdir()) == [path]


@pytest.mark.parametrize("existing", [None, b"mine"])
@pytest.mark.parametrize("where", ["conversion", "final check", "rename"])
def test_nothing_is_half_written(
    where, existing, tmp_path, monkeypatch, converts_at_once
):
    path = tmp_path / "a.tflite"
    if existing is not None:
        path.write_bytes(existing)
    seen = []

    def fail(*args):
        seen.extend(tmp_path.rglob("a.tflite"))
        raise OSError("no more disk")

    if where == "conversion":

        def half_a_write(self, data):
            with open(self, "wb") as file:
                file.write(data[: len(data) // 2])
            fail()

        monkeypatch.setattr(pathlib.Path, "write_bytes", half_a_write)
    elif where == "final check":
        monkeypatch.setattr(export.LiteModel, "__call__", fail)
    else:
        monkeypatch.setattr(paths.os, "replace", fail)
    with pytest.raises((OSError, export.ExportError), match="no more disk"):
        exported(dense(), path, overwrite=True)
    assert any(p.parent != tmp_path for p in seen)  # it had been begun
    if existing is None:
        assert list(tmp_path.iterdir()) == []
    else:
        assert list(tmp_path.iterdir()) == [path]
        assert path.read_bytes() == existing


def unary(function):
    inputs = keras.Input((4, 4, 3), name="image")
    return keras.Model(inputs, function(layers.Conv2D(4, 3)(inputs)))


@pytest.mark.slow
def test_operators_left_in_float_are_told(tmp_path):
    def convert(function):
        exported(
            unary(function),
            tmp_path / "a.tflite",
            quantization="int8",
            representative_dataset=np.random.default_rng(0).normal(
                size=(20, 4, 4, 3)
            ),
            overwrite=True,
        )

    with pytest.warns(UserWarning, match="'a.tflite' is not.*its output"):
        convert(keras.ops.sin)
    with pytest.warns(UserWarning, match="'a.tflite' is not integer.*/Sin"):
        convert(lambda x: layers.Dense(2)(keras.ops.sin(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        convert(keras.ops.relu)


# LiteModel.


def test_missing_foreign_and_truncated_files(files, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file '.*none.tflite'"):
        export.load(tmp_path / "none.tflite")
    path = tmp_path / "a.tflite"
    path.write_bytes(b"PK\x03\x04 this is an archive")
    with pytest.raises(ValueError, match="is not a TFLite file"):
        export.load(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is not a TFLite file"):
        export.load(path)
    whole = files[None].read_bytes()
    for length in (8, 100, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"{length} bytes.*truncated"):
            export.load(path)


@pytest.mark.slow
def test_lite_model_refuses_what_does_not_fit(files, two_files):
    file = export.load(files[None])
    with pytest.raises(ValueError, match=r"\('batch', 8, 8, 1\).*\(5, 8, 8\)"):
        file(np.zeros((5, 8, 8)))
    with pytest.raises(ValueError, match=r"inputs \['image'\].*'picture'"):
        file({"picture": np.zeros((5, 8, 8, 1))})
    with pytest.raises(ValueError, match="at least one"):
        file(np.zeros((0, 8, 8, 1)))
    two = export.load(two_files[1]())
    with pytest.raises(TypeError, match="a dict input name -> array"):
        two(np.zeros((5, 8)))
    with pytest.raises(ValueError, match="same number of samples"):
        two({"a": np.zeros((2, 4)), "b": np.zeros((3, 8))})


@pytest.mark.slow
def test_lite_model_reads_files_with_an_open_batch(tmp_path):
    model, path, x = dense(), tmp_path / "open.tflite", features(50)
    model.export(path, format="litert", verbose=False)
    file = export.load(path, num_threads=2)
    expected = np.asarray(model(x))
    for n in (1, 7, 50, 2):
        np.testing.assert_allclose(
            file(x[:n]), expected[:n], rtol=1e-4, atol=1e-4
        )


def test_whole_numbers_go_in_unscaled(tmp_path):
    tokens = keras.Input((3,), dtype="int32", name="tokens")
    h = layers.Flatten()(layers.Embedding(10, 4)(tokens))
    model = keras.Model(tokens, layers.Dense(2)(h))
    x = np.array([[1, 2, 3], [9, 0, 4]])
    file = export.load(exported(model, tmp_path / "tokens.tflite"))
    assert file.input_dtypes == {"tokens": "int32"}
    np.testing.assert_allclose(file(x), model(x), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="takes int32.*whole numbers"):
        file(x + 0.5)


@pytest.mark.parametrize(
    "dtype", ["int32", "bool", "uint8", "float16", "float64"]
)
@pytest.mark.parametrize("integer_io", [False, True])
def test_int16x8_needs_float_inputs(dtype, integer_io, tmp_path):
    ids = keras.Input((6,), dtype=dtype, name="ids")
    weights = keras.Input((6,), name="weights")
    h = keras.ops.cast(ids, "float32") + weights
    model = keras.Model([ids, weights], layers.Dense(2)(h))
    with pytest.raises(
        ValueError, match=rf"needs float32 inputs: 'ids' is {dtype}.*\"int8\""
    ):
        request.ExportRequest(
            model,
            tmp_path / "a.tflite",
            quantization="int16x8",
            representative_dataset={
                "ids": np.ones((9, 6), dtype),
                "weights": np.ones((9, 6)),
            },
            interface=export.Interface(integer_io=integer_io),
        )


@pytest.mark.parametrize("quantization", INTEGER)
def test_strings_cannot_be_calibrated_on(quantization, tmp_path):
    words = keras.Input((3,), dtype="string", name="words")
    h = layers.StringLookup(vocabulary=["a", "b"])(words)
    h = layers.Flatten()(layers.Embedding(5, 2)(h))
    with pytest.raises(ValueError, match="'words' is a string.*\"dynamic\""):
        request.ExportRequest(
            keras.Model(words, h),
            tmp_path / "a.tflite",
            quantization=quantization,
            representative_dataset=np.array([["a", "b", "c"]]),
        )


# verify.


@pytest.mark.slow
def test_verify_against_numbers_by_hand(files, student, digits):
    x, y = digits[1]
    teacher = keras.models.clone_model(student)
    rng = np.random.default_rng(1)
    teacher.set_weights(
        [w + rng.normal(0, 0.05, w.shape) for w in student.get_weights()]
    )
    # A student that is not the exported one, so that nothing is near zero.
    other = keras.models.clone_model(student)
    other.set_weights(
        [w + rng.normal(0, 0.05, w.shape) for w in student.get_weights()]
    )
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(100)
    found = export.verify(
        {"full": files[None], "eight": str(files["int8"])},
        other,
        dataset,
        teacher=teacher,
        latency_runs=20,
        measure_memory=False,
        verbose=False,
    )
    assert [r["file"] for r in found.rows] == [
        "student (Keras)",
        "full",
        "eight",
    ]
    assert found.samples == len(x) == 597
    z, t = other.predict(x, verbose=0), teacher.predict(x, verbose=0)
    outputs = [z, by_hand(files[None], x), by_hand(files["int8"], x)]
    student_accuracy = np.mean(z.argmax(-1) == y)
    for row, f in zip(found.rows, outputs):
        accuracy = np.mean(f.argmax(-1) == y)
        expected = {
            "accuracy": accuracy,
            "accuracy_drop_points": 100 * (student_accuracy - accuracy),
            "agreement": np.mean(f.argmax(-1) == z.argmax(-1)),
            "teacher_agreement": np.mean(f.argmax(-1) == t.argmax(-1)),
            "mean_absolute_difference": np.abs(f - z).mean(),
            "max_absolute_difference": np.abs(f - z).max(),
            "max_relative_difference": np.abs(f - z).max() / np.abs(z).max(),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(
                row[name], value, rtol=1e-4, atol=1e-6, err_msg=name
            )
        assert 0 < row["latency_median_ms"] <= row["latency_95th_percentile_ms"]
    # The networks differ, else the numbers above could be of any of them.
    assert len({row["accuracy"] for row in found.rows}) >= 2
    assert found.rows[1]["agreement"] < 1.0
    assert found.rows[1]["teacher_agreement"] < 1.0
    assert found.rows[2]["size_bytes"] == files["int8"].stat().st_size
    assert found.rows[0]["size_bytes"] == 4 * other.count_params()
    assert found.rows[1]["input_dtype"] == "float32"
    assert found.rows[1]["path"] == str(files[None])

    answers, notes, costs, *_ = str(found).split("\n\n")
    assert "597 samples: the student's accuracy lies in" in notes
    assert f"{100 * student_accuracy:.2f}" in answers.splitlines()[2]
    for table in (answers, costs.split(":\n")[1]):
        lines = table.splitlines()
        assert len(lines) == 2 + 3
        assert len(set(map(len, lines))) == 1  # aligned
    assert json.loads(found.to_json()) == found.as_dict()


@pytest.mark.slow
def test_verify_says_who_lost_how_much(files, student, digits):
    x, _ = digits[1]
    # Labels of the student's own making, so the student is always right; a
    # file of an untrained network is wrong nearly always.
    y = student.predict(x, verbose=0).argmax(-1)
    image = keras.Input((8, 8, 1), name="image")
    stranger = keras.Model(image, layers.Dense(10)(layers.Flatten()(image)))
    path = exported(stranger, files[None].parent / "stranger.tflite")
    arguments = dict(
        files={"good": files[None], "bad": path},
        student=student,
        dataset=(x, y),
        latency_runs=0,
        measure_memory=False,
        verbose=False,
    )
    found = export.verify(**arguments)
    drop = 100 * np.mean(by_hand(path, x).argmax(-1) != y)
    assert drop > 50
    with pytest.raises(export.VerificationError) as info:
        found.check()
    assert f"'bad' lost {drop:.2f} points" in str(info.value)
    assert "'good'" not in str(info.value)
    assert isinstance(info.value, AssertionError)
    found.check(max_accuracy_drop=drop)  # the bound itself is allowed
    with pytest.raises(export.VerificationError, match="'bad'"):
        found.check(max_accuracy_drop=drop - 0.1)
    with pytest.raises(export.VerificationError, match="'bad'"):
        export.verify(**arguments, max_accuracy_drop=0.5)


@pytest.mark.slow
def test_verify_takes_one_hot_labels_and_no_labels(files, student, digits):
    x, y = digits[1]

    def rows(dataset, **options):
        return export.verify(
            files["int8"],
            student,
            dataset,
            latency_runs=0,
            # Differs by some pages from one process to the next.
            measure_memory=False,
            verbose=False,
            **options,
        ).rows

    sparse = rows((x, y))
    assert sparse[1]["file"] == "int8.tflite"
    for dataset in (
        (x, y[:, None]),
        (x, keras.utils.to_categorical(y)),
        # Rounding depends on the size of a batch.
        [(x[:500], y[:500]), (x[500:], y[500:])],
    ):
        for expected, row in zip(sparse, rows(dataset), strict=True):
            numbers = ("max_relative_difference", "mean_absolute_difference")
            numbers += ("max_absolute_difference",)
            for name in numbers:
                assert row.pop(name) == pytest.approx(
                    expected[name], rel=1e-3, abs=1e-5
                )
            assert row.items() <= expected.items()
    unlabelled = rows(x)
    assert unlabelled[1]["accuracy"] is None
    assert unlabelled[1]["latency_median_ms"] is None
    assert unlabelled[1]["agreement"] == sparse[1]["agreement"]
    with pytest.raises(ValueError, match="needs labels"):
        rows(x, max_accuracy_drop=0.5)
    with pytest.raises(ValueError, match="class numbers.*or one-hot"):
        rows((x, np.ones((len(x), 10))))  # several labels at once
    with pytest.raises(ValueError, match="class numbers.*or one-hot"):
        rows((x, y + 0.5))


@pytest.mark.slow
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_verify_of_a_head_of_one_unit(activation, tmp_path):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(1, activation=activation)]
    )
    teacher = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
    x = features(200)
    yes = model(x).numpy()[:, 0] > (0.5 if activation else 0.0)
    assert 0.2 < yes.mean() < 0.8
    y = yes.copy()
    y[:50] = ~y[:50]
    found = export.verify(
        exported(model, tmp_path / "a.tflite"),
        model,
        (x, y.astype("float32")),
        teacher=teacher,
        latency_runs=0,
        measure_memory=False,
        verbose=False,
    )
    teacher_yes = teacher(x).numpy()[:, 0] > 0
    for row in found.rows:
        assert row["accuracy"] == 0.75
        assert row["agreement"] == 1.0
        assert row["teacher_agreement"] == np.mean(teacher_yes == yes)


def test_verify_of_one_output_among_several(two_files):
    (model, file), x = two_files, two_inputs_data(100)
    path = file()
    z = model(x)["z"].numpy()
    labels = {"z": z.argmax(-1), "y": np.zeros(100)}
    labels["z"][:40] = (labels["z"][:40] + 1) % 5
    found = export.verify(
        path,
        model,
        (x, labels),
        output="z",
        verbose=False,
        latency_runs=3,
        measure_memory=False,
    )
    assert [row["accuracy"] for row in found.rows] == [0.6, 0.6]
    assert found.rows[1]["max_relative_difference"] < 1e-5


def test_verify_refuses(files, student, digits):
    (x, y), path = digits[1], files[None]
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    with pytest.raises(ValueError, match="never ends"):
        export.verify(path, student, dataset.repeat())
    with pytest.raises(ValueError, match="`dataset` is empty"):
        export.verify(path, student, dataset.take(0), verbose=False)
    with pytest.raises(ValueError, match="`files` is empty"):
        export.verify([], student, dataset)
    with pytest.raises(FileNotFoundError):
        export.verify(path.parent / "none.tflite", student, dataset)
    with pytest.raises(TypeError, match="must be a keras.Model"):
        export.verify(path, path, dataset)
    with pytest.raises(ValueError, match=r"shape \(32, 8, 8\)"):
        export.verify(path, student, (x[..., 0], y), verbose=False)
    inputs = keras.Input((8, 8, 1))
    teacher = keras.Model(inputs, layers.Dense(7)(layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match=r"'teacher'.*\(8, 7\).*\(8, 10\)"):
        export.verify(path, student, dataset, teacher=teacher, verbose=False)


# export_model.


@pytest.mark.slow
def test_export_model_by_suffix_and_format(tmp_path):
    model, x = dense(), features()
    expected = model(x).numpy()
    path = export.export_model(
        model, tmp_path / "a.tflite", quantization="float16", verbose=False
    )
    assert "float16" in tensor_dtypes(path)
    path = export.export_model(model, tmp_path / "a.keras")
    np.testing.assert_array_equal(keras.models.load_model(path)(x), expected)
    path = export.export_model(model, tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(path)
    np.testing.assert_allclose(saved.serve(x), expected, rtol=1e-5, atol=1e-6)
    names = ["a.keras", "a.tflite", "saved"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    # The same paths again.
    (path / "old").touch()
    for name in names:
        with pytest.raises(FileExistsError, match="overwrite=True"):
            export.export_model(model, tmp_path / name)
    export.export_model(model, tmp_path / "a.keras", overwrite=True)
    export.export_model(model, path, overwrite=True, verbose=False)
    assert not (path / "old").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    tf.saved_model.load(path)


@pytest.mark.parametrize("format", [None, "litert", "tflite"])
def test_export_model_passes_options_to_tflite(format, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        formats, "tflite", lambda *args, **options: calls.append(options)
    )
    model, path = dense(), tmp_path / "a.tflite"
    options = {"overwrite": True, "quantization": "float16"}
    export.export_model(model, path, format=format, **options)
    assert calls == [options]
    with pytest.raises(
        TypeError, match=r"interface=kd.export.Interface\(batch_size=4\)"
    ):
        export.export_model(model, path, batch_size=4)


def test_export_model_replaces_nothing_of_another_kind(tmp_path):
    model = dense()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="something other"):
        export.export_model(model, precious, overwrite=True)
    with pytest.raises(FileExistsError, match="is a file"):
        file = tmp_path / "plain"
        file.touch()
        export.export_model(model, file, overwrite=True)
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(FileExistsError, match="is a folder"):
        export.export_model(model, tmp_path / "folder.tflite", overwrite=True)
    assert (precious / "thesis.tex").exists()


def test_export_model_passes_other_formats_on(tmp_path, monkeypatch):
    calls = []

    def fake_export(self, filepath, format, **options):
        calls.append((format, options))
        for suffix in (".xml", ".bin"):
            with open(filepath.removesuffix(".xml") + suffix, "w") as file:
                file.write(suffix)

    monkeypatch.setattr(keras.Model, "export", fake_export)
    path = export.export_model(dense(), tmp_path / "a.xml", opset=5)
    assert calls == [("openvino", {"opset": 5, "verbose": False})]
    assert path.read_text() == ".xml"
    assert (tmp_path / "a.bin").read_text() == ".bin"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("path", "format", "message"),
    [
        ("a.h5", None, "does not say its format.*'.h5'"),
        ("a.tflite", "keras", "must end in '.keras'"),
        ("a.keras", "tflite", "must end in '.tflite'"),
        ("a.tflite", "tf_saved_model", "must name a folder"),
        ("a", "hdf5", "`format` must be one of.*'hdf5'"),
    ],
)
def test_export_model_refuses(path, format, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.export_model(dense(), tmp_path / path, format=format)
    with pytest.raises(TypeError, match="must be a keras.Model"):
        export.export_model("student", tmp_path / path, format=format)
    assert list(tmp_path.iterdir()) == []
