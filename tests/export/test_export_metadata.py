"""What a TFLite file says of itself."""

import datetime
import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
from exporting import exported
from networks import data

from keras_distill import export
from keras_distill._keras.fingerprint import fingerprint
from keras_distill.export.file import flatbuffer
from keras_distill.export.file import notes as file_notes
from keras_distill.export.request import ExportRequest

layers = keras.layers


def convnet(classes=4, head=None):
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(classes, activation=head),
        ],
        name="small",
    )


@pytest.fixture(scope="module")
def float_file(tmp_path_factory):
    return exported(convnet(), tmp_path_factory.mktemp("files") / "a.tflite")


@pytest.mark.slow
def test_a_file_tells_what_it_is(tmp_path):
    model, (x, _) = convnet(), data(50)
    user = {"class_names": list("abcd"), "licence": "Apache-2.0", "n": [1, 2]}
    path = exported(
        model,
        tmp_path / "a.tflite",
        quantization="int8",
        representative_dataset=x,
        interface=export.Interface(integer_io=True, activation="softmax"),
        metadata=user,
    )
    notes = export.metadata(path)
    assert notes["class_names"] == list("abcd")
    assert notes["user"] == {"licence": "Apache-2.0", "n": [1, 2]}
    assert notes["quantization"] == "int8"
    assert notes["activation"] == "softmax"
    assert notes["preprocessing"] is False
    assert notes["input_order"] == ["image"]
    assert notes["representative_samples"] == 50
    assert notes["signature_name"] == "serving_default"
    assert notes["model"] == "small"
    assert notes["parameters"] == model.count_params()
    assert notes["weights_sha256"] == fingerprint(model)
    assert notes["versions"]["keras"] == keras.__version__
    created = datetime.datetime.fromisoformat(notes["created"])
    age = datetime.datetime.now(datetime.timezone.utc) - created
    assert abs(age.total_seconds()) < 600
    (detail,) = export.load(path)._interpreter.get_input_details()
    assert notes["inputs"] == {
        "image": {
            "shape": [1, 8, 8, 3],
            "dtype": "int8",
            "scale": pytest.approx(detail["quantization"][0]),
            "zero_point": detail["quantization"][1],
            "range": [float(x.min()), float(x.max())],
        }
    }
    assert notes["outputs"]["output_0"]["shape"] == [1, 4]
    assert json.loads(json.dumps(notes)) == notes


def test_the_range_is_told_if_nothing_measures_it(tmp_path):
    def ranges(**options):
        path = tmp_path / "a.tflite"
        return ExportRequest(convnet(), path, **options).input_ranges

    assert ranges() == {"image": None}
    given = {"input_range": (0, 1)}
    assert ranges(metadata=given) == {"image": [0.0, 1.0]}
    with pytest.warns(UserWarning, match=r"lies in \[0, 255\].*in \[0, 1\]"):
        ranges(
            quantization="int8",
            representative_dataset=np.linspace(0, 255, 9 * 192).reshape(
                9, 8, 8, 3
            ),
            metadata=given,
        )


@pytest.mark.slow
def test_the_file_stays_the_same_but_for_its_notes(float_file, tmp_path):
    from ai_edge_litert import schema_py_generated as schema

    x, _ = data(16)
    path = pathlib.Path(shutil.copy(float_file, tmp_path / "a.tflite"))
    assert export.metadata(path)["inputs"]["image"]["range"] is None
    assert export.metadata(path)["user"] == {}
    before, whole = export.load(path)(x), path.read_bytes()
    for _ in range(2):
        flatbuffer.write_metadata(path, {"text": "größer", "model": "other"})
        assert export.metadata(path) == {"text": "größer", "model": "other"}
        np.testing.assert_array_equal(export.load(path)(x), before)
    assert export.load(path).input_names == ["image"]
    # What the converter noted (the version that the operators need) stays.
    content = path.read_bytes()
    table = schema.Model.GetRootAs(content, 0)
    names = [table.Metadata(i).Name() for i in range(table.MetadataLength())]
    assert sorted(names) == [
        b"CONVERSION_METADATA",
        b"keras_distill",
        b"min_runtime_version",
    ]
    # The format wants weights at multiples of 16 bytes.
    for text in (whole, content):
        table = schema.Model.GetRootAs(text, 0)
        start = np.frombuffer(text, "uint8").ctypes.data
        offsets = [
            table.Buffers(i).DataAsNumpy().ctypes.data - start
            for i in range(table.BuffersLength())
            if table.Buffers(i).DataLength()
        ]
        assert len(offsets) > 4
        assert {offset % 16 for offset in offsets} == {0}


