"""Files of aware models: what they have, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from exporting import exported
from marks import nightly
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill.export.aware import weight_layers
from keras_distill.export.file.tensors import float_operators
from keras_distill.export.file.tensors import tensors

layers = keras.layers
X, Y = data(64)
BYTES = np.random.default_rng(0).integers(0, 256, X.shape).astype("uint8")


@pytest.fixture(scope="module")
def aware():
    keras.utils.set_random_seed(0)
    student = convnet(batch_norm=True)
    return kd.quantization.aware(student, calibration_data=X)


def interface(shape=(8, 8, 3), dtype=tf.uint8, **options):
    spec = tf.TensorSpec((1, *shape), dtype, name="image")
    return kd.export.Interface(input_signature=[spec], **options)


def step(model):
    low, high = model.layers[-1].rounding_range()
    return float(high - low) / 255


@pytest.mark.parametrize(
    ("bits", "options", "message"),
    [
        (8, {"quantization": None}, 'quantization="int8"'),
        (8, {"quantization": "float16"}, 'quantization="int8"'),
        (8, {"quantization": "dynamic"}, 'quantization="int8"'),
        (8, {"quantization": "int16x8"}, 'quantization="int8"'),
        (8, {"representative_dataset": X}, "leave `representative_dataset`"),
        (4, {}, "activations of 4 bits"),
        (
            8,
            {"preprocessing": lambda x: x / 255.0, "interface": interface()},
            "Rescaling, Normalization and Resizing",
        ),
        (
            8,
            {
                "preprocessing": layers.Rescaling(1 / 255),
                "interface": interface(dtype=tf.float32),
            },
            r"metadata=\{\"input_range\"",
        ),
        (
            8,
            {
                "preprocessing": layers.CenterCrop(8, 8),
                "interface": interface(),
            },
            "No rule says how the CenterCrop",
        ),
    ],
)
def test_what_cannot_be_exported(bits, options, message, aware, tmp_path):
    if bits != 8:
        student = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten()])
        aware = kd.quantization.aware(
            student, activations=bits, calibration_data=X
        )
    options = {"quantization": "int8", **options}
    with pytest.raises(ValueError, match=message):
        exported(aware, tmp_path / "a.tflite", **options)


@pytest.mark.parametrize("name", ["a.tflite", "saved_model"])
def test_ranges_that_were_never_measured(name, tmp_path):
    aware = kd.quantization.aware(convnet())
    options = {"quantization": "int8"} if "." in name else {}
    with pytest.raises(ValueError, match="such as 'image_range'"):
        kd.export.export_model(aware, tmp_path / name, **options)
    kd.export.export_model(aware, tmp_path / "a.keras", verbose=False)


@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_formats_that_were_never_checked(suffix, aware, tmp_path):
    with pytest.raises(ValueError, match="nobody checked"):
        kd.export.export_model(aware, tmp_path / f"a.{suffix}")


@pytest.mark.slow
def test_other_formats_compute_the_same(aware, tmp_path):
    expected = aware.predict(X, verbose=0)
    kd.export.export_model(aware, tmp_path / "folder", verbose=False)
    served = tf.saved_model.load(tmp_path / "folder")
    np.testing.assert_allclose(served.serve(X), expected, atol=1e-6)
    kd.export.export_model(aware, tmp_path / "a.keras", verbose=False)
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), expected)


def file_layout(layer, kernel):
    if layer.channel_axes == 2:
        return kernel.reshape(1, *kernel.shape[:2], -1)
    return np.moveaxis(kernel, -1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 3, *nightly(4, 2)])
def test_weights_are_those_of_the_student(bits, tmp_path):
    student = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.SeparableConv2D(4, 3, strides=2, depth_multiplier=2),
            layers.Conv2D(4, 2, use_bias=False),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    aware = kd.quantization.aware(student, weights=bits, calibration_data=X)
    path = exported(aware, tmp_path / "a.tflite", quantization="int8")
    constants = [t for t in tensors(path) if t.constant is not None]
    for layer in weight_layers(aware):
        kernel = keras.ops.convert_to_numpy(layer.quantized_kernel())
        kernel = file_layout(layer, kernel)
        (found,) = (t for t in constants if t.constant.shape == kernel.shape)
        assert len(found.scales) == (
            kernel.shape[found.axis] if layer.channel_axes else 1
        )
        shape = [1] * kernel.ndim
        shape[found.axis] = -1
        scales = found.scales.reshape(shape)
        np.testing.assert_array_equal(np.round(kernel / scales), found.constant)
        np.testing.assert_allclose(found.values(), kernel, rtol=1e-6)
        assert abs(found.constant).max() == 2 ** (bits - 1) - 1
    assert kd.export.metadata(path)["weight_bits"] == [bits]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "fed", "seen"),
    [
        (
            {
                "interface": kd.export.Interface(
                    integer_io=True, batch_size=None
                )
            },
            X,
            X,
        ),
        ({"interface": interface()}, BYTES, BYTES),
        (
            {
                "interface": interface(),
                "preprocessing": layers.Rescaling(1 / 127.5, -1.0),
            },
            BYTES,
            BYTES / 127.5 - 1.0,
        ),
        (
            {
                "interface": interface(dtype=tf.float32),
                "preprocessing": kd.views.Preprocessing(
                    student=layers.Normalization(mean=99.0, variance=900.0)
                ),
                "metadata": {"input_range": (0.0, 255.0)},
            },
            BYTES,
            (BYTES - 99.0) / 30.0,
        ),
        (
            {
                "interface": interface((None, None, 3)),
                "preprocessing": layers.Resizing(8, 8),
            },
            BYTES.repeat(2, 1).repeat(2, 2),
            BYTES,
        ),
    ],
    ids=["int8", "uint8", "rescaled", "views", "resized"],
)
def test_all_is_integer_and_as_the_student_computes(
    options, fed, seen, aware, tmp_path
):
    if seen is BYTES:  # not all of [0, 255]: the range has to be changed
        data = np.minimum(BYTES, 230)
        aware = kd.quantization.aware(convnet(), calibration_data=data)
    path = exported(
        aware, tmp_path / "a.tflite", quantization="int8", **options
    )
    assert not float_operators(path)
    outputs = kd.export.load(path)(fed)
    expected = aware.predict(np.float32(seen), verbose=0)
    assert np.abs(outputs - expected).max() < 2.01 * step(aware)
    notes = kd.export.metadata(path)
    assert notes["trained_ranges"] and notes["parameters"] == 444


@pytest.mark.slow
@pytest.mark.parametrize("is_aware", [False, True])
def test_a_student_that_takes_bytes_is_integer_throughout(is_aware, tmp_path):
    image = keras.Input((8, 8, 3), dtype="uint8", name="image")
    scaled = keras.Sequential(
        [keras.Input((8, 8, 3), dtype="uint8"), layers.Rescaling(1 / 255)]
    )(image)
    x = layers.Conv2D(4, 3, activation="relu")(scaled)
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))
    data = {"representative_dataset": BYTES}
    if is_aware:  # not all of [0, 255]
        low = np.minimum(BYTES, 230)
        model = kd.quantization.aware(model, calibration_data=low)
        data = {}
    path = exported(model, tmp_path / "a.tflite", quantization="int8", **data)
    assert not float_operators(path)
    (image,) = kd.export.metadata(path)["inputs"].values()
    assert (image["dtype"], image["scale"]) == ("uint8", 1.0)
    options = {"measure_memory": False, "latency_runs": 0, "verbose": False}
    row = kd.export.verify(path, model, BYTES, **options).rows[1]
    assert row["max_relative_difference"] < 0.05
    assert model.inputs[0].dtype == "uint8"


@pytest.mark.slow
def test_an_activation_has_the_range_that_tflite_fixes(aware, tmp_path):
    path = exported(
        aware,
        tmp_path / "a.tflite",
        quantization="int8",
        interface=kd.export.Interface(activation="softmax", integer_io=True),
        metadata={"class_names": list("abcd")},
    )
    notes = kd.export.metadata(path)
    assert notes["outputs"]["output_0"]["scale"] == 1 / 256
    assert notes["class_names"] == list("abcd")
    low, high = notes["inputs"]["image"]["range"]
    assert (low, high) == pytest.approx((X.min(), X.max()))
    expected = keras.ops.softmax(aware.predict(X, verbose=0))
    assert np.abs(kd.export.load(path)(X) - expected).max() < 2 / 256


@pytest.mark.slow
def test_a_part_without_range_is_an_error_that_names_it(aware, tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), aware, layers.Dense(2, name="late")]
    )
    with pytest.raises(
        kd.export.ExportError, match="FULLY_CONNECTED in layer 'late'"
    ):
        exported(model, tmp_path / "a.tflite", quantization="int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_verify_counts_in_steps_and_finds_an_old_file(aware, tmp_path):
    path = exported(aware, tmp_path / "a.tflite", quantization="int8")
    options = {"measure_memory": False, "latency_runs": 0, "verbose": False}
    verification = kd.export.verify({"a": path}, aware, (X, Y), **options)
    row = verification.rows[1]
    assert row["max_difference_steps"] < 2.01
    assert row["equal_outputs"] > 0.95 and row["agreement"] > 0.95
    assert row["equal_kernels"] == [3, 3] and row["equal_ranges"] == [5, 5]
    printed = str(verification)
    assert "max steps" in printed and "equal %" in printed
    assert (
        "'a', integer throughout, has 3 of 3 kernels and 5 of 5 ranges of the "
        "student." in printed
    )
    other = keras.models.clone_model(aware)
    other.set_weights(aware.get_weights())
    other.get_layer("head_unrounded").layer.kernel.assign_add(np.eye(8, 4))
    other.get_layer("conv1_range").maximum.assign(99.0)
    row = kd.export.verify({"a": path}, other, X, **options).rows[1]
    assert row["equal_kernels"] == [2, 3] and row["equal_ranges"] == [4, 5]
