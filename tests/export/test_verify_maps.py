"""Pixels of maps in `verify`: intersection over union, void labels."""

import keras
import numpy as np
import pytest

import keras_distill as kd

CLASSES, VOID = 3, 255


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((4, 6, 2)), keras.layers.Conv2D(CLASSES, 3, name="logits")]
    )


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, (20, 2, 4))
    y[rng.random(y.shape) < 0.3] = VOID
    return rng.normal(size=(20, 4, 6, 2)).astype("float32"), y


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("maps") / "student.tflite"
    return kd.export.tflite(network(), path, verbose=False)


def verified(file, data, **options):
    return kd.export.verify(
        file,
        network(),
        data,
        latency_runs=0,
        measure_memory=False,
        verbose=False,
        **options,
    )


@pytest.mark.slow
def test_intersection_over_union(file, data):
    metric = keras.metrics.MeanIoU(
        CLASSES, ignore_class=VOID, sparse_y_pred=False
    )
    metric.update_state(data[1], network()(data[0]))
    expected = float(metric.result())
    found = verified(
        file,
        data,
        ignore_class=VOID,
        metric="mean_iou",
        max_accuracy_drop=0.1,
    )
    assert found.positions == np.sum(data[1] != VOID)
    for row in found.rows:
        assert row["mean_iou"] == pytest.approx(expected)
        assert np.mean(row["iou"]) == pytest.approx(expected)
    assert "mean IoU %" in str(found)
    of_keras = verified(file, data, ignore_class=VOID, metric=metric)
    assert of_keras.rows[1]["metric"] == pytest.approx(expected)
    found.rows[1]["mean_iou"] -= 0.02
    with pytest.raises(kd.export.VerificationError, match="of mean_iou"):
        found.check(1.0, metric="mean_iou")


@pytest.mark.slow
def test_vectors_have_none(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(CLASSES)])
    path = kd.export.tflite(model, tmp_path / "a.tflite", verbose=False)
    x, y = np.zeros((5, 4), "float32"), np.zeros(5, int)
    found = kd.export.verify(path, model, (x, y), latency_runs=0, verbose=False)
    assert found.rows[0]["mean_iou"] is None
    assert "IoU" not in str(found)
    with pytest.raises(ValueError, match="pixels of a map"):
        found.check(1.0, metric="mean_iou")
