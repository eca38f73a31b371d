import keras
import pytest

import keras_distill as kd


@pytest.mark.parametrize(
    "samples, steps, temperature",
    [
        (2000, 400, 1.0),
        (20000, 2400, 1.0),
        (2000, 600, 4.0),
        (20000, 8000, 4.0),
        (2000, 2400, 4.0),
        (500, 8000, 4.0),
    ],
)
def test_temperature_follows_passes_and_steps(samples, steps, temperature):
    chosen = kd.recipes.settings(samples=samples, steps=steps, batch_size=128)
    assert chosen.temperature == temperature
    assert chosen.alpha == 0.5
    assert chosen.passes == steps * 128 / samples


@pytest.mark.parametrize("batch_norm, temperature", [(False, 1), (True, 4)])
def test_a_student_without_normalization_takes_the_low_one(
    batch_norm, temperature
):
    student = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    if batch_norm:
        inner = keras.Sequential([keras.layers.BatchNormalization()])
        student.add(inner)
    chosen = kd.recipes.settings(
        samples=2000, steps=2400, batch_size=128, student=student
    )
    assert chosen.temperature == temperature
    assert ("normalization" in chosen.why["temperature"]) != batch_norm


def test_images_without_labels_are_seen_less_often_and_need_no_alpha():
    numbers = {"samples": 2000, "steps": 2400, "batch_size": 128}
    chosen = kd.recipes.settings(**numbers, unlabelled=48_000)
    assert (chosen.temperature, chosen.alpha) == (1.0, 1.0)
    assert kd.recipes.settings(**numbers, labels=False).alpha == 1.0


def test_labels_of_crops_count_at_the_high_temperature_only():
    numbers = {"samples": 2000, "batch_size": 128, "random_views": True}
    few = kd.recipes.settings(**numbers, steps=400)
    many = kd.recipes.settings(**numbers, steps=2400)
    assert (few.temperature, few.alpha) == (1.0, 1.0)
    assert (many.temperature, many.alpha) == (4.0, 0.5)


@pytest.mark.parametrize(
    "samples, options, crop_area",
    [
        (1000, {}, (0.7, 1.0)),
        (1100, {}, None),
        (1000, {"random_views": True}, None),
    ],
)
def test_images_that_are_seen_very_often_are_cropped(
    samples, options, crop_area
):
    chosen = kd.recipes.settings(
        samples=samples, steps=2400, batch_size=128, **options
    )
    assert chosen.crop_area == crop_area
    arguments = chosen.distiller_arguments(image_size=(8, 8))
    assert ("views" in arguments) == (crop_area is not None)
    assert "views" not in chosen.distiller_arguments()


def test_what_the_distiller_takes():
    chosen = kd.recipes.settings(samples=500, steps=2400, batch_size=128)
    arguments = chosen.distiller_arguments()
    assert arguments["distillation_losses"].temperature == 4.0
    assert arguments["alpha"] == 0.5
    loss = chosen.distiller_arguments(teacher_probabilities=True)
    assert loss["distillation_losses"].teacher_probabilities
    schedule = chosen.optimizer(2400).learning_rate
    assert keras.ops.convert_to_numpy(schedule) == pytest.approx(3e-3)
