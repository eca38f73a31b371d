"""The section of training curves."""

import math

import numpy as np

from keras_distill.report.curves import mean_and_range
from keras_distill.report.curves import training

ALONE = {"loss": [2.0, 1.0], "val_loss": [2.5, 1.5], "accuracy": [0.5, 0.7]}
DISTILLED = {
    "loss": [1.5, 0.5],
    "student_loss": [2.0, 0.6],
    "distillation_loss": [1.0, 0.4],
    "soft_loss": [1.0, 0.4],
    "hint_loss": [9.0, 0.1],
    "val_loss": [2.2, 1.2],
}


def charts(runs):
    """Title -> notes and drawing."""
    made = training({"curves": runs})
    return {title: notes + chart for title, notes, chart in made["charts"]}


def drawn(values, term="loss"):
    (chart,) = charts({"run": [{term: values}]}).values()
    return chart


def test_every_term_has_one_chart_and_equal_ones_share_it():
    found = charts({"alone": [ALONE], "distilled": [DISTILLED]})
    assert list(found) == [
        "loss",
        "student loss",
        "distillation loss = soft loss",
        "accuracy",
        "hint loss",
    ]


def test_validation_of_a_distiller_is_its_task_loss():
    found = charts({"distilled": [DISTILLED]})
    assert "distilled, validation: 2.2 to 1.2" in found["student loss"]
    assert "".join(found.values()).count("validation: ") == 1


def test_a_task_loss_of_nothing_is_no_curve():
    run = {"distillation_loss": [1.0, 0.5], "val_loss": [0.0, 0.0]}
    assert list(charts({"run": [run]})) == ["distillation loss"]


def test_repetitions_become_a_mean_with_a_band():
    made = training({"curves": {"run": [{"loss": [1.0]}, {"loss": [3.0]}]}})
    assert made["repeated"]
    ((_, _, chart),) = made["charts"]
    assert "run, training: 2 to 2" in chart
    assert "fill-opacity" in chart
    assert not training({"curves": {"run": [{"loss": [1.0]}]}})["repeated"]
    assert "fill-opacity" not in drawn([1.0])


def test_means_of_curves_of_different_length_and_with_gaps():
    mean, low, high = mean_and_range([[1.0, 2.0, 3.0], [3.0, np.nan]])
    np.testing.assert_array_equal(mean, [2.0, 2.0, 3.0])
    np.testing.assert_array_equal(low, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(high, [3.0, 2.0, 3.0])
    assert np.isnan(mean_and_range([[np.inf]])[0]).all()


def test_a_wide_range_is_logarithmic_but_never_of_zero():
    assert drawn([10.0, 0.1]).startswith(", logarithmic")
    assert "logarithmic" not in drawn([10.0, 5.0])
    assert "logarithmic" not in drawn([10.0, 0.0])


def test_shares_are_percent():
    assert "training: 25 to 50" in drawn([0.25, 0.5], "accuracy")


def test_diverged_and_empty_curves():
    made = drawn([1.0, None, 2.0])
    assert "nan" not in made and "training: 1 to 2" in made
    assert training({"curves": {"run": [{"loss": [None]}]}}) is None
    assert training({"curves": {"run": [{"loss": []}]}}) is None
    assert training({"curves": {}}) is None


def test_every_run_has_a_look_of_its_own():
    runs = {
        name: [{"loss": [1.0 + i, 0.5]}]
        for i, name in enumerate(["teacher", "alone", "a", "b", "c"])
    }
    made = training({"curves": runs})
    styles = ("teacher", "alone", "student", "other-1", "other-2")
    for (mark, name), style, run in zip(made["legend"], styles, runs):
        assert f"var(--{style})" in mark and name == run
    assert len(made["legend"]) == len(runs)  # no validation to explain


def test_places_are_numbers():
    made = drawn([1e-8, 1e8, math.pi])
    assert "nan" not in made and "inf" not in made
