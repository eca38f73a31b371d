"""Teachers from files, by name, of functions."""

import sys

import keras
import numpy as np
import pytest
from exporting import exported
from networks import convnet
from networks import data

import keras_distill as kd

X = data(40)[0]
NAMES = ["bird", "cat", "dog", "frog"]


@pytest.fixture(scope="module")
def tflite(tmp_path_factory):
    """`tflite(head, **options)`: a network and its file."""

    def make(head=None, model=None, **options):
        model = model or convnet(8, head=head)
        path = tmp_path_factory.mktemp("files") / "a_teacher.tflite"
        return model, exported(model, path, **options)

    return make


@pytest.mark.parametrize("batch_size", [1, None, 3])
def test_a_tflite_file(tflite, batch_size):
    model, path = tflite(
        interface=kd.export.Interface(batch_size=batch_size),
        metadata={"class_names": NAMES},
    )
    teacher = kd.load_teacher(path, num_threads=1)
    np.testing.assert_allclose(teacher(X), model(X), atol=1e-5)
    assert teacher.name == "a_teacher" and teacher.class_names == NAMES
    assert not teacher.weights
    config = keras.saving.serialize_keras_object(teacher)
    again = keras.saving.deserialize_keras_object(config)
    assert again.source_sha256 == teacher.source_sha256
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match="not the file that was saved"):
        keras.saving.deserialize_keras_object(config)


@pytest.mark.slow
@pytest.mark.parametrize("head", [None, "softmax", "sigmoid"])
def test_an_integer_file(tflite, head):
    """int8 probabilities do not sum to 1: their last operator tells."""
    model, path = tflite(
        head,
        quantization="int8",
        representative_dataset=X,
        interface=kd.export.Interface(integer_io=True),
    )
    teacher = kd.load_teacher(path)
    assert teacher.output_activation == head
    assert kd.export.load(path).input_dtypes == {"image": "int8"}
    np.testing.assert_allclose(teacher(X), model(X), atol=0.1)


def test_a_file_that_reshapes_to_its_batch_runs_by_samples(tflite):
    inputs = keras.Input((8, 8, 3), batch_size=1)
    flat = keras.ops.reshape(inputs, (1, 192))
    model = keras.Model(inputs, keras.layers.Dense(3)(flat))
    _, path = tflite(model=model)
    expected = np.concatenate([model(x[None]) for x in X[:5]])
    np.testing.assert_allclose(
        kd.load_teacher(path)(X[:5]), expected, atol=1e-5
    )


def test_inputs_and_outputs_have_names(tflite):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    both = keras.layers.Concatenate()([a, b])
    outputs = {"x": keras.layers.Dense(4)(both), "y": keras.layers.Dense(2)(a)}
    model, path = tflite(model=keras.Model([a, b], outputs))
    given = {"a": np.ones((5, 3), "float32"), "b": np.ones((5, 2), "float32")}
    with pytest.raises(ValueError, match=r"outputs \['x', 'y'\].*Choose"):
        kd.load_teacher(path)
    with pytest.raises(ValueError, match="output must be one of"):
        kd.load_teacher(path, output="z")
    teacher = kd.load_teacher(path, output="y")
    np.testing.assert_allclose(teacher(given), model(given)["y"], atol=1e-5)


