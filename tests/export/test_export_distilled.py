"""What a Distiller exports, and what it does not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill import export
from keras_distill.export.conversion import conversion
from keras_distill.export.file import flatbuffer

layers = keras.layers


class Reached(Exception):
    """The conversion is about to start."""


@pytest.fixture
def requests(monkeypatch):
    """The requests of exports, which end there with `Reached`."""
    made = []

    def convert(request, *args):
        made.append(request)
        raise Reached

    monkeypatch.setattr(conversion, "convert", convert)
    return made


@pytest.fixture
def no_child(monkeypatch):
    """Integer files are converted in this process."""
    convert = conversion.convert
    monkeypatch.setattr(
        conversion,
        "convert",
        lambda request, *args: convert(request, verbose=False, in_child=False),
    )


def distiller(views=None, **options):
    built = kd.Distiller(
        student=convnet(),
        teacher=convnet(16),
        distillation_losses={
            "soft": kd.losses.SoftTargets(),
            "hint": kd.losses.Hint(
                teacher_layer_name="conv2", student_layer_name="conv1"
            ),
        },
        alpha=1.0,
        views=views,
        **options,
    )
    built.compile("adam")
    return built


@pytest.mark.parametrize(
    "call",
    [
        lambda distiller: export.tflite(distiller, "a.tflite"),
        lambda distiller: export.export_model(distiller, "a.keras"),
        lambda distiller: export.verify("a.tflite", distiller, data()),
        kd.quantization.aware,
        kd.cost.multiply_accumulates,
    ],
)
def test_a_distiller_is_no_network(call):
    with pytest.raises(TypeError, match=r"deployable_student\(\)"):
        call(distiller())


def constants(path):
    """Number of float values stored in a float32 file."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    graph, count = model.Subgraphs(0), 0
    for i in range(graph.TensorsLength()):
        tensor = graph.Tensors(i)
        if tensor.Type() == schema.TensorType.FLOAT32:
            count += model.Buffers(tensor.Buffer()).DataLength() // 4
    return count


@pytest.mark.slow
def test_neither_teacher_nor_connector_is_in_the_file(tmp_path):
    trained, (x, _) = distiller(), data(32)
    trained.fit(x, batch_size=16, verbose=0)
    assert trained.distillation_losses["hint"].weights  # there is a connector
    path = trained.export(tmp_path / "a.tflite", verbose=False)
    assert constants(path) == trained.student.count_params()
    found = flatbuffer.operators(path)
    assert all(operator.builtin for operator in found)
    names = " ".join(name for o in found for name in o.outputs)
    assert "hint" not in names and "random" not in names.lower()


def test_representative_data_is_seen_as_in_evaluation(tmp_path, requests):
    views = kd.views.Preprocessing(
        student=layers.Rescaling(1 / 10.0),
        teacher=layers.Rescaling(1 / 10.0),
    )
    raw = np.linspace(0, 10, 20 * 192).reshape(20, 8, 8, 3).astype("float32")
    trained = distiller(views)
    for given, count in (
        (raw, 20),
        ((raw, np.zeros(20)), 20),
        (tf.data.Dataset.from_tensor_slices(raw).batch(8), 20),
        (export.RepresentativeDataset(raw, samples=5), 5),
    ):
        with pytest.raises(Reached):
            trained.export(
                tmp_path / "a.tflite",
                quantization="int8",
                representative_dataset=given,
                preprocessing=None,
            )
        request = requests.pop()
        assert request.network.preprocessing is None
        assert len(request.samples) == count
        np.testing.assert_allclose(
            request.input_ranges["image"], [0.0, 1.0], atol=1e-6
        )


def test_the_interface_keeps_what_it_says_of_the_file(tmp_path, requests):
    layer = layers.Rescaling(1 / 255.0)
    trained = distiller(kd.views.FunctionMatching(8, student_preprocess=layer))
    with pytest.raises(Reached):
        trained.export(
            tmp_path / "a.tflite",
            interface=export.Interface(batch_size=3, activation="softmax"),
        )
    (request,) = requests
    (spec,) = request.signature
    assert tuple(spec.shape) == (3, 8, 8, 3) and spec.name == "image"
    assert request.interface.activation == "softmax"
    assert request.network.preprocessing is trained.views


