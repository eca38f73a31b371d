"""Files that hold preprocessing, an activation, or an open batch."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from exporting import exported
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill import export
from keras_distill.export.file import flatbuffer
from keras_distill.export.file import lite_model
from keras_distill.export.request import ExportRequest
from keras_distill.export.verification.networks import File

layers = keras.layers
FIXED, ANY_SIZE = (1, 24, 20, 3), (1, None, None, 3)


@pytest.fixture(scope="module")
def student():
    keras.utils.set_random_seed(0)
    return convnet()


@pytest.fixture(scope="module")
def plain_file(student, tmp_path_factory):
    """The student's float file, with nothing around it."""
    return exported(student, tmp_path_factory.mktemp("files") / "plain.tflite")


def photos(n=30, height=24, width=20, seed=0):
    """uint8 images with structure that survives resizing."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0, 255, (n, 4, 4, 3))
    large = keras.ops.image.resize(small, (height, width))
    return np.asarray(large).round().astype("uint8")


def preprocessing():
    return keras.Sequential(
        [layers.Resizing(8, 8), layers.Rescaling(1 / 127.5, offset=-1)]
    )


def takes(shape, dtype=tf.uint8):
    """The interface of a file with one input."""
    return export.Interface(
        input_signature=[tf.TensorSpec(shape, dtype, name="photo")]
    )


def expected(student, x):
    x = tf.image.resize(tf.cast(x, tf.float32), (8, 8)) / 127.5 - 1
    return student(x).numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantization", "shape"),
    [
        (None, ANY_SIZE),
        ("int8", FIXED),
        *(
            pytest.param(quantization, shape, marks=pytest.mark.nightly)
            for quantization, shape in (
                ("int8", ANY_SIZE),
                (None, FIXED),
                ("float16", FIXED),
                ("float16", ANY_SIZE),
                ("dynamic", FIXED),
                ("dynamic", ANY_SIZE),
            )
        ),
    ],
)
def test_raw_images_of_a_camera(quantization, shape, student, tmp_path):
    path = exported(
        student,
        tmp_path / "a.tflite",
        quantization=quantization,
        preprocessing=preprocessing(),
        representative_dataset=photos(),
        interface=takes(shape),
    )
    file = export.load(path)
    assert file.input_dtypes == {"photo": "uint8"}
    sizes = [(24, 20)] if shape is FIXED else [(24, 20), (31, 47), (24, 20)]
    for height, width in sizes:
        x = photos(10, height, width, seed=1)
        # The bytes of the camera go in as they are.
        interpreter = file._interpreter
        (source,) = interpreter.get_input_details()
        interpreter.resize_tensor_input(source["index"], x[:1].shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], x[:1])
        interpreter.invoke()
        (sink,) = interpreter.get_output_details()
        one = interpreter.get_tensor(sink["index"])
        y = expected(student, x)
        np.testing.assert_array_equal(file(x)[:1], one)
        scale = np.abs(y).max()
        tolerance = {None: 1e-5, "int8": 8e-2}.get(quantization, 1e-2)
        assert np.abs(file(x) - y).max() / scale < tolerance
    notes = export.metadata(path)
    assert notes["preprocessing"] is True
    assert notes["inputs"]["photo"]["range"] == [0, 255]
    if shape is ANY_SIZE:
        assert notes["inputs"]["photo"]["shape"] == [1, -1, -1, 3]
    if quantization == "int8":
        assert lite_model.float_tensors(path) == []


def test_bytes_stay_bytes_until_the_converter_runs(student, tmp_path):
    x = photos()

    def samples_of(data):
        request = ExportRequest(
            student,
            tmp_path / "a.tflite",
            quantization="int8",
            preprocessing=preprocessing(),
            representative_dataset=data,
            interface=takes(FIXED),
        )
        assert request.input_ranges == {"photo": [0.0, 255.0]}
        return [sample["photo"] for sample in request.samples]

    bytes_ = samples_of(x)
    assert {array.dtype.name for array in bytes_} == {"uint8"}
    assert all(array.base is None for array in bytes_)
    # As floats the same data is the same.
    floats = samples_of(x.astype("float32"))
    assert {array.dtype.name for array in floats} == {"float32"}
    np.testing.assert_array_equal(floats, bytes_)


@pytest.mark.slow
def test_dark_images_do_not_stretch_the_scale(student, tmp_path):
    path = exported(
        student,
        tmp_path / "a.tflite",
        quantization="int8",
        preprocessing=preprocessing(),
        representative_dataset=20 + photos() // 2 + photos(seed=1) // 8,
        interface=takes(FIXED),
    )
    notes = export.metadata(path)["inputs"]["photo"]
    assert (notes["scale"], notes["zero_point"]) == (1.0, 0)


class Halved(kd.views.Views):
    def evaluation(self, x):
        return x / 2.0 - 1.0

    def teacher_evaluation(self, x):
        return x / 4.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "halved",
    [
        Halved(),
        pytest.param(lambda x: x / 2.0 - 1.0, marks=pytest.mark.slow),
        pytest.param(layers.Rescaling(0.5, -1.0), marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_preprocessing(halved, student, plain_file, tmp_path):
    x, _ = data(40)
    path = exported(
        student,
        tmp_path / "a.tflite",
        preprocessing=halved,
        interface=takes((1, 8, 8, 3), tf.float32),
    )
    inside = np.asarray(student(x / 2.0 - 1.0))
    np.testing.assert_allclose(
        export.load(path)(x), inside, rtol=1e-4, atol=1e-5
    )
    # verify: the same preprocessing before the student and other files.
    found = export.verify(
        [path, plain_file],
        student,
        (x, inside.argmax(-1)),
        preprocessing=halved,
        teacher=student,
        latency_runs=0,
        measure_memory=False,
        verbose=False,
    )
    assert [row["accuracy"] for row in found.rows] == [1.0, 1.0, 1.0]
    assert max(row["max_relative_difference"] for row in found.rows) < 1e-4
    teacher_x = x / 4.0 if isinstance(halved, Halved) else x / 2.0 - 1.0
    teacher = np.asarray(student(teacher_x)).argmax(-1)
    agreement = np.mean(teacher == inside.argmax(-1))
    assert found.rows[1]["teacher_agreement"] == pytest.approx(agreement)


def test_verify_wants_the_preprocessing_that_a_file_holds(
    student, plain_file, tmp_path
):
    path, (x, _) = tmp_path / "a.tflite", data(8)
    shutil.copy(plain_file, path)
    notes = {**export.metadata(path), "preprocessing": True}
    flatbuffer.write_metadata(path, notes)
    with pytest.raises(ValueError, match="'a.tflite' contains its preproc"):
        export.verify(path, student, x, verbose=False)


@pytest.mark.slow
def test_verify_feeds_several_raw_inputs_in_the_order_of_the_call(tmp_path):
    # Not the alphabet's; of one shape, so that nobody notices a swap.
    inputs = [keras.Input((4,), name=name) for name in "za"]
    h = layers.Subtract()([inputs[0], layers.Rescaling(3.0)(inputs[1])])
    student = keras.Model(inputs, layers.Dense(3)(h))
    path = exported(
        student,
        tmp_path / "a.tflite",
        preprocessing=lambda x: [x[0] / 2.0, x[1]],
        interface=export.Interface(
            input_signature=[tf.TensorSpec((1, 4), name=name) for name in "za"]
        ),
    )
    assert export.metadata(path)["input_order"] == ["z", "a"]
    z, a = np.random.default_rng(0).normal(size=(2, 20, 4)).astype("float32")
    as_tuples = tf.data.Dataset.from_tensor_slices(((z, a), np.zeros(20)))
    for dataset in ([([z, a], np.zeros(20))], as_tuples.batch(8)):
        found = export.verify(
            path,
            student,
            dataset,
            preprocessing=lambda x: [x[0] / 2.0, x[1]],
            measure_memory=False,
            latency_runs=0,
            verbose=False,
        )
        assert found.rows[1]["max_relative_difference"] < 1e-5
    file = File("a", path, 1, {}, True, False)
    with pytest.raises(ValueError, match=r"raw data for \['z', 'a'\].*\(20,"):
        file.feed([z], None)
    # Files of earlier versions do not tell: the alphabet's order.
    notes = export.metadata(path)
    del notes["input_order"]
    flatbuffer.write_metadata(path, notes)
    arrays = File("a", path, 1, {}, True, False).feed((a, z), None)
    np.testing.assert_array_equal(arrays["z"], z)


def test_a_model_as_preprocessing_knows_its_inputs(tmp_path):
    inputs = keras.Input((16, 12, 3), dtype="uint8", name="pixels")
    h = layers.Resizing(8, 8)(layers.Rescaling(1 / 255.0)(inputs))
    request = ExportRequest(
        convnet(), tmp_path / "a.tflite", preprocessing=keras.Model(inputs, h)
    )
    assert request.signature == [
        tf.TensorSpec((1, 16, 12, 3), tf.uint8, name="pixels")
    ]
    assert request.input_ranges == {"pixels": [0.0, 255.0]}


def two_heads():
    """One gives logits, the other one probabilities."""
    model = convnet()
    h = model.get_layer("pool").output
    other = layers.Dense(1, activation="sigmoid")(h)
    return keras.Model(model.inputs, {"z": model.output, "p": other})


@pytest.mark.slow
@pytest.mark.parametrize("sequential", [False, True])
def test_a_model_of_bytes_is_integer_throughout(sequential, student, tmp_path):
    inputs = keras.Input((24, 20, 3), dtype="uint8", name="photo")
    x = photos()
    normalized = layers.Normalization()
    normalized.adapt(x.astype("float32"))
    raw = [layers.Resizing(8, 8), normalized]
    if sequential:
        model = keras.Sequential([inputs, *raw])
    else:
        h = inputs
        for layer in raw:
            h = layer(h)
        model = keras.Model(inputs, h)
    before = ("uint8", model.input_dtype)
    path = exported(
        student,
        tmp_path / "a.tflite",
        quantization="int8",
        preprocessing=model,
        representative_dataset=x,
    )
    file = export.load(path)
    assert file.input_dtypes == {"photo": "uint8"}
    assert lite_model.float_tensors(path) == []
    z = np.asarray(student(model(x)))
    assert np.abs(file(x) - z).max() / np.abs(z).max() < 8e-2
    assert (model.inputs[0].dtype, model.input_dtype) == before
    assert [len(layer._inbound_nodes) for layer in raw] == [1, 1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"preprocessing": "resize"}, TypeError, "Views.*'resize' of type str"),
        (
            {"preprocessing": layers.Resizing(8, 8)},
            ValueError,
            r"`input_signature` must say what the app passes: .*480, 640",
        ),
        (
            {
                "preprocessing": layers.Resizing(9, 9),
                "interface": takes(FIXED),
            },
            ValueError,
            r"gives \[\(1, 9, 9, 3\)\].*are \[\(None, 8, 8, 3\)\]",
        ),
        (
            {
                "preprocessing": layers.Resizing(8, 8),
                "interface": takes(FIXED),
                "quantization": "int16x8",
                "representative_dataset": photos(),
            },
            ValueError,
            '"int16x8" has no uint8 inputs: .*tf.float32',
        ),
        (
            {
                "preprocessing": layers.Resizing(8, 8),
                "interface": takes(FIXED),
                "quantization": "int8",
                "representative_dataset": photos() - 10.0,
            },
            ValueError,
            r"what the app passes, uint8 in \[0, 255\].*\[-",
        ),
        (
            {
                "interface": export.Interface(activation="softmax"),
                "model": convnet(head="softmax"),
            },
            ValueError,
            "ends in a softmax already.*activation='softmax'",
        ),
        (
            {
                "interface": export.Interface(activation="sigmoid"),
                "model": two_heads(),
            },
            ValueError,
            "ends in a sigmoid already.*activation='sigmoid'",
        ),
        (
            {
                "interface": export.Interface(activation="softmax"),
                "model": convnet(classes=1),
            },
            ValueError,
            "output of one unit: its softmax is always 1.*sigmoid",
        ),
    ],
)
def test_what_is_refused(options, error, message, tmp_path):
    options = {"model": convnet(), **options}
    with pytest.raises(error, match=message):
        ExportRequest(filepath=tmp_path / "a.tflite", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relu"}, "one of .*'softmax'.*'relu'"),
        ({"batch_size": 0}, "an integer of at least 1.*Received: 0"),
        ({"batch_size": 1.5}, "Received: 1.5"),
        ({"signature_name": "a b"}, "letters, digits.*'a b'"),
    ],
)
def test_interfaces_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        export.Interface(**options)


def test_representative_data_in_another_range_is_told(student, tmp_path):
    with pytest.warns(UserWarning, match=r"'photo' lies in \[0.*, 1\], what"):
        ExportRequest(
            student,
            tmp_path / "a.tflite",
            quantization="int8",
            preprocessing=preprocessing(),
            representative_dataset=photos() / 255.0,
            interface=takes(FIXED),
        )


@pytest.mark.slow
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_softmax_at_the_end(quantization, student, plain_file, tmp_path):
    x, _ = data(64)
    path = exported(
        student,
        tmp_path / "a.tflite",
        quantization=quantization,
        representative_dataset=x,
        interface=export.Interface(
            activation="softmax", signature_name="classify"
        ),
    )
    # The signature has its name.
    for filepath, name in ((path, "classify"), (plain_file, "serving_default")):
        signatures = export.load(filepath)._interpreter.get_signature_list()
        assert signatures == {
            name: {"inputs": ["image"], "outputs": ["output_0"]}
        }
    z = np.asarray(student(x), dtype="float64")
    probabilities = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    tolerance = 1e-5 if quantization is None else 2e-2
    difference = np.abs(export.load(path)(x) - probabilities).max()
    assert difference < tolerance
    found = export.verify(
        path,
        student,
        (x, z.argmax(-1)),
        verbose=False,
        latency_runs=0,
        measure_memory=False,
    )
    # Compared as probabilities; the student's own row is about its logits.
    assert found.rows[1]["max_absolute_difference"] == pytest.approx(
        difference, rel=1e-2, abs=1e-6
    )
    assert found.rows[1]["accuracy"] >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "quantization", [None, pytest.param("int8", marks=pytest.mark.slow)]
)
def test_an_open_batch(quantization, student, plain_file, tmp_path):
    x, _ = data(40)
    options = dict(quantization=quantization, representative_dataset=x)
    path = exported(
        student,
        tmp_path / "a.tflite",
        interface=export.Interface(batch_size=None),
        **options,
    )
    file = export.load(path)
    assert export.metadata(path)["inputs"]["image"]["shape"][0] == -1
    one = plain_file
    if quantization is not None:
        one = exported(student, tmp_path / "b.tflite", **options)
    for n in (7, 1, 40):
        np.testing.assert_allclose(
            file(x[:n]), export.load(one)(x[:n]), atol=1e-5
        )


@pytest.mark.slow
def test_an_open_batch_of_a_recurrent_network(tmp_path):
    inputs = keras.Input((2, 4))
    model = keras.Model(inputs, layers.Dense(3)(layers.GRU(6)(inputs)))
    x = np.random.default_rng(0).normal(size=(9, 2, 4)).astype("float32")
    path = exported(
        model,
        tmp_path / "a.tflite",
        interface=export.Interface(batch_size=None),
    )
    np.testing.assert_allclose(export.load(path)(x), model(x), atol=1e-5)
    assert model.layers[1].unroll is False


@pytest.mark.parametrize("least", [3, 70])
def test_sizes_may_stay_open_on_request(tmp_path, least):
    inputs = keras.Input((None, None, 3), name="image")
    h = layers.GlobalAveragePooling2D()(layers.Conv2D(4, least)(inputs))
    model = keras.Model(inputs, h)
    path = exported(
        model,
        tmp_path / "a.tflite",
        interface=takes(ANY_SIZE, tf.float32),
    )
    file = export.load(path)
    for more in (6, 27):
        x = np.random.default_rng(0).normal(size=(2, least + more, least, 3))
        np.testing.assert_allclose(file(x), model(x), rtol=1e-4, atol=1e-5)
