"""Outputs of several teachers as one: the numbers, and what is refused."""

import keras
import numpy as np
import pytest
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd

Combination = kd.teachers.Combination
NAMES = ["a", "b"]
# Probabilities of three classes, in the first two samples of two teachers.
A = np.array([[0.5, 0.4, 0.1], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]])
B = np.array([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]])
OUTPUTS = {"a": np.log(A) + 3.0, "b": np.log(B)}


def shares(rule, y, weights):
    """The share of the first teacher of two, by hand."""
    w = np.divide(weights, sum(weights))
    if rule == "confidence":
        trust = np.stack([A.max(-1), B.max(-1)])
    elif rule == "label":
        trust = np.stack([A.argmax(-1) == y, B.argmax(-1) == y])
        trust = np.where(trust.sum(0) == 0, 1.0, trust)
    else:
        trust = np.ones((2, 3))
    trust = trust * w[:, None]
    return trust[0] / trust.sum(0)


@pytest.mark.parametrize("weights", [(1, 1), (3, 1)])
@pytest.mark.parametrize("rule", ["mean", "confidence", "label", "sample"])
def test_probabilities_are_mixed_per_sample(rule, weights):
    y = np.array([1, 0, 0])  # b is right; none is; both are.
    found = Combination(NAMES, weights, rule)(OUTPUTS, y)
    share = shares(rule, y, weights)[:, None]
    np.testing.assert_allclose(
        np.exp(found), share * A + (1 - share) * B, rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["one-hot", "column", "void", "pixels"])
def test_labels_of_every_kind(kind):
    y, outputs = np.array([1, 0, 0]), OUTPUTS
    expected = Combination(NAMES, rule="label")(OUTPUTS, y)
    if kind == "one-hot":
        y = np.eye(3, dtype="float32")[y]
    elif kind == "column":
        y = y[:, None]
    elif kind == "void":  # The label of no class: no teacher is right.
        y = np.array([1, 255, 0])
    else:
        y = y[None]
        outputs = {name: x[None] for name, x in OUTPUTS.items()}
        expected = expected[None]
    found = Combination(NAMES, rule="label")(outputs, y)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_classes_and_probabilities_of_a_teacher():
    outputs = {"a": A[:, [2, 1, 0, 0]], "b": OUTPUTS["b"]}
    combination = Combination(
        NAMES, class_maps={"a": [2, 1, 0]}, probabilities=["a"]
    )
    combination = Combination.from_config(combination.get_config())
    found = np.exp(combination(outputs))
    np.testing.assert_allclose(found, (A + B) / 2, rtol=1e-5)
    # The probabilities of the chosen classes sum to 1.
    part = {"a": [0, 1], "b": [0, 1]}
    found = np.exp(Combination(NAMES, class_maps=part)(OUTPUTS))
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-5)


def test_teachers_of_other_classes_are_not_mixed():
    members = {"a": convnet(), "b": convnet(classes=7)}
    for combination, message in (
        (NAMES, r"other classes.*\(None, 4\).*\(None, 7\).*class_maps"),
        (Combination(NAMES, class_maps={"b": [0, 1, 2, 7]}), "0 to 6.*: 7"),
    ):
        teachers = kd.Teachers(members, combinations={"m": combination})
        with pytest.raises(ValueError, match=message):
            kd.Distiller(
                student=convnet(),
                teacher=teachers,
                distillation_losses=kd.losses.SoftTargets(
                    teacher_layer_name="m"
                ),
            )
    with pytest.raises(ValueError, match="'b' ends in a sigmoid"):
        kd.Teachers(
            {"a": convnet(), "b": convnet(head="sigmoid")},
            combinations={"m": NAMES},
        )


def test_a_softmax_is_seen():
    members = {"a": convnet(), "b": convnet(head="softmax")}
    teachers = kd.Teachers(members, combinations={"m": NAMES})
    assert teachers.combinations["m"].probabilities == ("b",)


def test_a_member_that_is_a_list_of_models():
    x, _ = data(4)
    first, second, third = (convnet(width) for width in (4, 5, 6))
    teachers = kd.Teachers(
        {"a": [first, second], "b": third}, combinations={"mean": NAMES}
    )
    found = np.exp(teachers.combinations["mean"](teachers(x)))
    p, q, r = (keras.ops.softmax(model(x)) for model in (first, second, third))
    np.testing.assert_allclose(found, (p + q) / 4 + r / 2, rtol=1e-4)


