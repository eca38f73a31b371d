"""A Distiller whose student is aware: as any student."""

import keras
import numpy as np
import pytest
from exporting import exported
from networks import CLASSES
from networks import convnet
from networks import data

import keras_distill as kd
from keras_distill._keras.heads import final_activation
from keras_distill._keras.heads import gives_logits
from keras_distill.quantization.ranges import range_layers

X, _ = data(32)


def network(width=8, **options):
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.AveragePooling2D(4, **options),
            layers.Flatten(**options),
            layers.Dense(width, "relu", **options),
            layers.Dense(CLASSES, name="head", **options),
        ]
    )


layers = keras.layers


def distiller(student, teacher, **options):
    built = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=kd.losses.SoftTargets(),
        alpha=1.0,
    )
    built.compile(keras.optimizers.SGD(0.1), **options)
    return built


def aware_of(teacher, **options):
    return kd.quantization.aware(teacher, calibration_data=X, **options)


def ranges(model):
    return np.array(
        [
            [keras.ops.convert_to_numpy(v) for v in (r.minimum, r.maximum)]
            for r in range_layers(model)
        ]
    )


def test_probabilities_are_found_through_the_rounding():
    aware = kd.quantization.aware(convnet(head="softmax"))
    assert final_activation(aware) == "softmax"
    assert gives_logits(kd.quantization.aware(convnet()))


def test_ranges_are_no_parameters():
    student = convnet()
    aware = kd.quantization.aware(student)
    assert kd.cost.number_of_parameters(aware) == student.count_params()
    products = kd.cost.multiply_accumulates
    assert products(aware) == products(student)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["plain", "mixed_float16", "jit"])
def test_it_is_trained_and_ships(how, tmp_path):
    keras.utils.set_random_seed(0)
    if how == "mixed_float16":
        keras.config.set_dtype_policy("mixed_float16")
    teacher = network(16, dtype="float32")
    aware = aware_of(network(), weights=4)
    before, weights = ranges(aware), aware.get_weights()
    trained = distiller(aware, teacher, jit_compile=how == "jit")
    history = trained.fit(X, batch_size=16, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert "agreement" in history
    assert (ranges(aware) != before).any(axis=1).all()
    kernels = [w for w in weights if w.ndim == 2]
    trained_kernels = [w for w in aware.get_weights() if w.ndim == 2]
    assert all((a != b).any() for a, b in zip(kernels, trained_kernels))
    path = exported(
        trained.deployable_student(), tmp_path / "a.tflite", quantization="int8"
    )
    row = kd.export.verify(
        path, aware, X, measure_memory=False, latency_runs=0, verbose=False
    ).rows[1]
    assert row["equal_kernels"] == [2, 2] and row["equal_ranges"] == [3, 3]
    # A half-precision student rounds what it computes in half precision.
    steps = 10 if how == "mixed_float16" else 2.01
    assert row["max_difference_steps"] < steps


@pytest.mark.slow
def test_saved_and_loaded_it_goes_on(tmp_path):
    teacher = network(16)
    first = distiller(aware_of(network()), teacher)
    first.fit(X, batch_size=16, shuffle=False, verbose=0)
    first.save(tmp_path / "a.keras")
    other = kd.load_distiller(tmp_path / "a.keras", teacher=teacher)
    np.testing.assert_array_equal(ranges(other.student), ranges(first.student))
    for one in first, other:
        one.fit(X, batch_size=16, shuffle=False, verbose=0)
    np.testing.assert_allclose(
        other.predict(X, verbose=0), first.predict(X, verbose=0), atol=1e-6
    )
    path = other.export(
        tmp_path / "a.tflite", quantization="int8", verbose=False
    )
    assert kd.export.metadata(path)["trained_ranges"]


def follow(strategy):
    """Ranges after one step from 4 samples of one and 4 of ten."""
    import tensorflow as tf

    x = np.ones((8, 3), "float32")
    x[4:] = 10.0
    with strategy.scope():
        student = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(2, kernel_initializer="ones"),
            ]
        )
        aware = kd.quantization.aware(student)
        for layer in range_layers(aware):
            layer.initial_momentum = 0.5
        trained = kd.Distiller(
            student=aware,
            teacher=student,
            distillation_losses=kd.losses.SoftTargets(),
            alpha=1.0,
        )
        trained.compile(keras.optimizers.SGD(0.0))
    batches = tf.data.Dataset.from_tensor_slices(x).batch(8).repeat(2)
    trained.fit(batches, verbose=0)
    return ranges(aware).tolist()


@pytest.mark.slow
def test_ranges_of_replicas_are_averaged(on_replicas):
    found = on_replicas(2, follow)
    # One replica sees 1 and the other 10, and clips it to the average.
    np.testing.assert_allclose(found[0], [0.0, 5.5])
    np.testing.assert_allclose(found[1], [0.0, 3 * (1 + 5.5) / 2], rtol=0.01)
