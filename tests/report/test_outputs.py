"""The report on a student with several outputs."""

import json

import keras
import numpy as np
import pytest
from networks import crossentropy

import keras_distill as kd

layers = keras.layers
rng = np.random.default_rng(0)
X = rng.normal(size=(20, 5)).astype("float32")
Y = {"a": rng.integers(0, 3, 20), "b": rng.integers(0, 2, 20)}
EVIDENCE = kd.report.Evidence


def network(width, **heads):
    x = keras.Input((5,))
    h = layers.Dense(width, activation="relu")(x)
    heads = heads or {"a": 3, "b": 2}
    return keras.Model(
        x, {k: layers.Dense(n, name=f"{k}_head")(h) for k, n in heads.items()}
    )


def write(folder, networks, y=Y, **options):
    path = kd.write_report(
        folder / "report.html", networks, (X, y), verbose=False, **options
    )
    return path.read_text(), json.loads((folder / "report.json").read_text())


def test_every_output_has_its_sections(tmp_path):
    student, teacher = network(4), network(8)
    made = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses={"a": kd.losses.SoftTargets()},
    )
    made.compile(loss={"a": crossentropy(), "b": crossentropy()})
    rows = [{"file": "student", "size_bytes": 9, "accuracy": 0.5}] * 2
    rows = [dict(r, agreement=1.0, accuracy_drop_points=0.0) for r in rows]
    verified = kd.export.Verification(rows, 20, "b", 1, 0)
    page, facts = write(
        tmp_path,
        made,
        evidence=EVIDENCE(verification=verified, history={"loss": [2.0, 1.0]}),
        about=kd.report.About(class_names={"a": ["x", "y", "z"]}),
    )
    assert set(facts["outputs"]) == {"a", "b"}
    for task, of_output in facts["outputs"].items():
        decided = np.argmax(student(X)[task], -1)
        same = np.argmax(teacher(X)[task], -1) == decided
        measured = of_output["networks"]["student"]
        right = np.mean(decided == Y[task])
        assert measured["accuracy"] == pytest.approx(right)
        assert measured["agreement_with_teacher"] == pytest.approx(same.mean())
        for section in ("summary", "networks", "calibration", "classes"):
            assert page.count(f'id="{task}-{section}"') == 1
    assert facts["outputs"]["a"]["data"]["class_names"] == ["x", "y", "z"]
    assert facts["outputs"]["a"]["verification"] is None
    assert 'id="b-files"' in page and 'id="a-files"' not in page
    assert page.count('id="training"') == page.count('id="origin"') == 1


def test_outputs_without_labels_and_teachers_of_some(tmp_path):
    networks = kd.report.Networks(network(4), teacher=network(8, b=2, c=4))
    page, facts = write(tmp_path, networks, {"b": Y["b"]})
    # One output with labels: the page is the one of a single output.
    assert facts["networks"]["student"]["agreement_with_teacher"] is not None
    assert 'id="summary"' in page
    _, facts = write(tmp_path, networks, overwrite=True)
    of_a = facts["outputs"]["a"]["networks"]
    assert of_a["student"]["agreement_with_teacher"] is None
    assert "accuracy" not in of_a["teacher"]


def one_output(units):
    x = keras.Input((5,))
    return keras.Model(x, layers.Dense(units)(x))


def taught(losses, student=None):
    teachers = {"ta": one_output(3), "tb": one_output(2), "tc": one_output(3)}
    made = kd.Distiller(
        student=student or network(4),
        teacher=kd.Teachers(
            teachers,
            combinations={
                "mean": ["ta", "tc"],
                "right": kd.teachers.Combination(["ta", "tc"], rule="label"),
            },
        ),
        distillation_losses={
            key: kd.losses.SoftTargets(teacher_layer_name=name)
            for key, name in losses.items()
        },
        alpha=1.0,
    )
    made.compile()
    return made, teachers


def agreement(facts):
    return facts["networks"]["student"]["agreement_with_teacher"]


@pytest.mark.parametrize("name", ("ta", "mean"))
@pytest.mark.filterwarnings("ignore:teacher. no loss reads")
def test_teachers_with_names_of_their_own(tmp_path, name):
    made, teachers = taught({"a": name, "b": "tb"})
    _, facts = write(tmp_path, made)
    outputs = {key: model(X) for key, model in teachers.items()}
    softmax = keras.ops.softmax
    outputs["mean"] = softmax(outputs["ta"]) + softmax(outputs["tc"])
    for task, of_output in facts["outputs"].items():
        answer = outputs[name if task == "a" else "tb"]
        decided = np.argmax(made.student(X)[task], -1)
        same = np.mean(np.argmax(answer, -1) == decided)
        assert agreement(of_output) == pytest.approx(same)
    used = [teachers[key] for key in ("ta", "tb", "tc")]
    used = used[:2] if name == "ta" else used
    parameters = sum(model.count_params() for model in used)
    networks = facts["outputs"]["a"]["networks"]
    assert networks["teacher"]["parameters"] == parameters


@pytest.mark.filterwarnings("ignore:teacher. no loss reads")
def test_one_output_and_several_named_teachers(tmp_path):
    student = one_output(3)
    made, teachers = taught({"soft": "ta"}, student)
    _, facts = write(tmp_path, made, Y["a"])
    same = np.argmax(teachers["ta"](X), -1) == np.argmax(student(X), -1)
    assert agreement(facts) == pytest.approx(np.mean(same))
    assert facts["networks"]["teacher"]["name"] == "ta"
    # What depends on the labels is no network.
    made, teachers = taught({"soft": "right"}, student)
    with pytest.raises(ValueError, match="Networks.distiller, teacher=one"):
        write(tmp_path, made, Y["a"], overwrite=True)
    networks = kd.report.Networks(made, teacher=teachers["tc"])
    _, facts = write(tmp_path, networks, Y["a"], overwrite=True)
    same = np.argmax(teachers["tc"](X), -1) == np.argmax(student(X), -1)
    assert agreement(facts) == pytest.approx(np.mean(same))


def test_named_teachers_with_inputs_of_their_own(tmp_path):
    inputs = {name: keras.Input((5,), name=name) for name in ("left", "right")}
    units = {"a": 3, "b": 2}
    student = keras.Model(
        inputs,
        {
            task: layers.Dense(n)(layers.Concatenate()(list(inputs.values())))
            for task, n in units.items()
        },
    )
    teachers = {
        task: keras.Model(x, layers.Dense(units[task])(x))
        for task, x in zip(units, inputs.values())
    }
    made = kd.Distiller(
        student=student,
        teacher=teachers,
        distillation_losses={t: kd.losses.SoftTargets() for t in units},
        alpha=1.0,
    )
    made.compile()
    x = {"left": X, "right": X[::-1]}
    kd.write_report(tmp_path / "report.html", made, (x, Y), verbose=False)
    facts = json.loads((tmp_path / "report.json").read_text())
    for (task, teacher), seen in zip(teachers.items(), x.values()):
        decided = np.argmax(student(x)[task], -1)
        same = np.mean(np.argmax(teacher(seen), -1) == decided)
        assert agreement(facts["outputs"][task]) == pytest.approx(same)


@pytest.mark.parametrize(
    "y, options, message",
    [
        (Y["a"], {}, "must be a dict with these keys"),
        ({"c": Y["a"]}, {}, "none of which is an output"),
        (Y, {"evidence": EVIDENCE(accuracies={"alone": 0.5})}, "one output"),
    ],
)
def test_what_does_not_fit(tmp_path, y, options, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, network(4), y, **options)
