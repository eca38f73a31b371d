"""What each distiller adds to `keras.Model`, and what it takes over."""

import inspect

import keras
import pytest
from networks import convnet
from networks import crossentropy

import keras_distill as kd

SHARED = {
    "alpha",
    "deployable_student",
    "distillation_loss_weights",
    "distillation_losses",
    "views",
}
DISTILLER = SHARED | {
    "moving_teacher",
    "objective",
    "output_names",
    "set_teacher",
    "student",
}
PUBLIC = {
    kd.Distiller: DISTILLER,
    kd.BeYourOwnTeacher: DISTILLER
    | {"deployable_exits", "evaluate_exits", "exits"},
    kd.NativeEnsembleDistiller: DISTILLER
    | {
        "branch_from",
        "branches",
        "deployable_ensemble",
        "distillation_loss_weight",
        "temperature",
    },
    kd.MutualDistiller: SHARED
    | {"best_student", "best_student_name", "students", "update"},
}
ARGUMENTS = {
    kd.Distiller: {
        "student": convnet,
        "distillation_losses": kd.losses.SoftTargets,
    },
    kd.BeYourOwnTeacher: {"student": convnet, "exits": lambda: ["conv1"]},
    kd.NativeEnsembleDistiller: {
        "student": convnet,
        "branch_from": lambda: "act1",
    },
    kd.MutualDistiller: {"students": lambda: [convnet(), convnet(6)]},
}


def public_names(model):
    model.compile(loss=crossentropy())
    return {name for name in dir(model) if not name.startswith("_")}


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_a_new_public_name_is_a_decision(kind):
    made = kind(**{name: f() for name, f in ARGUMENTS[kind].items()})
    assert public_names(made) - public_names(keras.Model()) == PUBLIC[kind]
    listed = "".join(inspect.getdoc(c) or "" for c in kind.__mro__)
    for name in PUBLIC[kind]:
        member = getattr(kind, name, "")
        assert (member and inspect.getdoc(member)) or f"    {name}: " in listed


@pytest.mark.parametrize(
    "method",
    [
        "compile",
        "evaluate",
        "fit",
        "predict",
        "test_on_batch",
        "train_on_batch",
    ],
)
@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_arguments_are_those_of_keras(kind, method):
    def arguments(owner):
        parameters = inspect.signature(getattr(owner, method)).parameters
        return [(p.name, p.kind, p.default) for p in parameters.values()]

    assert arguments(kind) == arguments(keras.Model)
