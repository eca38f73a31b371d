"""How much better the teacher is, and when that is sure."""

import keras
import numpy as np
import pytest
from diagnosis_cases import CLASSES
from diagnosis_cases import RULE
from diagnosis_cases import VALIDATION
from diagnosis_cases import data
from diagnosis_cases import kinds
from diagnosis_cases import linear
from diagnosis_cases import look

from keras_distill.diagnosis.headroom import headroom
from keras_distill.diagnosis.headroom import in_words
from keras_distill.diagnosis.headroom import is_imbalanced
from keras_distill.metrics.decisions import DecisionCounts
from keras_distill.metrics.decisions import paired_difference


def test_headroom_by_hand():
    labels = np.array([0] * 80 + [1] * 20)
    teacher = np.arange(100) < 90  # Recalls of 1 and 0.5.
    student = np.arange(100) >= 10  # Recalls of 0.875 and 1.
    found = headroom(teacher, student, labels, np.ones(100))
    assert found["accuracy"]["difference"] == 0.0
    low, high = paired_difference(teacher, student)[1]
    assert found["accuracy"] == pytest.approx(
        {"difference": 0.0, "low": low, "high": high}
    )
    balanced = found["balanced_accuracy"]
    assert balanced["difference"] == pytest.approx((0.125 - 0.5) / 2)
    intervals = [
        paired_difference(teacher[labels == c], student[labels == c])[1]
        for c in (0, 1)
    ]
    centers = [(low + high) / 2 for low, high in intervals]
    halves = [(high - low) / 2 for low, high in intervals]
    half = np.hypot(*halves) / 2
    assert balanced["low"] == pytest.approx(np.mean(centers) - half)
    assert balanced["high"] == pytest.approx(np.mean(centers) + half)
    # Samples without weight count nowhere.
    with_padding = headroom(
        np.append(teacher, ~teacher),
        np.append(student, ~student),
        np.append(labels, labels + 7),
        np.repeat([1.0, 0.0], 100),
    )
    assert with_padding == found


def test_the_interval_covers_the_true_difference():
    """95 % of validation sets of 200 samples, give or take four errors."""
    rng = np.random.default_rng(0)
    covered = {"accuracy": 0, "balanced_accuracy": 0}
    true = {"accuracy": 0.1 * 0.7 + 0.02 * 0.3, "balanced_accuracy": 0.06}
    for _ in range(1000):
        labels = (rng.uniform(size=200) < 0.3).astype(int)
        teacher, student = rng.uniform(size=(2, 200)) < np.where(
            labels, [[0.62], [0.6]], [[0.9], [0.8]]
        )
        found = headroom(teacher, student, labels, np.ones(200))
        for key, row in found.items():
            covered[key] += row["low"] <= true[key] <= row["high"]
    for count in covered.values():
        assert 950 - 28 <= count <= 950 + 35


@pytest.mark.parametrize(
    ("samples", "imbalanced"),
    [
        ([69, 31], False),  # It could be chance: 59 to 77 %.
        ([138, 62], True),
        ([100, 100], False),
        ([500, 300, 200, 0], True),
        ([27, 25, 24, 24], False),
    ],
)
def test_imbalanced(samples, imbalanced):
    labels = np.repeat(np.arange(len(samples)), samples)
    counts = DecisionCounts(len(samples))
    counts.add(labels, labels)
    assert is_imbalanced(counts) is imbalanced


def test_an_interval_in_words():
    row = {"difference": 0.0125, "low": -0.004, "high": 0.029}
    assert in_words(row) == "+1.2 points (95 % interval -0.4 to +2.9)"


# One class in two of them, as where defects are rare.
WEIGHTS = np.stack([np.zeros(len(RULE)), RULE[:, 0]], -1)


def rare(samples, seed=0):
    x, _ = data(samples, seed)
    return x, (x @ WEIGHTS[:, 1] > 0.5 * np.linalg.norm(WEIGHTS)).astype(int)


@pytest.mark.slow
def test_imbalanced_data_without_headroom():
    """A teacher as good as the student alone: nothing is promised."""
    student = linear(np.zeros((20, 2)), name="student")
    rng = np.random.default_rng(0)
    rough = WEIGHTS + 0.7 * rng.normal(size=WEIGHTS.shape)
    teacher = linear(rough)
    teacher.layers[-1].bias.assign([0.5 * np.linalg.norm(WEIGHTS), 0.0])
    validation = rare(400, seed=1)
    result = look(
        student,
        teacher,
        rare(60),
        validation_data=validation,
        steps=60,
    )
    facts = result.as_dict()
    assert kinds(result)[0] in ("no_clear_headroom", "teacher_not_better")
    assert "distil (kd" not in str(result)
    majority = 1 - validation[1].mean()
    assert majority > 0.65
    rows = [line.split() for line in str(result).splitlines()]
    [baseline] = [r for r in rows if r[:3] == ["always", "the", "most"]]
    assert baseline[-1] == f"{majority:.1%}"
    assert "imbalanced" in kinds(result)
    assert f"right on {majority:.1%}" in dict(result.findings)["imbalanced"]
    # The teacher's balanced accuracy, by hand.
    x, y = validation
    decided = np.asarray(teacher(x)).argmax(-1)
    balanced = np.mean([np.mean(decided[y == c] == c) for c in (0, 1)])
    row = facts["teacher"]["validation"]
    assert row["balanced_accuracy"] == pytest.approx(balanced)
    assert f"teacher {100 * balanced:.1f} %" in str(result)
    assert "; in balanced accuracy " in str(result)


def test_a_clear_headroom_is_printed(ordinary):
    row = ordinary.as_dict()["headroom"]["accuracy"]
    accuracy = ordinary.as_dict()["student"]["validation"]["accuracy"]
    assert row["difference"] == pytest.approx(1 - accuracy)
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert f"1,000 validation samples: {in_words(row)}." in " ".join(
        str(ordinary).split()
    )
    assert "imbalanced" not in kinds(ordinary)
    assert "balanced" not in str(ordinary)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["weights", "ignore_class"])
def test_samples_that_do_not_count(how):
    x, y = VALIDATION
    counts = np.arange(len(x)) % 3 > 0
    wrong = (y + 1) % CLASSES
    arguments = {}
    if how == "weights":
        # One label is none of the student's: it does not count either.
        labels = np.where(counts, y, wrong)
        labels[0] = -1
        padded = (x, labels, counts.astype("float32"))
    else:
        padded = (x, np.where(counts, y, 255))
        arguments["task_loss"] = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=255
        )
    result = look(validation_data=padded, **arguments).as_dict()
    exact = look(validation_data=(x[counts], y[counts])).as_dict()
    assert result["teacher"]["validation"]["accuracy"] == 1.0
    assert result["data"]["validation_samples_used"] == counts.sum()
    assert result["data"]["validation_classes_seen"] == CLASSES
    for key, value in exact["teacher"]["validation"].items():
        assert result["teacher"]["validation"][key] == pytest.approx(value)
    with pytest.raises(ValueError, match="No sample of validation_data"):
        look(validation_data=(x, y, np.zeros(len(x))))
