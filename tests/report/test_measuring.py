"""What two networks do on the same samples, by hand."""

import keras
import numpy as np
import pytest

from keras_distill.report.disagreements import DISAGREEMENTS
from keras_distill.report.images import on_one_scale
from keras_distill.report.measuring import Measurement

CLASSES = 3


def half(first, name):
    """A network whose logits are the first (second) half of its input."""
    kernel = np.zeros((2 * CLASSES, CLASSES), "float32")
    kernel[np.arange(CLASSES) + (0 if first else CLASSES)] = np.eye(CLASSES)
    model = keras.Sequential(
        [
            keras.Input((2 * CLASSES,)),
            keras.layers.Dense(CLASSES, use_bias=False),
        ],
        name=name,
    )
    model.set_weights([kernel])
    return model


def measure(student, teacher, labels):
    """Of probabilities, one row a sample."""
    x = np.log(np.concatenate([student, teacher], -1)).astype("float32")
    networks = {
        "student": (half(True, "student"), lambda x: x),
        "teacher": (half(False, "teacher"), lambda x: x),
    }
    return Measurement(networks, (x, np.array(labels)), verbose=False)


def sure(decision, confidence):
    rest = (1 - confidence) / (CLASSES - 1)
    row = [rest] * CLASSES
    row[decision] = confidence
    return row


def test_both_must_be_certain():
    found = measure(
        [sure(0, 0.9), sure(0, 0.7), sure(2, 0.99)],
        [sure(1, 0.5), sure(1, 0.6), sure(2, 0.99)],
        [0, 1, 2],
    )
    rows = [row for row, _ in found.disagreements]
    assert [row["sample"] for row in rows] == [1, 0]
    assert rows[0]["student_confidence"] == pytest.approx(0.7)
    assert rows[0]["teacher_confidence"] == pytest.approx(0.6)
    assert (rows[0]["student"], rows[0]["teacher"]) == (0, 1)
    assert rows[0]["label"] == 1


def test_frequent_splits_come_first_and_say_who_is_right():
    found = measure(
        [sure(0, 0.9)] * 3 + [sure(2, 0.9)],
        [sure(1, 0.9)] * 4,
        [1, 1, 0, 0],
    ).splits()
    assert found == [
        {
            "teacher": 1,
            "student": 0,
            "samples": 3,
            "teacher_right": 2,
            "student_right": 1,
        },
        {
            "teacher": 1,
            "student": 2,
            "samples": 1,
            "teacher_right": 0,
            "student_right": 0,
        },
    ]


def pictures(sizes):
    """Batches of one picture per size, on which both always disagree."""
    rng = np.random.default_rng(0)
    networks = {}
    for key, kernel in ("student", [[5.0, 0.0]]), ("teacher", [[0.0, 5.0]]):
        model = keras.Sequential(
            [
                keras.Input((None, None, 1)),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(2, use_bias=False),
            ]
        )
        model.set_weights([np.array(kernel, "float32")])
        networks[key] = (model, lambda x: x)
    batches = [
        (rng.uniform(0.5, 1, (4, size, size, 1)).astype("float32"), np.zeros(4))
        for size in sizes
    ]
    return Measurement(networks, batches, verbose=False)


def test_kept_pictures_do_not_hold_their_batches():
    found = pictures([6, 6, 6, 6])
    assert len(found.disagreements) == DISAGREEMENTS
    assert all(image.base is None for _, image in found.disagreements)
    samples = [row["sample"] for row, _ in found.disagreements]
    assert len(set(samples)) == DISAGREEMENTS and max(samples) > 11


def test_pictures_of_different_sizes_are_shown_on_one_scale():
    found = pictures([6, 8])
    shown = on_one_scale([image for _, image in found.disagreements])
    assert sorted(image.shape for image in shown) == [
        *[(6, 6, 1)] * 4,
        *[(8, 8, 1)] * 4,
    ]
    images = [np.full((1, 2, 1), 2.0), None, np.full((2, 2, 1), 4.0)]
    made = on_one_scale(images)
    assert made[0].tolist() == [[[2], [2]]] and made[1] is None
    assert made[2].shape == (2, 2, 1) and (made[2] == 4).all()
    assert on_one_scale([None, None]) == [None, None]


def test_few_disagreements_are_kept_of_many_batches():
    number = 100
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 0.9, number)
    found = measure(
        [sure(0, c) for c in confidence],
        [sure(1, 0.95)] * number,
        [0] * number,
    )
    kept = [row["sample"] for row, _ in found.disagreements]
    assert kept == np.argsort(-confidence)[:DISAGREEMENTS].tolist()