@pytest.mark.slow
@pytest.mark.parametrize("suffix", (".tflite", ".keras", ""))
def test_the_layer_before_the_student_ships(tmp_path, suffix):
    layer = layers.Rescaling(1 / 255.0)
    trained = distiller(kd.views.FunctionMatching(8, student_preprocess=layer))
    x = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3))
    x = x.astype("float32")
    y = trained.predict(x, verbose=0)
    path = trained.export(tmp_path / f"a{suffix}")
    alone = trained.export(tmp_path / f"b{suffix}", preprocessing=None)
    for path, given in ((path, x), (alone, x / 255)):
        if suffix == ".tflite":
            inside = export.metadata(path)["preprocessing"]
            assert inside is (given is x)
            shipped = export.load(path)(given)
        elif suffix:
            loaded = keras.models.load_model(path)
            shipped = loaded.predict(given, verbose=0)
        else:
            loaded = tf.saved_model.load(str(path))
            shipped = loaded.serve(given)
        np.testing.assert_allclose(shipped, y, atol=1e-5)


@pytest.mark.slow
def test_a_layer_that_resizes_ships(tmp_path):
    trained = distiller(kd.views.Preprocessing(student=layers.Resizing(8, 8)))
    x = np.random.default_rng(0).uniform(size=(2, 16, 12, 3))
    x = x.astype("float32")
    with pytest.raises(ValueError, match="input_signature="):
        trained.export(tmp_path / "a.tflite")
    y = trained.predict(x, verbose=0)
    signature = [tf.TensorSpec((1, 16, 12, 3), tf.float32, name="image")]
    path = trained.export(
        tmp_path / "a.tflite",
        interface=export.Interface(input_signature=signature),
    )
    np.testing.assert_allclose(export.load(path)(x), y, atol=1e-5)
    path = trained.export(tmp_path / "a.keras")
    loaded = keras.models.load_model(path)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), y, atol=1e-5)


@pytest.mark.slow
def test_a_layer_that_changes_shapes_asks_what_the_file_takes(tmp_path):
    trained = distiller(kd.views.Preprocessing(student=layers.MaxPooling2D()))
    for name in ("a.tflite", "a.keras"):
        with pytest.raises(ValueError, match="takes .None, 8, 8, 3"):
            trained.export(tmp_path / name)
    x = np.random.default_rng(0).uniform(size=(2, 16, 16, 3))
    x = x.astype("float32")
    signature = [tf.TensorSpec((1, 16, 16, 3), tf.float32, name="image")]
    path = trained.export(
        tmp_path / "a.tflite",
        interface=export.Interface(input_signature=signature),
    )
    y = trained.predict(x, verbose=0)
    np.testing.assert_allclose(export.load(path)(x), y, atol=1e-5)


@pytest.mark.slow
def test_the_views_go_into_the_file_on_request(tmp_path, no_child):
    views = kd.views.Preprocessing(
        student=keras.Sequential(
            [layers.Resizing(8, 8), layers.Rescaling(1 / 255.0)]
        ),
        teacher=layers.Resizing(8, 8),
    )
    trained = distiller(views)
    raw = np.random.default_rng(0).integers(0, 256, (20, 16, 12, 3))
    raw = raw.astype("uint8")
    path = trained.export(
        tmp_path / "a.tflite",
        quantization="int8",
        preprocessing=trained.views,
        representative_dataset=raw,
        interface=export.Interface(
            input_signature=[
                tf.TensorSpec((1, 16, 12, 3), tf.uint8, name="photo")
            ]
        ),
        verbose=False,
    )
    notes = export.metadata(path)
    assert notes["inputs"]["photo"]["dtype"] == "uint8"
    y = trained.predict(raw.astype("float32"), verbose=0)
    difference = np.abs(export.load(path)(raw) - y).max()
    assert difference / np.abs(y).max() < 8e-2
    found = export.verify(
        path,
        trained.student,
        raw,
        preprocessing=trained.views,
        verbose=False,
        latency_runs=0,
        measure_memory=False,
    )
    assert found.rows[1]["max_absolute_difference"] == pytest.approx(
        difference, rel=1e-3
    )


@pytest.mark.slow
def test_dicts_for_both_networks_reach_verify(tmp_path):
    trained, (x, y) = distiller(), data(30)
    path = trained.export(tmp_path / "a.tflite", verbose=False)
    found = export.verify(
        path,
        trained.student,
        ({"student": x, "teacher": x[:, ::-1]}, y),
        teacher=trained._networks().teacher,
        verbose=False,
        latency_runs=0,
        measure_memory=False,
    )
    teacher = np.asarray(trained._networks().teacher(x[:, ::-1])).argmax(-1)
    student = np.asarray(trained.student(x)).argmax(-1)
    assert found.rows[1]["agreement"] == 1.0
    assert found.rows[1]["teacher_agreement"] == pytest.approx(
        np.mean(teacher == student)
    )