def test_labels_choose_the_teacher_in_training():
    x, y = data(16)
    teachers = kd.Teachers(
        {"a": convnet(4), "b": convnet(8)},
        combinations={"right": Combination(NAMES, rule="label")},
    )
    student = convnet()
    loss = kd.losses.SoftTargets(teacher_layer_name="right")
    model = kd.Distiller(
        student=student, teacher=teachers, distillation_losses={"soft": loss}
    )
    model.compile(keras.optimizers.SGD(0.0), crossentropy())
    found = model.fit(x, y, batch_size=16, verbose=0).history["soft_loss"]
    mixed = teachers.combinations["right"](teachers(x), y)
    expected = float(kd.losses.SoftTargets().compute_loss(mixed, student(x)))
    assert found == [pytest.approx(expected, rel=1e-4)]
    without = kd.Distiller(
        student=student,
        teacher=teachers,
        distillation_losses=kd.losses.SoftTargets(teacher_layer_name="right"),
        alpha=1.0,
    )
    without.compile("sgd")
    with pytest.raises(ValueError, match="'right'.*needs labels"):
        without.fit(x, verbose=0)


TASK_Y = {"a": np.arange(8) % 3, "b": np.arange(8) % 2}


def of_tasks(**losses):
    """A student of two tasks, whose losses read `right`: mixed by label."""
    x, units = keras.Input((5,)), {"a": 3, "b": 2}
    heads = {t: keras.layers.Dense(n, name=t)(x) for t, n in units.items()}
    members = {n: keras.Model(x, keras.layers.Dense(3)(x)) for n in "st"}
    teachers = kd.Teachers(
        members, combinations={"right": Combination(["s", "t"], rule="label")}
    )
    made = kd.Distiller(
        student=keras.Model(x, heads),
        teacher=teachers,
        distillation_losses={
            name: kd.losses.SoftTargets(
                teacher_layer_name="right", student_layer_name=layer
            )
            for name, layer in losses.items()
        },
    )
    loss = {"a": crossentropy(), "b": crossentropy()}
    made.compile(keras.optimizers.SGD(0.0), loss)
    return made, teachers


TASK_X = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")


@pytest.mark.parametrize("as_list", (False, True))
def test_the_label_of_the_task_chooses_the_teacher(as_list):
    made, teachers = of_tasks(a=None)
    y = list(TASK_Y.values()) if as_list else TASK_Y
    logs = made.fit(TASK_X, y, batch_size=8, verbose=0).history
    p = {k: np.exp(z) for k, z in teachers.predict(TASK_X, verbose=0).items()}
    p = {k: z / z.sum(-1, keepdims=True) for k, z in p.items()}
    right = [np.argmax(p[k], -1) == TASK_Y["a"] for k in "st"]
    trust = np.where(right[0] | right[1], right, 1.0)
    share = (trust[0] / trust.sum(0))[:, None]
    target = share * p["s"] + (1 - share) * p["t"]
    z = np.asarray(made.student(TASK_X)["a"], "float64")
    log_q = z - np.log(np.exp(z).sum(-1, keepdims=True))
    expected = np.sum(target * (np.log(target) - log_q), -1).mean()
    assert logs["a_soft_targets_loss"] == [pytest.approx(expected, rel=1e-4)]


@pytest.mark.parametrize(
    "losses, y, message",
    [
        ({"a": None, "b": "a"}, TASK_Y, r"several tasks read it: \['a', 'b'"),
        ({"any": "a"}, TASK_Y, "has several labels.*by task"),
        ({"a": None}, {**TASK_Y, "a": None}, "'right'.*needs labels"),
    ],
)
def test_labels_of_several_tasks_that_do_not_choose(losses, y, message):
    made, _ = of_tasks(**losses)
    with pytest.raises(ValueError, match=message):
        made.fit(TASK_X, y, verbose=0)


@pytest.mark.parametrize(
    "argument, arguments",
    [
        ("teachers", {"teachers": ["a"]}),
        ("teachers", {"teachers": ["a", "a"]}),
        ("weights", {"weights": [1.0]}),
        ("weights", {"weights": [0.0, 0.0]}),
        ("rule", {"rule": "best"}),
        ("class_maps", {"class_maps": {"c": [0, 1]}}),
        ("class_maps", {"class_maps": {"a": [-1, 1]}}),
        ("probabilities", {"probabilities": ["c"]}),
    ],
)
def test_arguments_that_are_none(argument, arguments):
    with pytest.raises(ValueError, match=argument):
        Combination(**{"teachers": NAMES, **arguments})