def onnx_file(path, shape, classes=4, softmax=False, channels_last=False):
    """The mean of each channel, times weights; returns the weights."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto
    from onnx import helper

    weights = np.random.default_rng(0).normal(size=(3, classes))
    weights = weights.astype("float32")
    axes = [1, 2] if channels_last else [2, 3]
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    output = "probabilities" if softmax else "scores"
    graph = helper.make_graph(
        nodes[: 3 if softmax else 2],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(
                output, TensorProto.FLOAT, [shape[0], classes]
            )
        ],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(np.array(axes, "int64"), "axes"),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    onnx.save(model, str(path))
    return weights


@pytest.mark.parametrize(
    "shape, channels_last, options",
    [
        (["batch", 3, 8, 8], False, {}),
        ([1, 3, "height", "width"], False, {}),
        ([16, 8, 8, 3], True, {}),
        (["n", "c", "h", "w"], False, {"data_format": "channels_first"}),
    ],
)
def test_an_onnx_file(tmp_path, shape, channels_last, options):
    path = tmp_path / "a_teacher.onnx"
    weights = onnx_file(path, shape, channels_last=channels_last)
    if options:
        with pytest.raises(ValueError, match="data_format"):
            kd.load_teacher(path)
        options |= {"input_shape": (None, None, 3)}
    teacher = kd.load_teacher(path, **options)
    expected = X.mean(axis=(1, 2)) @ weights
    np.testing.assert_allclose(teacher(X), expected, atol=1e-5)
    assert teacher.output_activation is None
    assert teacher.input.shape[-1] == 3
    config = keras.saving.serialize_keras_object(teacher)
    again = keras.saving.deserialize_keras_object(config)
    np.testing.assert_allclose(again(X), expected, atol=1e-5)


def test_an_onnx_softmax(tmp_path):
    onnx_file(tmp_path / "a.onnx", [1, 3, 8, 8], softmax=True)
    teacher = kd.load_teacher(tmp_path / "a.onnx")
    assert teacher.output_activation == "softmax"


def test_onnxruntime_is_not_needed_otherwise(tmp_path, monkeypatch):
    (tmp_path / "a.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        kd.load_teacher(tmp_path / "a.onnx")


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_a_damaged_file(tmp_path, suffix):
    if suffix == "onnx":
        pytest.importorskip("onnxruntime")
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"nothing like it")
    with pytest.raises(ValueError, match=f"a.{suffix}"):
        kd.load_teacher(path)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_file_of_keras(tmp_path, suffix):
    model, path = convnet(), tmp_path / f"teacher.{suffix}"
    model.save(path)
    np.testing.assert_allclose(kd.load_teacher(path)(X), model(X), atol=1e-6)


def test_the_file_of_a_distiller_gives_what_ships(tmp_path):
    distiller = kd.Distiller(
        student=convnet(),
        teacher=convnet(8),
        distillation_losses=kd.losses.SoftTargets(),
    )
    distiller.save(tmp_path / "run.keras")
    teacher = kd.load_teacher(tmp_path / "run.keras")
    np.testing.assert_allclose(teacher(X), distiller.student(X), atol=1e-6)


@pytest.mark.parametrize(
    "source, error, message",
    [
        ("MobilNetV2", ValueError, "source.*'MobileNetV2'"),
        ("there/is.keras", FileNotFoundError, "no file 'there/is.keras'"),
        ("is.tflite", FileNotFoundError, "no file 'is.tflite'"),
        (keras.layers.ReLU(), TypeError, "source must be"),
    ],
)
def test_what_is_no_teacher(source, error, message):
    with pytest.raises(error, match=message):
        kd.load_teacher(source)


@pytest.mark.slow
def test_an_application_prepares_its_images(tmp_path):
    network = keras.applications.MobileNet(
        (32, 32, 3), alpha=0.25, weights=None, classes=5
    )
    network.save_weights(tmp_path / "own.weights.h5")
    teacher = kd.load_teacher(
        "MobileNet",
        weights=tmp_path / "own.weights.h5",
        input_shape=(32, 32, 3),
        alpha=0.25,
        classes=5,
    )
    x = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")
    prepared = keras.applications.mobilenet.preprocess_input(x.astype("f"))
    logits = teacher(x.astype("float32"))
    np.testing.assert_allclose(
        keras.ops.softmax(logits), network(prepared), atol=1e-6
    )
    assert kd.teachers.best_input_scale(teacher, x).name == "[0, 255]"


def test_every_application_has_its_preprocessing():
    """The same numbers from tensors of a graph as from arrays."""
    from keras_distill.teachers.applications import application_names
    from keras_distill.teachers.applications import preprocessing_of

    x = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    inputs = keras.Input((4, 4, 3))
    prepared = {preprocessing_of(name) for name in application_names()}
    assert len(prepared) >= 10
    for preprocess in prepared:
        model = keras.Model(inputs, preprocess(inputs))
        np.testing.assert_allclose(model(x), preprocess(x.copy()), atol=1e-5)


def test_weights_that_cannot_be_fetched(monkeypatch):
    def no_network(**options):
        raise Exception("URL fetch failure on https://somewhere/weights.h5")

    no_network.__module__ = "keras.applications.vgg16"
    monkeypatch.setattr(keras.applications, "VGG16", no_network)
    with pytest.raises(OSError, match="somewhere/weights.h5.*weights="):
        kd.load_teacher("VGG16")
