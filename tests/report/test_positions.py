"""Which decisions count, and what their labels are."""

import numpy as np
import pytest

from keras_distill.report.positions import labels_and_weights

LABELS = np.array([[0, 1, 2], [2, 9, -1]])
MASK = np.array([[1, 1, 1], [1, 0, 0]], bool)


def read(y, weight=None, mask=None, ignore_class=None, shape=(2, 3)):
    return labels_and_weights(
        (np.asarray(y), weight), shape, 3, mask, ignore_class
    )


@pytest.mark.parametrize(
    "y",
    [
        LABELS,
        LABELS[..., None],
        LABELS.astype("float32"),
        np.eye(3)[LABELS.clip(0, 2)],
    ],
)
def test_forms_of_labels(y):
    labels, weights = read(y, mask=MASK)
    np.testing.assert_array_equal(labels[MASK], LABELS[MASK])
    np.testing.assert_array_equal(weights, MASK)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"weight": [2.0, 0.0]}, [[2, 2, 2], [0, 0, 0]]),
        ({"weight": [[2.0], [0.0]]}, [[2, 2, 2], [0, 0, 0]]),
        ({"weight": [[1, 2, 3], [4, 0, 0]]}, [[1, 2, 3], [4, 0, 0]]),
        ({"mask": MASK, "weight": [2.0, 3.0]}, [[2, 2, 2], [3, 0, 0]]),
        ({"mask": MASK, "ignore_class": 2}, [[1, 1, 0], [0, 0, 0]]),
    ],
)
def test_what_counts(options, expected):
    np.testing.assert_array_equal(read(LABELS, **options)[1], expected)


def test_a_mask_of_joined_positions_is_not_of_the_decisions():
    weights = read([0, 1], mask=np.zeros((2, 7), bool), shape=(2,))[1]
    np.testing.assert_array_equal(weights, [1, 1])


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        (LABELS, {}, r"lie in \[0, 2\].*such as 9.*`ignore_class`"),
        (LABELS, {"ignore_class": 9}, r"such as -1"),
        (LABELS + 0.5, {}, "is this a regression"),
        (np.full((2, 3), np.nan), {}, "not class indices: one is nan"),
        (np.ones((2, 3, 3)), {}, "several labels per sample"),
        (LABELS[:, :2], {}, r"shape \(2, 3\).*the shape \(2, 2\)"),
        (LABELS.astype(str), {}, "dtype"),
        (LABELS, {"weight": [1.0, -1.0]}, "not negative. Received: -1"),
        (LABELS, {"weight": [1.0, np.nan]}, "finite"),
        (LABELS, {"weight": [1.0, 1.0, 1.0]}, r"decisions, \(2, 3\)"),
    ],
)
def test_what_is_refused(y, options, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read(y, **options)