def test_files_without_notes(float_file, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        export.metadata(tmp_path / "none.tflite")
    path = tmp_path / "a.tflite"
    path.write_bytes(b"PK\x03\x04 this is an archive")
    with pytest.raises(ValueError, match="is not a TFLite file"):
        export.metadata(path)
    small = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    small.export(path, format="litert", verbose=False)
    with pytest.raises(ValueError, match="has no metadata of keras_distill"):
        export.metadata(path)
    assert flatbuffer.read_metadata(path) is None
    whole = float_file.read_bytes()
    for length in (8, 100):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="truncated or damaged"):
            export.metadata(path)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"class_names": list("abcde")}, ValueError, "5 names.* 4 classes"),
        ({"class_names": ["a"]}, ValueError, "1 names.* 4 classes"),
        ({"input_range": (1, 0)}, ValueError, r"low < high.*\(1, 0\)"),
        ({"input_range": 255}, ValueError, "low < high.*255"),
        ({"scale": np.float32(1)}, TypeError, "JSON can hold: .*float32"),
        (["a", "b"], TypeError, "must be a dict.*of type list"),
    ],
)
def test_notes_that_are_refused(given, error, message, tmp_path):
    with pytest.raises(error, match=message):
        ExportRequest(convnet(), tmp_path / "a.tflite", metadata=given)
    assert list(tmp_path.iterdir()) == []


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def test_class_names_of_models_that_do_not_know_their_outputs(tmp_path):
    model = Subclassed()
    model(np.zeros((1, 5)))
    with pytest.raises(ValueError, match="4 names for an output of 3 classes"):
        exported(
            model,
            tmp_path / "a.tflite",
            metadata={"class_names": list("abcd")},
        )
    assert list(tmp_path.iterdir()) == []


def test_two_class_names_of_one_unit(tmp_path):
    names = ["no", "yes"]
    request = ExportRequest(
        convnet(1, "sigmoid"),
        tmp_path / "b.tflite",
        metadata={"class_names": names},
    )
    assert request.class_names == names
    file_notes.check_class_names(names, [np.array([1, 1])])  # of the file


def test_class_names_of_one_output_among_several(tmp_path):
    inputs = keras.Input((5,))
    model = keras.Model(inputs, [layers.Dense(n)(inputs) for n in (3, 4)])
    path, names = tmp_path / "a.tflite", list("abcd")
    request = ExportRequest(model, path, metadata={"class_names": names})
    assert request.class_names == names
    shapes = [np.array([1, 3]), np.array([1, 4])]
    file_notes.check_class_names(names, shapes)  # of the file
    with pytest.raises(ValueError, match="5 names for outputs of 3, 4 classes"):
        ExportRequest(model, path, metadata={"class_names": list("abcde")})


@pytest.mark.parametrize(
    ("expected", "seen", "different"),
    [
        ([0, 255], [0, 1], True),
        ([0, 1], [0, 255], True),
        ([0, 1], [-1, 1], True),
        ([-1, 1], [0, 1], True),
        ([0, 1], [0.02, 0.93], False),
        ([-3.4, 3.1], [-2.4, 2.6], False),  # tails of a normal distribution
        ([-2.4, 2.6], [-3.4, 3.1], False),
        ([0, 0], [0, 0], False),
        ([0, 0], [0, 1], True),
    ],
)
def test_ranges_of_one_kind_of_data(expected, seen, different):
    assert file_notes.ranges_differ(expected, seen) == different
