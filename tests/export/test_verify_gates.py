"""What `verify` lets pass, and what it counts, on files."""

import functools

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from exporting import exported

from keras_distill import export
from keras_distill.metrics.decisions import labels_fingerprint

layers = keras.layers
SAMPLES = 120
verify = functools.partial(
    export.verify, verbose=False, latency_runs=0, measure_memory=False
)


@pytest.fixture(scope="module")
def features():
    """Inputs of 3 classes; a student with the weights `identity` is right."""
    y = np.repeat([0, 1, 2], [100, 15, 5])
    x = np.eye(3, dtype="float32")[y]
    return x, y


def linear(kernel):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(len(kernel[0]), use_bias=False)]
    )
    model.set_weights([np.array(kernel, "float32")])
    return model


@pytest.fixture(scope="module")
def student():
    return linear(np.eye(3))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One is right, one takes class 2 for class 0, one is NaN."""
    folder = tmp_path_factory.mktemp("files")
    kernels = {
        "right": np.eye(3),
        "blind": [[1, 0, 0], [0, 1, 0], [1, 0, 0]],
        "broken": np.full((3, 3), np.nan),
    }
    return {
        name: exported(
            linear(kernel),
            folder / f"{name}.tflite",
            metadata={"class_names": ["good", "scratch", "crack"]},
        )
        for name, kernel in kernels.items()
    }


def pair(files):
    return {name: files[name] for name in ("right", "blind")}


def test_a_file_that_is_blind_to_a_rare_class(files, student, features):
    found = verify(pair(files), student, features)
    row = found.rows[2]
    assert row["accuracy"] == 115 / 120
    assert row["recall"] == [1.0, 1.0, 0.0]
    assert row["precision"] == [100 / 105, 1.0, None]
    assert row["balanced_accuracy"] == pytest.approx(2 / 3)
    assert row["confusion_matrix"][2] == [5.0, 0.0, 0.0]
    low, high = row["accuracy_interval"]
    assert low < row["accuracy"] < high < 1.0
    assert (found.majority, found.majority_accuracy) == (0, 100 / 120)
    text = str(found)
    assert "class 0 ('good') would be right for 83.33 %" in text
    assert "'blind' loses most on class 2 ('crack'): recall 100.00 to 0" in text
    assert max(map(len, text.splitlines())) < 120
    # 4.17 points of the accuracy are allowed, and hide what was lost.
    found.check(max_accuracy_drop=5.0)
    with pytest.raises(export.VerificationError, match="'blind' lost 33.33 po"):
        found.check(max_accuracy_drop=5.0, metric="balanced_accuracy")
    with pytest.raises(
        export.VerificationError,
        match=r"'blind' lost 100.00 points of the recall of class 2 \('crack'",
    ):
        found.check(per_class_drop=5.0)
    with pytest.raises(export.VerificationError, match="class 2"):
        verify(pair(files), student, features, per_class_drop=50)


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        (keras.metrics.F1Score(average="macro"), "points"),
        (keras.metrics.F1Score(), "points"),  # one number per class
        (keras.metrics.CategoricalCrossentropy(from_logits=True), None),
    ],
)
def test_a_keras_metric_as_the_bound(metric, unit, files, student, features):
    x, y = features
    y, weights = keras.utils.to_categorical(y), np.linspace(0, 2, SAMPLES)
    found = verify(pair(files), student, (x, y, weights), metric=metric)
    for model, row in (
        (student, found.rows[1]),
        (export.load(files["blind"]), found.rows[2]),
    ):
        metric.reset_state()
        metric.update_state(y, np.asarray(model(x)), sample_weight=weights)
        np.testing.assert_allclose(row["metric"], metric.result(), rtol=1e-5)
    lost = np.max(
        np.subtract(found.rows[0]["metric"], found.rows[2]["metric"])
        * (100 if unit else -1)
    )
    assert found.rows[2]["metric_drop"] == pytest.approx(lost) and lost > 0
    found.check(lost + 1e-3)
    with pytest.raises(export.VerificationError, match=f"of {metric.name}"):
        found.check(lost - 1e-3)
    with pytest.raises(ValueError, match="'auc' was not measured"):
        found.check(metric=keras.metrics.AUC(name="auc"))


@pytest.mark.parametrize("bound", [np.nan, np.inf, -1.0, "0.5", True])
@pytest.mark.parametrize("argument", ["max_accuracy_drop", "per_class_drop"])
def test_bounds_that_are_none(argument, bound, files, student, features):
    with pytest.raises(ValueError, match=f"{argument} must be.*{bound}"):
        verify(files["right"], student, features, **{argument: bound})
    with pytest.raises(ValueError, match=f"{argument} must be.*{bound}"):
        verify(files["right"], student, features).check(**{argument: bound})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"metric": "auc"}, r"'mean_iou', or a keras.metrics.Metric"),
        ({"num_threads": 0}, "num_threads must be an integer of at least 1"),
        ({"latency_runs": -1}, "latency_runs must be an integer of at least 0"),
        ({"ignore_class": 0.5}, "ignore_class must be an integer"),
    ],
)
def test_arguments_that_are_refused(options, match, files, student, features):
    with pytest.raises(ValueError, match=match):
        verify(files["right"], student, features, **options)


def test_networks_that_are_not_finite_are_refused(files, student, features):
    # The argmax of NaN is class 0, which most labels are.
    with pytest.raises(
        export.VerificationError, match="'broken.tflite' are not"
    ):
        verify(files["broken"], student, features)
    broken = linear(np.full((3, 3), np.nan))
    with pytest.raises(
        export.VerificationError, match="'student .*are not finite"
    ):
        verify(files["broken"], broken, features)
    with pytest.raises(export.VerificationError, match="'teacher' are not fin"):
        verify(files["right"], student, features, teacher=broken)


def test_labels_outside_the_classes_need_a_word(files, student, features):
    x, y = features
    void = np.where(np.arange(SAMPLES) % 2, 255, y)
    with pytest.raises(ValueError, match="ignore_class=255"):
        verify(files["right"], student, (x, void))
    found = verify(files["blind"], student, (x, void), ignore_class=255)
    assert (found.samples, found.positions) == (120, 60)
    assert found.rows[1]["accuracy"] == np.mean((y != 2)[::2])
    with pytest.raises(ValueError, match="Nothing in `dataset` counts"):
        verify(
            files["right"], student, (x, np.full(120, 255)), ignore_class=255
        )


def test_weights_count_and_zero_weights_count_nowhere(files, student, features):
    x, y = features
    weights = np.where(y == 1, 3.0, np.where(y == 2, 0.5, 1.0))
    found = verify(files["blind"], student, (x, y, weights), teacher=student)
    share = (100 + 45) / (100 + 45 + 2.5)
    for key in "accuracy", "agreement", "teacher_agreement":
        assert found.rows[1][key] == pytest.approx(share)
    assert found.rows[1]["mean_absolute_difference"] == pytest.approx(
        2 / 3 * 2.5 / (100 + 45 + 2.5)
    )
    weights[y == 2] = 0.0
    x = np.where(y[:, None] == 2, np.nan, x)  # not even finite
    found = verify(files["blind"], student, (x, y, weights), teacher=student)
    for key in "accuracy", "agreement", "teacher_agreement":
        assert found.rows[1][key] == 1.0
    assert found.rows[1]["max_absolute_difference"] == 0.0
    assert found.rows[1]["recall"] == [1.0, 1.0, None]


@pytest.mark.parametrize(
    "in_dataset", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_padding_counts_nowhere(in_dataset, tmp_path):
    def network(sign):
        tokens = keras.Input((8,), dtype="int32", name="tokens")
        h = layers.Embedding(5, 5, mask_zero=True)(tokens)
        model = keras.Model(tokens, layers.Dense(5, use_bias=False)(h))
        model.set_weights([np.eye(5) * sign, np.eye(5)])
        return model

    x = np.zeros((10, 8), "int32")
    x[:, :2] = np.random.default_rng(0).integers(1, 5, (10, 2))
    student = network([[1]] * 5)
    # Wrong on every token, right on the padding.
    ruined = exported(network([[1]] + [[-1]] * 4), tmp_path / "a.tflite")
    data = (x, x)
    if in_dataset:
        data = tf.data.Dataset.from_tensor_slices(data).batch(4)
    found = verify(ruined, student, data, teacher=student)
    assert found.positions == 20
    assert found.rows[0]["accuracy"] == 1.0
    for key in "accuracy", "agreement", "teacher_agreement":
        assert found.rows[1][key] == 0.0
    assert found.rows[1]["mean_absolute_difference"] == pytest.approx(0.4)
    with pytest.raises(export.VerificationError, match="lost 100.00 points"):
        found.check()


def test_a_regression_has_errors_and_no_agreement(tmp_path):
    student = linear([[1.0], [2.0], [3.0]])
    path = exported(linear([[1.5], [2.0], [3.0]]), tmp_path / "a.tflite")
    x = np.eye(3, dtype="float32")
    y = np.array([1.0, 2.0, 4.0])
    metric = keras.metrics.MeanSquaredError()
    found = verify(path, student, (x, y), teacher=student, metric=metric)
    assert found.task == "regression"
    errors = [row["mean_absolute_error"] for row in found.rows]
    np.testing.assert_allclose(errors, [1 / 3, 0.5])
    assert found.rows[1]["root_mean_squared_error"] == pytest.approx(
        np.sqrt(1.25 / 3)
    )
    for key in "accuracy", "agreement", "teacher_agreement", "recall":
        assert found.rows[1][key] is None
    assert "agreement" not in str(found)
    found.check(0.0834)
    with pytest.raises(export.VerificationError, match="lost 0.0833 .*square"):
        found.check(0.0833)
    for bound in {"max_accuracy_drop": 1}, {"per_class_drop": 1}:
        with pytest.raises(ValueError, match="needs classes.*regression"):
            verify(path, student, (x, y), **bound)


def test_small_logits_of_one_unit_are_no_probabilities(tmp_path):
    student, teacher = (
        linear([[0.2], [0.5], [0.8]]),
        linear([[0.8], [0.5], [0.2]]),
    )
    interface = export.Interface(activation="sigmoid")
    files = {
        "logits": exported(student, tmp_path / "a.tflite"),
        "shares": exported(student, tmp_path / "b.tflite", interface=interface),
    }
    data = np.eye(3, dtype="float32"), np.ones(3, int)
    for row in verify(files, student, data, teacher=teacher).rows:
        assert row["accuracy"] == row["teacher_agreement"] == 1.0


def test_sparse_data_is_dense_for_a_file(files, student, features):
    x, y = features
    expected = verify(files["blind"], student, (x, y)).rows
    sparse = tf.data.Dataset.from_tensor_slices((tf.sparse.from_dense(x), y))
    for data in (scipy.sparse.csr_matrix(x), y), sparse.batch(50):
        rows = verify(files["blind"], student, data).rows
        assert rows[1]["accuracy"] == expected[1]["accuracy"]
        assert rows[1]["recall"] == expected[1]["recall"]


@pytest.mark.parametrize("in_a_list", [True, False])
def test_inputs_that_the_file_renames(in_a_list, tmp_path):
    inputs = [keras.Input((4,)), keras.Input((4,))]
    student = keras.Model(inputs, layers.Subtract()(inputs))
    # Not in the order of the alphabet, which is that of the file.
    specs = [tf.TensorSpec((1, 4), name=name) for name in ("right", "left")]
    interface = export.Interface(
        input_signature=[specs] if in_a_list else specs
    )
    path = exported(student, tmp_path / "a.tflite", interface=interface)
    assert export.load(path).input_names == ["left", "right"]
    x = list(np.random.default_rng(0).normal(size=(2, 10, 4)))
    found = verify(path, student, [(x, np.zeros(10, int))])
    assert found.rows[1]["max_absolute_difference"] == 0.0


def test_strings_have_no_range(tmp_path):
    words = keras.Input((3,), dtype="string", name="words")
    ids = layers.StringLookup(vocabulary=["a", "b"])(words)
    h = layers.Flatten()(layers.Embedding(3, 4)(ids))
    student = keras.Model(words, layers.Dense(2)(h))
    path = exported(student, tmp_path / "a.tflite")
    x = np.array([["a", "b", "c"], ["b", "b", "a"]])
    found = verify(path, student, (x, np.zeros(2, int)))
    assert found.rows[1]["max_relative_difference"] < 1e-6


@pytest.mark.slow
def test_camera_files_and_others_stand_in_one_table(student, files, tmp_path):
    bytes_to_units = layers.Rescaling(1 / 255)
    camera = exported(
        student,
        tmp_path / "camera.tflite",
        preprocessing=bytes_to_units,
        interface=export.Interface(
            input_signature=[tf.TensorSpec((1, 3), tf.uint8, name="photo")]
        ),
    )
    y = np.arange(30) % 3
    x = 255 * np.eye(3, dtype="uint8")[y]
    found = verify(
        {"camera": camera, "ordinary": files["right"]},
        student,
        (x, y),
        preprocessing=bytes_to_units,
    )
    assert [row["accuracy"] for row in found.rows] == [1.0, 1.0, 1.0]
    inputs = [row["input_dtype"] for row in found.rows]
    assert inputs == [None, "uint8", "float32"]


def test_a_verification_knows_its_data(files, student, features):
    x, y = features
    expected = labels_fingerprint(y)
    for labels in (y, keras.utils.to_categorical(y), y.astype("float32")):
        found = verify(files["right"], student, (x, labels))
        assert found.data_fingerprint == expected
    other = verify(files["right"], student, (x, y[::-1].copy()))
    assert other.data_fingerprint != expected
    assert verify(files["right"], student, x).data_fingerprint is None
