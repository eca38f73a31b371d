"""What is accepted as the history of several runs."""

import keras
import numpy as np
import pytest

from keras_distill.report.inputs import checked_histories

CURVES = {"loss": [2.0, 1.0], "val_loss": [3.0, 2.5]}


def history(curves=CURVES):
    made = keras.callbacks.History()
    made.history = curves
    return made


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {}),
        (CURVES, {"training": [CURVES]}),
        (history(), {"training": [CURVES]}),
        ([history(), CURVES], {"training": [CURVES, CURVES]}),
        ({"a": history(), "b": [CURVES]}, {"a": [CURVES], "b": [CURVES]}),
        ({"loss": np.array([1, 2])}, {"training": [{"loss": [1.0, 2.0]}]}),
    ],
)
def test_every_way_to_give_a_history(given, expected):
    assert checked_histories(given) == expected


def test_terms_without_a_curve_are_left_out():
    given = {**CURVES, "f1": [np.ones(3), np.ones(3)]}
    assert checked_histories(given) == {"training": [CURVES]}


@pytest.mark.parametrize("wrong", ["x", 3, [], {"a": 1}, [[1.0]], {"a": []}])
def test_what_is_no_history(wrong):
    if wrong == {"a": []}:  # A term that was never recorded.
        assert checked_histories(wrong) == {"training": [{"a": []}]}
        return
    with pytest.raises(TypeError, match="what fit"):
        checked_histories(wrong)
