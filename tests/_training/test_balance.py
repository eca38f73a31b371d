"""Weights of tasks that training finds."""

import numpy as np
import pytest
from test_tasks import X
from test_tasks import Y
from test_tasks import distiller
from test_tasks import step

import keras_distill as kd
from keras_distill._training.balance import DynamicWeights
from keras_distill._training.balance import UncertaintyWeights


def test_uncertainty_by_hand():
    made = distiller(loss_weights="uncertainty", rate=0.1)
    layer = made._task_weights
    layer.log_variances.assign([0.5, -1.0])
    logs = step(made)
    a, b = logs["a_objective"], logs["b_objective"]
    assert logs["a_weight"] == pytest.approx(np.exp(-0.5))
    assert logs["b_weight"] == pytest.approx(np.exp(1.0))
    expected = np.exp(-0.5) * a + 0.25 + np.exp(1.0) * b - 0.5
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    # SGD: d/ds (exp(-s) L + s / 2) = 1/2 - exp(-s) L.
    moved = [
        0.5 - 0.1 * (0.5 - np.exp(-0.5) * a),
        -1.0 - 0.1 * (0.5 - np.exp(1.0) * b),
    ]
    np.testing.assert_allclose(layer.log_variances, moved, rtol=1e-5)
    # In evaluation weights that move would say nothing.
    results = made.evaluate(X, Y, verbose=0, return_dict=True)
    assert results["loss"] == pytest.approx(
        results["a_loss"] + results["b_loss"]
    )


def test_dynamic_by_hand():
    layer = DynamicWeights(["a", "b"])
    layer.end_epoch({"a": 2.0, "b": 4.0})
    np.testing.assert_array_equal(layer.task_weights, [1.0, 1.0])
    layer.end_epoch({"a": 1.0, "b": 4.0})
    # Ratios 1/2 and 1: exp(1/4) and exp(1/2), summed to the number of tasks.
    shares = np.exp([0.25, 0.5])
    np.testing.assert_allclose(
        layer.task_weights, 2 * shares / shares.sum(), rtol=1e-6
    )
    total, weights = layer.combine({"a": np.float32(10), "b": np.float32(1)})
    expected = 2 * (10 * shares[0] + shares[1]) / shares.sum()
    assert float(total) == pytest.approx(expected)


def test_a_loss_that_grew_ten_thousand_times():
    layer = DynamicWeights(["a", "b"])
    layer.end_epoch({"a": 1e-6, "b": 1.0})
    layer.end_epoch({"a": 1e-2, "b": 1.0})
    np.testing.assert_allclose(layer.task_weights, [2.0, 0.0], atol=1e-6)


def test_dynamic_weights_follow_the_epochs():
    made = distiller(loss_weights="dynamic", rate=0.3)
    logs = made.fit(X, Y, epochs=4, batch_size=4, verbose=0).history
    assert logs["a_weight"][:2] == [1.0, 1.0]
    of_tasks = np.array([logs["a_objective"], logs["b_objective"]])
    ratios = np.exp(of_tasks[:, 1:3] / of_tasks[:, :2] / 2)
    expected = 2 * ratios / ratios.sum(0)
    np.testing.assert_allclose(logs["a_weight"][2:], expected[0], rtol=1e-5)
    np.testing.assert_allclose(logs["b_weight"][2:], expected[1], rtol=1e-5)


@pytest.mark.parametrize("kind", ("uncertainty", "dynamic"))
def test_they_are_saved_and_forgotten_by_another_compile(tmp_path, kind):
    made = distiller(loss_weights=kind, rate=0.3)
    made.fit(X, Y, epochs=3, verbose=0)
    made.save(tmp_path / "made.keras")
    loaded = kd.load_distiller(
        tmp_path / "made.keras", made._networks().teacher
    )
    for one, other in zip(made.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert step(loaded) == pytest.approx(step(made), rel=1e-6)
    count = len(made.variables) - len(made._task_weights.variables)
    made.compile(loss=made.loss)
    assert len(made.variables) == count and made._task_weights is None
    made.compile(loss=made.loss, loss_weights="uncertainty")
    assert isinstance(made._task_weights, UncertaintyWeights)
    assert len(made.variables) == count + 1


def test_dynamic_weights_of_the_tasks_that_are_trained():
    layer = DynamicWeights(["a", "b", "idle"])
    for losses in ({"a": 2.0, "b": 4.0}, {"a": 1.0, "b": 4.0}):
        layer.end_epoch(losses)
    shares = np.exp([0.25, 0.5])
    expected = [*(2 * shares / shares.sum()), 1.0]
    np.testing.assert_allclose(layer.task_weights, expected, rtol=1e-6)
