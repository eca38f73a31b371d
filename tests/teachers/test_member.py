"""What each of several teachers takes of a batch."""

import keras
import numpy as np
import pytest

import keras_distill as kd

rng = np.random.default_rng(0)
LEFT, RIGHT = rng.normal(size=(2, 8, 5)).astype("float32")


def network(name):
    x = keras.Input((5,), name=name)
    return keras.Model(x, keras.layers.Dense(3)(x))


@pytest.mark.parametrize("given", ("inputs", "teachers"))
def test_inputs_of_one_shape_go_to_the_teachers_that_name_them(given):
    student = network("left")
    names = ["left", "right"] if given == "inputs" else ["left", "left"]
    members = dict(zip(["one", "other"], map(network, names)))
    losses = {
        f"of_{name}": kd.losses.SoftTargets(teacher_layer_name=name)
        for name in members
    }
    distiller = kd.Distiller(
        student=student,
        teacher=members,
        distillation_losses=losses,
        alpha=1.0,
    )
    distiller.compile(keras.optimizers.SGD(0.0))
    right = "right" if given == "inputs" else "other"
    logs = distiller.train_on_batch(
        {"left": LEFT, right: RIGHT}, return_dict=True
    )
    for (name, teacher), x in zip(members.items(), (LEFT, RIGHT)):
        expected = losses[f"of_{name}"].compute_loss(teacher(x), student(LEFT))
        assert logs[f"of_{name}_loss"] == pytest.approx(float(expected))
