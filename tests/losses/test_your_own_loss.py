"""The page docs/your_own_loss.md runs, and its loss holds what others hold."""

import pathlib
import re

import keras
import numpy as np
import pytest
from loss_checks import CHECKS
from loss_checks import LossCase
from loss_checks import run_check
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill.losses.base import DistillationLoss

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "your_own_loss.md"
LOSS, USE = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def names():
    x, y = data(32)
    names = {
        "teacher": convnet(8),
        "student": convnet(),
        "dataset": kd.datasets.batches(x, y, batch_size=16),
    }
    exec(compile(LOSS, "<the loss>", "exec"), names)
    return names


@pytest.mark.slow
def test_the_page_runs(names):
    connector = "cosine_feature_loss"
    exec(compile(USE, "<its use>", "exec"), names)
    history = names["history"].history
    assert np.isfinite(history["loss"]).all()
    assert 0.0 < history[connector][0] < 2.0
    loss = names["distiller"].distillation_losses["cosine_feature"]
    kernel = loss.connector.kernel
    assert any(kernel is v for v in names["distiller"].trainable_variables)


def test_its_value(names):
    loss = names["CosineFeature"](dtype="float64")
    teacher, student = np.eye(3)[:2], np.array([[1.0, 0.0], [3.0, 4.0]])
    loss.build(teacher.shape, student.shape)
    loss.connector.kernel.assign([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    # Cosines of 1 and 0.8.
    value = loss.compute_loss(teacher, student)
    np.testing.assert_allclose(value, 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    "check",
    [c for c in CHECKS if c not in ("jit", "serialization", "tap_order")],
)
def test_its_loss_holds_what_others_hold(names, check):
    run_check(check, LossCase(names["CosineFeature"], (3, 7), (3, 4)))


def test_it_is_saved(names):
    loss = names["CosineFeature"](teacher_layer_name="a")
    config = keras.saving.serialize_keras_object(loss)
    same = keras.saving.deserialize_keras_object(config)
    assert type(same) is type(loss)
    assert same.get_config() == loss.get_config()


def test_the_page_names_every_part_of_the_contract():
    contract = {
        name
        for name in vars(DistillationLoss)
        if not name.startswith("_")
        # Keras's own.
        and name
        not in (
            "call",
            "from_config",
            "validate_model_compatibility",
            "validate_outputs",
        )
    }
    text = PAGE.read_text()
    missing = {name for name in contract if f"`{name}" not in text}
    assert not missing
    # 4 needs, classes, layer arguments, 9 methods, the names of the logs,
    # the task
    assert len(contract) == 17
