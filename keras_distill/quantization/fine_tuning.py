"""From a trained student to one that is good in int8, in one call."""

from typing import Any

import keras

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_number
from keras_distill._data.sources import number_of_batches
from keras_distill.distillers import Distiller
from keras_distill.losses import SoftTargets
from keras_distill.losses.structures import as_list
from keras_distill.quantization.aware import aware
from keras_distill.quantization.ranges import FreezeRanges
from keras_distill.quantization.ranges import calibrate
from keras_distill.recipes.rule import cosine_adam


def fine_tune(
    student: keras.Model,
    dataset: Any,
    *,
    teacher: keras.Model | None = None,
    weights: int = 8,
    activations: int = 8,
    epochs: int = 1,
    steps_per_epoch: int | None = None,
    learning_rate: float = 1e-3,
    distillation_losses: Any = None,
    calibration_data: Any = None,
    callbacks: Any = None,
    verbose: Any = "auto",
) -> keras.Model:
    """Trains the int8 network of a student to do what a float network does.

    The network of `kd.quantization.aware` is calibrated, then distilled from
    the teacher by `kd.Distiller` without labels. The ranges of activations
    follow for the first half of the steps and stay for the second.

    Args:
        student: A trained float student, Functional or Sequential. It stays
            as it is.
        dataset: What `fit` takes, on the inputs of both networks: a
            `tf.data.Dataset` of `x` or `(x, y)` batches, or arrays, `x` or
            `(x, y)`. Labels are ignored.
        teacher: Who says what is right. Defaults to `None`: the float
            student. The student's own teacher, if it is at hand, can win back
            more where much is lost.
        weights: Number of bits of weights, from 2 to 8. Defaults to 8.
        activations: Number of bits of activations, from 2 to 8. Defaults to 8.
        epochs: Passes over the dataset. Defaults to 1. With weights of 3 bits,
            train for some hundreds of steps: more steps won back more than
            any other setting did.
        steps_per_epoch: Steps in one of them; needed for a dataset without
            end. Defaults to the number of batches.
        learning_rate: Where Adam's rate starts; it goes down to 0 as a
            cosine. Defaults to 0.001.
        distillation_losses: As in `kd.Distiller`. Defaults to `None`:
            `kd.losses.SoftTargets()`, for networks that give logits.
        calibration_data: What the ranges are measured on at first. Defaults to
            `dataset`.
        callbacks: Keras callbacks, as in `fit`.
        verbose: As in `fit`.

    Returns:
        The trained network, a Functional `keras.Model`.
        `kd.export.tflite(model, path, quantization="int8")` writes it.

    Raises:
        TypeError, ValueError: As `kd.quantization.aware` and `kd.Distiller`,
            or if the dataset has no end and `steps_per_epoch` is missing.

    Example:

    ```python
    int8_student = kd.quantization.fine_tune(student, x_train, teacher=teacher)
    kd.export.tflite(int8_student, "files/tuned.tflite", quantization="int8")
    ```

    Reference: Mishra and Marr 2018, "Apprentice: Using Knowledge Distillation
    Techniques To Improve Low-Precision Network Accuracy" (scheme C).
    """
    checked_integer("`epochs`", epochs)
    checked_integer("`steps_per_epoch`", steps_per_epoch, or_none=True)
    checked_number("`learning_rate`", learning_rate)
    if teacher is not None:
        checked_model("teacher", teacher)
    steps = steps_per_epoch or number_of_batches(dataset)
    if steps is None:
        raise ValueError(
            "`dataset` does not say how many batches it has. Pass "
            "`steps_per_epoch`."
        )
    model = aware(student, weights=weights, activations=activations)
    if not model.trainable_weights:
        raise ValueError(
            f"All layers of '{student.name}' are frozen: set "
            "student.trainable = True."
        )
    distiller = Distiller(
        student=model,
        teacher=student if teacher is None else teacher,
        distillation_losses=(
            SoftTargets()
            if distillation_losses is None
            else distillation_losses
        ),
        alpha=1.0,
    )
    distiller.compile(cosine_adam(learning_rate, steps * epochs))
    if calibration_data is None:
        calibration_data = dataset
    calibrate(model, calibration_data)
    distiller.fit(
        dataset[0] if isinstance(dataset, tuple) else dataset,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        callbacks=[FreezeRanges(model), *as_list(callbacks or [])],
        verbose=verbose,
    )
    return model
