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


def test_points_of_weighted_samples_are_no_numbers():
    for drop, words in (
        (0.5, "images, 0.5 points below the Keras student"),
        (0.0, "images, the same as the Keras student"),
    ):
        weighted = facts(verification=verification(drop))
        weighted["data"]["weighted"] = True
        assert words in summary(weighted)[0]


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


def difference(value, half):
    return {"difference": value, "low": value - half, "high": value + half}


def imbalanced(more, half, other="alone"):
    """The student finds 70 % of the defects, the other network 78 %."""
    given = facts()
    given["data"] |= {
        "imbalanced": True,
        "weighted": False,
        "decisions": 1000,
        "majority": {"class": 0, "accuracy": 0.9, "balanced_accuracy": 0.5},
    }
    student = given["networks"]["student"]
    student |= {
        "accuracy": 0.965,
        "balanced_accuracy": 0.845,
        "accuracy_interval": [0.95, 0.98],
        "balanced_accuracy_interval": [0.8, 0.88],
    }
    given["networks"][other] = {
        "accuracy": 0.95,
        "balanced_accuracy": 0.865,
        "parameters": 1000,
    }
    given["classes"] = [
        {"class": 1, "samples": 100, "student": 0.7, other: 0.78},
        {"class": 0, "samples": 900, "student": 0.99, other: 0.95},
    ]
    given["differences"] = {
        other: {
            "accuracy": difference(0.015, 0.01),
            "balanced_accuracy": difference(more, half),
            "lowest_recall": {"class": 1, **difference(-0.08, 0.06)},
        }
    }
    return given


def test_imbalanced_data_is_not_praised_for_its_accuracy():
    found = summary(imbalanced(-0.02, 0.03))
    assert found[0] == (
        "The classes are imbalanced: always answering “a” would be right on "
        "90.0\u00a0%. So this summary speaks of the balanced accuracy, the "
        "mean of the recall of all classes (50.0\u00a0% for that answer)."
    )
    assert (
        "Its balanced accuracy is 84.5\u00a0% on 1,000 test images "
        "(95\u00a0% interval 80.0\u00a0to\u00a088.0)" in found[1]
    )
    assert found[2] == (
        "The same network trained alone has a balanced accuracy of "
        "86.5\u00a0%: -2.0 points for the student with a teacher (95\u00a0% "
        "interval -5.0 to +1.0), no difference that this test size can show. "
        "One run does not say what another training would give."
    )
    assert found[3] == (
        "Against the student alone, the recall of b fell most: from "
        "78.0\u00a0% to 70.0\u00a0% of 100 images, -8.0 points (95\u00a0% "
        "interval -14.0 to -2.0)."
    )
    assert "+1.5" not in " ".join(found)


def test_a_difference_beyond_its_interval():
    found = summary(imbalanced(-0.02, 0.01))[2]
    assert "no difference" not in found
    assert "interval -3.0 to -1.0" in found


def test_without_the_student_alone_the_teacher_is_compared():
    given = imbalanced(-0.02, 0.03, other="teacher")
    given["networks"]["student"]["agreement_with_teacher"] = 0.9
    found = " ".join(summary(given))
    assert "Against the teacher, the recall of b fell most" in found


def test_runs_of_imbalanced_data_are_of_plain_accuracy():
    given = imbalanced(-0.02, 0.03)
    given["runs"] = summarize_runs(
        {"alone": [0.94, 0.95, 0.93], "distilled": [0.96, 0.97, 0.95]}, {}
    )
    found = summary(given)
    assert "has a balanced accuracy of" in found[2]
    assert "do not say what became of the small classes" in found[3]


def test_of_balanced_data_a_fall_is_told_if_it_is_certain():
    given = facts()
    given["networks"]["alone"] = {"accuracy": 0.88}
    given["classes"] = [
        {"class": 1, "samples": 9, "student": 0.7, "alone": 0.8}
    ]
    fallen = {"class": 1, **difference(-0.1, 0.2)}
    given["differences"] = {
        "alone": {"accuracy": difference(0.02, 0.05), "lowest_recall": fallen}
    }
    found = summary(given)
    assert "+2.0 points for the student with a teacher (95" in found[1]
    assert "no difference that this test size can show" in found[1]
    assert "fell most" not in " ".join(found)
    fallen["high"] = -0.01
    assert "recall of b fell most" in summary(given)[2]


def exported(**told):
    runs = {"alone": [0.6, 0.6, 0.6], "distilled": [0.7, 0.8, 0.75]}
    chosen = {"run": 1, "seed": None, "accuracy": 0.8, "is_best": True, **told}
    return summary(facts(runs=summarize_runs(runs, {}, chosen)))[2]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            {},
            "This student is run 2 of 3, the best with 80.0\u00a0%. The best "
            "of several is not the mean: of another training expect "
            "75.0\u00a0±\u00a012.4\u00a0%.",
        ),
        ({"seed": 7}, "This student is run 2 of 3 (seed 7), the best"),
        (
            {"run": 2, "accuracy": 0.75, "is_best": False},
            "This student is run 3 of 3, with an accuracy of 75.0\u00a0%; the "
            "mean of all is 75.0\u00a0±\u00a012.4\u00a0%.",
        ),
        (
            {"run": None},
            "Which of the 3\u00a0runs this student is, is not known. The best "
            "of several is not the mean: 75.0",
        ),
    ],
)
def test_which_run_is_exported(told, words):
    assert words in exported(**told)


def test_a_file_of_imbalanced_data():
    given = imbalanced(-0.02, 0.03)
    given["verification"] = verification(0.0)
    for row, balanced in zip(given["verification"]["rows"], (0.845, 0.84, 0.8)):
        row["balanced_accuracy"] = balanced
    assert summary(given)[1].startswith(
        "The int8 file has a balanced accuracy of 80.0\u00a0% on 200 test "
        "images, 4.5 points below the Keras student."
    )


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
