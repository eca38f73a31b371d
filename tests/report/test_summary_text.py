"""The sentences of the summary, and numbers as they are written."""

import pytest

from keras_distill.report.runs import summarize_runs
from keras_distill.report.summary_text import count
from keras_distill.report.summary_text import percent
from keras_distill.report.summary_text import plus_minus
from keras_distill.report.summary_text import size
from keras_distill.report.summary_text import summary


def facts(**options):
    return {
        "data": {"samples": 200, "kind": "images", "class_names": ["a", "b"]},
        "networks": {
            "student": {
                "accuracy": 0.9,
                "mean_confidence": 0.95,
                "agreement_with_teacher": None,
                "expected_calibration_error": 0.06,
                "parameters": 1000,
            }
        },
        "classes": [{"class": 0, "samples": 100, "student": 0.9}],
        **options,
    }


def verification(drop, accuracy=0.9):
    rows = [
        ("student (Keras)", 4000, 0.9, 0.0),
        ("float32", 5000, 0.9, 0.0),
        ("int8", 1250, accuracy, drop),
    ]
    return {
        "samples": 200,
        "rows": [
            {
                "file": name,
                "size_bytes": size,
                "accuracy": accuracy,
                "accuracy_drop_points": drop,
                "agreement": 0.99,
            }
            for name, size, accuracy, drop in rows
        ],
    }


@pytest.mark.parametrize(
    ("drop", "words"),
    [
        (0.5, "0.5 points (1 image) below the Keras student"),
        (-1.0, "1.0 points (2 images) above the Keras student"),
        (0.0, "as many as the Keras student"),
    ],
)
def test_the_smallest_file_comes_first(drop, words):
    found = summary(facts(verification=verification(drop)))[0]
    assert found.startswith("The int8 file is right on 90.0\u00a0% of 200")
    assert words in found
    assert "4.0 times less than float32" in found


def test_a_file_without_labels():
    found = summary(facts(verification=verification(None, accuracy=None)))[0]
    assert "decides like the Keras student on 99.0\u00a0% of 200" in found


def gain_of(distilled, alone):
    shares = {"teacher": [1.0] * len(alone)}
    runs = summarize_runs(
        {**shares, "alone": alone, "distilled": distilled}, {}
    )
    return summary(facts(runs=runs))[1]


def test_a_sure_gain():
    found = gain_of([0.8, 0.82, 0.84], [0.7, 0.72, 0.745])
    assert "by +9.8\u00a0±\u00a0" in found
    assert "3\u00a0runs, 95\u00a0% interval +" in found
    assert "of the way to the teacher's" in found
    assert "not certain" not in found


def test_a_gain_that_is_not_certain_says_so():
    found = gain_of([0.8, 0.7], [0.7, 0.75])
    assert "The interval contains 0: the difference is not certain" in found


def test_one_run_says_that_it_is_one():
    found = gain_of([0.8], [0.7])
    assert "One run does not say how certain that is" in found


def test_a_loss_is_no_way_to_the_teacher():
    found = gain_of([0.6, 0.61], [0.7, 0.705])
    assert "by -9." in found and "of the way" not in found


def test_alone_without_several_runs():
    given = facts()
    given["networks"]["alone"] = {"accuracy": 0.85}
    assert "85.0\u00a0%: +5.0 points" in summary(given)[1]


@pytest.mark.parametrize(
    ("confidence", "words"),
    [(0.95, "overconfident by 5.0"), (0.8, "underconfident by 10.0")],
)
def test_confidence(confidence, words):
    given = facts()
    given["networks"]["student"]["mean_confidence"] = confidence
    assert words in summary(given)[-1]


def test_classes_that_part():
    given = facts()
    given["classes"] = [
        {"class": 1, "samples": 50, "agreement": 0.5},
        {"class": 0, "samples": 60, "agreement": 1.0},
    ]
    assert summary(given)[-1] == (
        "Student and teacher agree least on b (50.0\u00a0% of 50 images)."
    )


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (percent(0.96439), "96.4\u00a0%"),
        (percent(0.96439, 2), "96.44\u00a0%"),
        (percent(None), "–"),
        (count(56778), "56,778"),
        (size(10034), "9.8\u00a0KiB"),
        (size(3 * 1024**2), "3.0\u00a0MiB"),
        (
            plus_minus({"mean": 0.956, "half_width": 0.011}),
            "95.6\u00a0±\u00a01.1",
        ),
        (plus_minus({"mean": 0.5, "half_width": None}, sign="+"), "+50.0"),
    ],
)
def test_numbers(made, expected):
    assert made == expected
