"""Recipes: the steps of the optimizer, the schedule, what goes in and out."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd


def recipe(**kwargs):
    kwargs = {"samples": 1024, "epochs": 100, "batch_size": 64, **kwargs}
    kwargs.setdefault("warmup_steps", 200)
    return kd.recipes.function_matching(8, **kwargs)


def variables():
    return [
        keras.Variable([[2.0], [-3.0]], name="kernel"),
        keras.Variable([5.0], name="bias"),
    ]


def after(optimizer, gradients, iterations=0):
    """Weights after one step for each of the gradients."""
    weights = variables()
    optimizer.build(weights)
    optimizer.iterations.assign(iterations)
    for step in gradients:
        optimizer.apply([np.array(g, "float32") for g in step], weights)
    return [np.asarray(w) for w in weights]


# The second step's norm is 26: it is clipped, the first is not.
GRADIENTS = [([[0.3], [0.4]], [0.0]), ([[6.0], [8.0]], [24.0])]


def expected(schedule, peak, decay, clip):
    """Clip, Adam, times the rate, decay, times the schedule: in float64."""
    weights = [np.asarray(w, "float64") for w in variables()]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    for step, gradients in enumerate(GRADIENTS):
        gradients = [np.array(g) for g in gradients]
        norm = np.sqrt(sum(np.sum(g**2) for g in gradients))
        share = float(schedule(step)) / peak
        for i, gradient in enumerate(gradients):
            gradient = gradient * min(1.0, clip / norm)
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            mean = first[i] / (1 - 0.9 ** (step + 1))
            square = second[i] / (1 - 0.999 ** (step + 1))
            update = peak * mean / (np.sqrt(square) + 1e-12)
            if i == 0:  # the kernel
                update = update + decay * weights[i]
            weights[i] = weights[i] - share * update
    return weights


@pytest.mark.parametrize("peak", [0.03, 0.003])
def test_steps_are_those_of_big_vision(peak):
    made = recipe(learning_rate=peak, weight_decay=0.1, warmup_steps=0)
    got = after(made.optimizer(), GRADIENTS)
    wanted = expected(made.schedule(), peak, 0.1, clip=1.0)
    for weight, reference in zip(got, wanted):
        np.testing.assert_allclose(weight, reference, rtol=1e-5)


def test_decay_is_that_of_the_schedule_whatever_the_rate():
    iterations, weight = 900, 2.0
    for peak in (0.03, 0.003):
        made = recipe(learning_rate=peak, weight_decay=0.1)
        more = recipe(learning_rate=peak, weight_decay=0.2)
        share = float(made.schedule()(iterations)) / peak
        assert share == pytest.approx(0.5, abs=1e-3)
        kernels, biases = zip(
            *(
                after(r.optimizer(), GRADIENTS[:1], iterations)
                for r in (made, more)
            )
        )
        taken = kernels[0][0, 0] - kernels[1][0, 0]
        assert taken == pytest.approx(share * 0.1 * weight, rel=1e-3)
        assert biases[0] == biases[1]


def test_the_rate_rises_and_falls():
    schedule = recipe(learning_rate=0.02).schedule()
    rates = [float(schedule(n)) for n in (0, 100, 200, 900, 1600)]
    np.testing.assert_allclose(rates, [0, 0.01, 0.02, 0.01, 0], atol=1e-7)


def test_defaults_are_those_of_the_configuration():
    made = kd.recipes.function_matching(samples=1_281_167)
    assert made.batch_size == 4096
    assert made.steps == 1200 * 313  # 312.8 batches are 313 steps
    assert made.learning_rate == 0.03
    assert made.weight_decay == 3e-4
    assert made.warmup_steps == 5000
    assert made.clip_norm == 1.0
    assert made.alpha == 1.0
    assert made.distillation_losses["soft_targets"].temperature == 1.0
    assert made.views.image_size == (224, 224)
    assert made.views.crop_area == (0.05, 1.0)
    assert made.views.mixup and made.views.flip


def test_recipe_of_a_published_dataset():
    made = kd.recipes.function_matching(dataset="pets", duration="long")
    assert made.batch_size == 512 and made.warmup_steps == 1500
    assert made.steps == 30_000 * 7  # 3312 images
    assert made.learning_rate == 3e-3 and made.weight_decay == 1e-5
    assert made.distillation_losses["soft_targets"].temperature == 2.0
    # The images are crops already.
    assert made.views.crop_area is None and made.views.mixup
    assert made.views.image_size == (128, 128)
    seen = made.views.student_preprocess(np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(seen, [-1, 0, 1])
    own = kd.recipes.function_matching(
        160, dataset="sun397", epochs=7, warmup_steps=100
    )
    assert own.steps == 7 * 149 and own.views.image_size == (160, 160)
    large = kd.recipes.function_matching(dataset="imagenet2012")
    assert large.steps == 1200 * 307 and large.batch_size == 4096
    assert large.views.image_size == (224, 224)


def test_durations_without_a_dataset_are_those_of_imagenet():
    for duration, epochs in (("fast", 300), ("medium", 1200), ("long", 9600)):
        made = kd.recipes.function_matching(
            samples=409_600, duration=duration, warmup_steps=10
        )
        assert made.steps == 100 * epochs


def test_a_recipe_needs_the_number_of_images():
    with pytest.raises(ValueError, match="`samples`.*`dataset`"):
        kd.recipes.function_matching(32)


@pytest.mark.parametrize(
    "scaling, factor", [("none", 1), ("linear", 1 / 64), ("square_root", 1 / 8)]
)
def test_scales_the_rate_with_the_batch(scaling, factor):
    made = recipe(learning_rate_scaling=scaling, learning_rate=0.03)
    assert made.learning_rate == pytest.approx(0.03 * factor)
    # What decays is not the rate's business.
    assert made.weight_decay == 3e-4


def test_optimizer_is_saved_with_its_peak_and_exclusions():
    optimizer = recipe(learning_rate=0.02, weight_decay=0.1).optimizer()
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    for weight, wanted in zip(
        after(again, GRADIENTS), after(optimizer, GRADIENTS)
    ):
        np.testing.assert_array_equal(weight, wanted)


@pytest.mark.slow
def test_trains_a_student():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(64, 8, 8, 1)).astype("float32")
    teacher, student = (
        keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(3, name=name),
            ]
        )
        for name in ("teacher", "student")
    )
    made = recipe(samples=64, epochs=100, warmup_steps=10, learning_rate=0.05)
    distiller = kd.Distiller(
        student=student, teacher=teacher, **made.distiller_arguments()
    )
    distiller.compile(optimizer=made.optimizer())
    # Ten passes in each of Keras's epochs, which cost more than the steps.
    data = tf.data.Dataset.from_tensors(x).repeat(10)
    losses = distiller.fit(data, epochs=10, verbose=0).history["loss"]
    assert made.steps == 100
    assert losses[-1] < 0.2 * losses[0]


def test_the_schedule_ends_with_the_last_epoch():
    made = recipe(samples=100, epochs=100, batch_size=64, warmup_steps=10)
    steps = kd.datasets.steps_per_epoch(100, 64)
    assert made.steps == 100 * steps == 200
    assert float(made.schedule()(made.steps - 1)) > 0


@pytest.mark.parametrize(
    "given, message",
    [
        ({"warmup_steps": 1600}, "less than the 1600 steps"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"clip_norm": math.inf}, "clip_norm"),
        ({"samples": 0}, "samples"),
        ({"epochs": 1.5}, "epochs"),
        ({"learning_rate_scaling": "log"}, "linear"),
        ({"crop_area": (0.0, 1.0)}, "crop_area"),
    ],
)
def test_refuses(given, message):
    with pytest.raises(ValueError, match=message):
        recipe(**given)
