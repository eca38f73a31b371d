"""Heads and classes of the networks that `kd.diagnose` looks at."""

import keras
import numpy as np
import pytest
from diagnosis_cases import FEATURES
from diagnosis_cases import RULE
from diagnosis_cases import VALIDATION
from diagnosis_cases import classifier
from diagnosis_cases import data
from diagnosis_cases import flexible_student
from diagnosis_cases import kinds
from diagnosis_cases import knowing_teacher
from diagnosis_cases import linear
from diagnosis_cases import look

layers = keras.layers


def test_probabilities_are_taken_as_they_are(ordinary):
    logits = ordinary.as_dict()["teacher"]
    result = look(teacher=knowing_teacher(activation="softmax"))
    teacher = result.as_dict()["teacher"]
    assert (logits["head"], teacher["head"]) == ("logits", "softmax")
    for key in ("entropy", "largest_probability"):
        assert teacher["validation"][key] == pytest.approx(
            logits["validation"][key], rel=1e-4
        )
    text = dict(result.findings)["heads"]
    assert "teacher_probabilities=True" in text
    assert "student" not in text


def test_probabilities_are_seen_where_the_structure_hides_them():
    inputs = keras.Input((FEATURES,))
    plain = knowing_teacher()
    members = [
        knowing_teacher(activation="softmax", name=name) for name in "ab"
    ]
    average = layers.Average()([member(inputs) for member in members])
    softmax = layers.Lambda(keras.ops.softmax)(plain(inputs))
    expected = classifier(plain).probabilities(VALIDATION[0])
    for output in average, softmax:
        found = classifier(keras.Model(inputs, output))
        assert found.head == "softmax"
        np.testing.assert_allclose(
            found.probabilities(VALIDATION[0]), expected, atol=1e-6
        )


class OneUnit(keras.Model):
    def __init__(self):
        super().__init__()
        self.unit = layers.Dense(1, activation="sigmoid")

    def call(self, x):
        return self.unit(x)


def test_few_values_in_the_unit_interval_prove_nothing():
    model, x = OneUnit(), VALIDATION[0]
    model(x[:1])
    assert classifier(model, x[:31]).head == "logits"
    assert classifier(model, x[:32]).head == "sigmoid"
    # A head that shows what it is, is believed.
    inputs = keras.Input((FEATURES,))
    seen = layers.Dense(1, kernel_initializer="zeros")(inputs)
    assert classifier(keras.Model(inputs, seen), x).head == "logits"


def test_a_softmax_student_is_trained_as_such():
    keras.utils.set_random_seed(0)
    student = flexible_student(activation="softmax")
    result = look(student, dataset=data(1000), steps=50)
    assert result.as_dict()["student"]["training"]["accuracy"] > 0.8
    assert "from_logits=True" in dict(result.findings)["heads"]


@pytest.mark.slow
def test_one_unit_for_two_classes():
    x, y = data(500)
    y = (y > 1).astype("int32")
    rule = RULE[:, 2:].sum(-1, keepdims=True)
    one = {"name": "student"}
    for activation in (None, "sigmoid"):
        student = linear(np.zeros((FEATURES, 1)), activation, **one)
        result = look(
            student,
            linear(rule, activation),
            (x, y),
            validation_data=(x, y[:, None]),
            steps=50,
        ).as_dict()
        p = 1 / (1 + np.exp(-(x @ rule)))
        p = np.concatenate([p, 1 - p], -1)
        row = result["teacher"]["validation"]
        assert row["largest_probability"] == pytest.approx(
            p.max(-1).mean(), rel=1e-4
        )
        assert result["student"]["classes"] == 2
        assert result["student"]["training"]["accuracy"] > 0.7


def test_other_classes():
    teacher = linear(np.ones((FEATURES, 6)))
    result = look(teacher=teacher)
    assert kinds(result)[0] == "classes_differ"
    assert "class_map" in str(result)
    assert "accuracy" not in result.as_dict()["teacher"]["validation"]
    assert "teacher_not_better" not in kinds(result)
