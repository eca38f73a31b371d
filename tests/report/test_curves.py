"""The section of training curves."""

import math

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


def titles(runs):
    made = training({"curves": runs})
    parts = made.split("<figcaption><b>")[1:]
    return [part.split("</b>")[0] for part in parts]


def test_every_term_has_one_chart_and_equal_ones_share_it():
    found = titles({"alone": [ALONE], "distilled": [DISTILLED]})
    assert found == [
        "loss",
        "student loss",
        "distillation loss = soft loss",
        "accuracy",
        "hint loss",
    ]


def test_validation_of_a_distiller_is_its_task_loss():
    made = training({"curves": {"distilled": [DISTILLED]}})
    student = made.split("<b>student loss</b>")[1].split("</figure>")[0]
    assert "distilled, validation: 2.2 to 1.2" in student
    assert made.count("validation: ") == 1


def test_a_task_loss_of_nothing_is_no_curve():
    run = {"distillation_loss": [1.0, 0.5], "val_loss": [0.0, 0.0]}
    assert titles({"run": [run]}) == ["distillation loss"]


def test_repetitions_become_a_mean_with_a_band():
    made = training({"curves": {"run": [{"loss": [1.0]}, {"loss": [3.0]}]}})
    assert "run, training: 2 to 2" in made
    assert 'class="band"' in made
    one = training({"curves": {"run": [{"loss": [1.0]}]}})
    assert 'class="band"' not in one


def test_a_wide_range_is_logarithmic_but_never_of_zero():
    def notes(values):
        return training({"curves": {"run": [{"loss": values}]}})

    assert "logarithmic" in notes([10.0, 0.1])
    assert "logarithmic" not in notes([10.0, 5.0])
    assert "logarithmic" not in notes([10.0, 0.0])


def test_shares_are_percent():
    made = training({"curves": {"run": [{"accuracy": [0.25, 0.5]}]}})
    assert "training: 25 to 50" in made


def test_diverged_and_empty_curves():
    made = training({"curves": {"run": [{"loss": [1.0, None, 2.0]}]}})
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
    legend = made.split("</ul>")[0]
    for style in ("teacher", "alone", "student", "other-1", "other-2"):
        assert f'<li class="{style}">' in legend


def test_places_are_numbers():
    made = training({"curves": {"run": [{"loss": [1e-8, 1e8, math.pi]}]}})
    assert "nan" not in made and "inf" not in made
