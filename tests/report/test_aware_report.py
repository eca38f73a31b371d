"""The report about an aware student."""

import json

import keras
import numpy as np
import pytest
from exporting import exported
from networks import data

import keras_distill as kd

layers = keras.layers


@pytest.mark.slow
def test_it_says_how_the_student_was_trained(tmp_path):
    x, y = data(32)
    student = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(4)]
    )
    aware = kd.quantization.aware(student, weights=4, calibration_data=x)
    path = exported(aware, tmp_path / "a.tflite", quantization="int8")
    verification = kd.export.verify(
        path, aware, (x, y), measure_memory=False, latency_runs=0, verbose=False
    )
    page = kd.write_report(
        tmp_path / "report.html",
        kd.report.Networks(aware, teacher=student),
        (x, y),
        evidence=kd.report.Evidence(verification=verification),
        verbose=False,
    )
    text = page.read_text()
    assert "with weights of 4 bits" in text
    assert "largest in steps" in text and "1 of 1" in text
    facts = json.loads(page.with_suffix(".json").read_text())
    assert facts["networks"]["student"]["weight_bits"] == [4]
    assert facts["networks"]["student"]["parameters"] == 772
    assert facts["verification"]["rows"][1]["equal_ranges"] == [2, 2]
    assert np.isfinite(facts["verification"]["rows"][1]["equal_outputs"])
