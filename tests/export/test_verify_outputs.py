"""`verify` of a student with several outputs."""

import json

import keras
import numpy as np
import pytest

import keras_distill as kd

layers = keras.layers
rng = np.random.default_rng(0)
X = rng.normal(size=(20, 5)).astype("float32")
Y = {"a": rng.integers(0, 3, 20), "b": rng.integers(0, 2, 20)}
OPTIONS = {"verbose": False, "latency_runs": 0, "measure_memory": False}


def network(width, **heads):
    x = keras.Input((5,))
    h = layers.Dense(width, activation="relu")(x)
    return keras.Model(
        x, {k: layers.Dense(n, name=f"{k}_head")(h) for k, n in heads.items()}
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    student = network(4, b=2, a=3)
    path = tmp_path_factory.mktemp("outputs") / "student.tflite"
    return kd.export.tflite(student, path, verbose=False), student


def shares(student, teacher=None):
    """Of each output: accuracy, and agreement with a teacher."""
    right, same = {}, {}
    for task in "ab":
        decided = np.argmax(student(X)[task], -1)
        right[task] = np.mean(decided == Y[task])
        if teacher is not None:
            same[task] = np.mean(decided == np.argmax(teacher(X)[task], -1))
    return right, same


def test_all_outputs_in_one_pass(exported):
    path, student = exported
    teacher = network(8, a=3, b=2)
    batches = iter([(X[:12], pick(0, 12)), (X[12:], pick(12, 20))])
    result = kd.export.verify(
        path, student, batches, teacher=teacher, **OPTIONS
    )
    right, same = shares(student, teacher)
    assert set(result) == {"a", "b"}
    for task, verification in result.items():
        for row in verification.rows:
            assert row["accuracy"] == pytest.approx(right[task])
            assert row["agreement"] == 1.0
            assert row["teacher_agreement"] == pytest.approx(same[task])
    text = str(result)
    assert text.count("Output '") == 2 and text.count("Costs on") == 1
    assert set(json.loads(result.to_json())) == {"a", "b"}
    result.check(max_accuracy_drop=0.1)
    result["b"].rows[1].update(accuracy_drop_points=3.0, accuracy=0.0)
    with pytest.raises(kd.export.VerificationError, match="Output 'b'.*lost"):
        result.check(max_accuracy_drop=0.1)


def pick(start, end):
    return {task: labels[start:end] for task, labels in Y.items()}


def test_outputs_without_labels_and_masked_ones(exported):
    path, student = exported
    mask = np.float32(np.arange(20) < 5)
    data = [(X, {"b": Y["b"]}, {"b": mask})]
    result = kd.export.verify(
        path, student, data, max_accuracy_drop=1, **OPTIONS
    )
    assert result["a"].rows[1]["accuracy"] is None
    assert result["a"].positions == 20 and result["b"].positions == 5
    decided = np.argmax(student(X)["b"], -1)[:5]
    expected = np.mean(decided == Y["b"][:5])
    assert result["b"].rows[1]["accuracy"] == pytest.approx(expected)


def test_a_metric_of_outputs_without_labels(exported):
    path, student = exported
    options = {"metric": keras.metrics.SparseCategoricalAccuracy(), **OPTIONS}
    result = kd.export.verify(
        path, student, (X, {"b": Y["b"]}), max_accuracy_drop=1, **options
    )
    row = result["b"].rows[1]
    assert row["metric"] == pytest.approx(row["accuracy"])
    assert result["a"].rows[1]["metric"] is None and str(result)
    result.check(1)
    result = kd.export.verify(path, student, X, **options)
    with pytest.raises(ValueError, match="needs labels"):
        result.check(1)


def test_labels_of_a_list_by_the_names_of_layers(tmp_path):
    x = keras.Input((5,))
    heads = [layers.Dense(n, name=k)(x) for k, n in (("a", 3), ("b", 2))]
    student = keras.Model(x, heads)
    path = kd.export.tflite(student, tmp_path / "s.tflite", verbose=False)
    data = X, Y, {"b": np.float32(np.arange(20) < 5)}
    result = kd.export.verify(path, student, data, **OPTIONS)
    assert result["output_0"].positions == 20
    assert result["output_1"].positions == 5
    for task, verification in zip("ab", result.values()):
        right = np.argmax(student(X)["ab".index(task)], -1) == Y[task]
        right = right[: verification.positions].mean()
        assert verification.rows[1]["accuracy"] == pytest.approx(right)
    one = kd.export.verify(path, student, data, output="output_1", **OPTIONS)
    assert one.rows == [
        {**row, "path": one.rows[i]["path"]}
        for i, row in enumerate(result["output_1"].rows)
    ]


def test_class_names_of_another_output(tmp_path):
    student = network(4, a=3, b=2)
    names = {"class_names": ["x", "y", "z"]}
    path = kd.export.tflite(
        student, tmp_path / "s.tflite", metadata=names, verbose=False
    )
    for output, expected in ("a", ["x", "y", "z"]), ("b", None):
        result = kd.export.verify(
            path, student, (X, Y), output=output, **OPTIONS
        )
        assert result.class_names == expected


def test_a_teacher_of_some_outputs_and_one_output(exported):
    path, student = exported
    teacher = network(8, b=2)
    result = kd.export.verify(path, student, (X, Y), teacher=teacher, **OPTIONS)
    assert result["a"].rows[1]["teacher_agreement"] is None
    assert result["b"].rows[1]["teacher_agreement"] is not None
    one = kd.export.verify(path, student, (X, Y["a"]), output="a", **OPTIONS)
    assert one.output == "a" and one.task == "classification"


def one_output(width, units):
    x = keras.Input((5,))
    return keras.Model(x, layers.Dense(units)(layers.Dense(width)(x)))


def test_teachers_by_the_names_of_the_outputs(exported):
    path, student = exported
    teachers = {"a": one_output(8, 3), "b": one_output(8, 2)}
    result = kd.export.verify(
        path, student, (X, Y), teacher=teachers, **OPTIONS
    )
    _, same = shares(student, kd.Teachers(teachers))
    for task, verification in result.items():
        for row in verification.rows:
            assert row["teacher_agreement"] == pytest.approx(same[task])


def test_several_teachers_of_one_output(tmp_path):
    student = one_output(4, 3)
    teachers = [one_output(8, 3), one_output(6, 3)]
    path = kd.export.tflite(student, tmp_path / "s.tflite", verbose=False)
    named = dict(zip("st", teachers))
    with pytest.raises(ValueError, match="received 2 by name.*Pass one"):
        kd.export.verify(path, student, (X, Y["a"]), teacher=named, **OPTIONS)
    result = kd.export.verify(
        path, student, (X, Y["a"]), teacher=teachers, **OPTIONS
    )
    mean = np.argmax(kd.Ensemble(teachers)(X), -1)
    same = np.mean(mean == np.argmax(student(X), -1))
    assert result.rows[0]["teacher_agreement"] == pytest.approx(same)


@pytest.mark.parametrize(
    "options, y, message",
    [
        ({"output": "c"}, Y, r"`output` must be one of"),
        ({}, Y["a"], "the labels of `dataset` must be a dict"),
        ({}, {"aa": Y["a"]}, r"outputs \['b', 'a'\].*labels for \['aa'\]"),
        (
            {"metric": keras.metrics.F1Score()},
            {"a": np.eye(3)[Y["a"]], "b": np.eye(2)[Y["b"]]},
            r"with outputs of shape.*verify\(output=",
        ),
        ({"teacher": network(8, c=2)}, Y, r"teacher's outputs \['c'\]"),
    ],
)
def test_what_does_not_fit(exported, options, y, message):
    path, student = exported
    with pytest.raises(ValueError, match=message):
        kd.export.verify(path, student, (X, y), **options, **OPTIONS)


def test_numbers_have_no_bounds_of_classes(tmp_path):
    student = network(4, a=3, b=1)
    path = kd.export.tflite(student, tmp_path / "s.tflite", verbose=False)
    y = {"a": Y["a"], "b": rng.normal(size=(20, 1)).astype("float32")}
    result = kd.export.verify(
        path, student, (X, y), max_accuracy_drop=1.0, **OPTIONS
    )
    result.check()
    result["b"].rows[1]["metric"] = None
    lost = result["a"].rows[1]
    lost["accuracy"] = lost["accuracy"] - 0.5
    with pytest.raises(kd.export.VerificationError, match="Output 'a'.*lost"):
        result.check(max_accuracy_drop=1.0)
