"""What int8 costs the student, as `kd.diagnose` tries it."""

import keras
import pytest
from diagnosis_cases import data
from diagnosis_cases import look
from diagnosis_cases import narrow_student

from keras_distill.diagnosis import in_int8


def test_the_try_is_told_and_a_sure_loss_is_a_finding():
    lost = {"difference": 0.03, "low": 0.01, "high": 0.05}
    facts = {"int8": {"agreement": 0.95, "lost": lost}}
    kind, text = in_int8.finding(facts)
    assert kind == "int8_costs"
    assert "+3.0 points" in text and "fine_tune" in text
    assert "95.0%" in in_int8.note(facts)
    lost["low"] = -0.01
    assert in_int8.finding(facts) is None
    assert in_int8.finding({}) is None


@pytest.mark.slow
def test_a_student_is_tried_unless_no_rule_knows_it():
    result = look(narrow_student(), dataset=data(300), steps=20)
    tried = result.as_dict()["int8"]
    assert tried["agreement"] > 0.9
    assert abs(tried["lost"]["difference"]) < 0.1
    assert "In int8" in str(result)
    shape = narrow_student().input_shape[1:]
    student = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Dense(4, activation="gelu"),
            keras.layers.Dense(narrow_student().output_shape[-1]),
        ]
    )
    result = look(student, dataset=data(300), steps=20)
    assert result.as_dict()["int8"] is None
    assert "In int8" not in str(result)
