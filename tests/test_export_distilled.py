"""What a Distiller exports, and what it does not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill import export
from keras_distill.export import conversion

layers = keras.layers


@pytest.fixture(scope="module", autouse=True)
def _in_this_process():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "IN_CHILD", False)
        yield


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


def test_neither_teacher_nor_connector_is_in_the_file(tmp_path):
    trained, (x, _) = distiller(), data(32)
    trained.fit(x, batch_size=16, verbose=0)
    assert trained.distillation_losses["hint"].weights  # there is a connector
    path = trained.export(tmp_path / "a.tflite", verbose=False)
    assert constants(path) == trained.student.count_params()
    found = export.operators.operators(path)
    assert all(operator.builtin for operator in found)
    names = " ".join(name for o in found for name in o.outputs)
    assert "hint" not in names and "random" not in names.lower()


def test_representative_data_is_seen_as_in_evaluation(tmp_path):
    views = kd.views.Preprocessing(
        student=layers.Rescaling(1 / 10.0),
        teacher=layers.Rescaling(1 / 10.0),
    )
    raw = np.linspace(0, 10, 20 * 192).reshape(20, 8, 8, 3).astype("float32")
    for i, given in enumerate(
        (
            raw,
            (raw, np.zeros(20)),
            tf.data.Dataset.from_tensor_slices(raw).batch(8),
        )
    ):
        path = distiller(views).export(
            tmp_path / f"{i}.tflite",
            quantization="int8",
            representative_dataset=given,
            verbose=False,
        )
        notes = export.metadata(path)
        assert notes["preprocessing"] is False
        assert notes["representative_samples"] == 20
        np.testing.assert_allclose(
            notes["inputs"]["image"]["range"], [0.0, 1.0], atol=1e-6
        )


def test_the_views_go_into_the_file_on_request(tmp_path):
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
        input_signature=[tf.TensorSpec((1, 16, 12, 3), tf.uint8, name="photo")],
        verbose=False,
    )
    notes = export.metadata(path)
    assert notes["inputs"]["photo"]["dtype"] == "uint8"
    y = trained.predict(raw.astype("float32"), verbose=0)
    difference = np.abs(export.load(path)(raw) - y).max()
    assert difference / np.abs(y).max() < 8e-2
    found = export.verify(
        path, trained.student, raw, preprocessing=trained.views, verbose=False
    )
    assert found.rows[1]["max_absolute_difference"] == pytest.approx(
        difference, rel=1e-3
    )


def test_dicts_for_both_networks_reach_verify(tmp_path):
    trained, (x, y) = distiller(), data(30)
    path = trained.export(tmp_path / "a.tflite", verbose=False)
    found = export.verify(
        path,
        trained.student,
        ({"student": x, "teacher": x[:, ::-1]}, y),
        teacher=trained.pair().teacher,
        verbose=False,
        latency_runs=0,
    )
    teacher = np.asarray(trained.pair().teacher(x[:, ::-1])).argmax(-1)
    student = np.asarray(trained.student(x)).argmax(-1)
    assert found.rows[1]["agreement"] == 1.0
    assert found.rows[1]["teacher_agreement"] == pytest.approx(
        np.mean(teacher == student)
    )
