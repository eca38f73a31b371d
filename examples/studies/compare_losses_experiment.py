"""The networks, the data and the teacher of `compare_losses.py`."""

import functools
import json
import os
import pathlib
import sys
import time

import keras
import numpy as np
import published_weights

import keras_distill as kd
from keras_distill.cost import multiply_accumulates

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs
from _shared.small_networks import network
from _shared.small_networks import residual_block
from _shared.small_networks import separable_block

layers = keras.layers
OUT = pathlib.Path(__file__).parents[2] / "saved_models"
BATCH_SIZE = published_weights.BATCH_SIZE
WIDTHS = [(24, 1), (48, 2)]
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# The networks. `block1` and `block2` have equal shapes in both, so that
# losses without a connector can compare them.


def teacher_network():
    return network(residual_block, WIDTHS, name="teacher")


def student_network(seed):
    keras.utils.set_random_seed(1000 + seed)
    return network(separable_block, WIDTHS, name="student")


# Training.


def fit(model, x, y, seed, epochs, rate, **options):
    steps = len(y) // BATCH_SIZE
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps * epochs)
    model.compile(keras.optimizers.Adam(schedule), CROSSENTROPY)
    options = {"seed": seed, "drop_remainder": True, **options}
    history = model.fit(
        kd.datasets.batches(x, y, BATCH_SIZE, **options),
        steps_per_epoch=steps,
        epochs=epochs,
        shuffle=False,
        verbose=0,
    ).history
    return {name: values[-1] for name, values in history.items()}


class CompareLossesExperiment:
    """The data and the teacher, in every worker."""

    def __init__(self, settings):
        self.settings = settings
        folder = OUT / settings["home"]
        data = kd.datasets.fashion_mnist()
        order = np.random.default_rng(0).permutation(len(data.x_train))
        train = order[: settings["images"]]
        self.x, self.y = data.x_train[train], data.y_train[train]
        if settings["held_out"]:
            other = order[-settings["tested"] :]
            self.x_test, self.y_test = data.x_train[other], data.y_train[other]
        else:
            tested = slice(settings["tested"])
            self.x_test, self.y_test = data.x_test[tested], data.y_test[tested]
        path = folder / "teacher.keras"
        if path.exists():
            self.teacher = keras.models.load_model(path)
        else:
            keras.utils.set_random_seed(0)
            self.teacher = teacher_network()
            epochs, rate = settings["teacher_epochs"], settings["teacher_rate"]
            fit(self.teacher, self.x, self.y, 0, epochs, rate)
            self.teacher.save(folder / "unfinished.keras")
            os.replace(folder / "unfinished.keras", path)
        self.logits = self.predict(self.teacher, self.x)
        decisions = self.predict(self.teacher, self.x_test).argmax(-1)
        self.teacher_decisions = decisions
        given = keras.Input((10,), name="logits")
        self.given_logits = keras.Model(given, layers.Identity()(given))

    def predict(self, model, x):
        return model.predict(x, batch_size=500, verbose=0)

    def teacher_accuracy(self):
        return float(np.mean(self.teacher_decisions == self.y_test))

    def distiller(self, row, seed, live=False):
        """The student or its Distiller, and the data for `fit`."""
        student, x = student_network(seed), self.x
        if row.make is None:
            return student, x
        made = row.make(len(x))
        single = not isinstance(made, dict)
        chosen = {"loss": made} if single else made
        weights = {"loss": row.weight} if single else dict(row.weight)
        scale = self.settings.get("scale", 1.0)
        weights = {name: scale * weight for name, weight in weights.items()}
        if row.beside == published_weights.SOFT:
            temperature = self.settings["temperature"]
            chosen["soft"] = kd.losses.SoftTargets(temperature=temperature)
            weights["soft"] = 1.0
        teacher = self.teacher
        if row.logits_only and not live:
            # What such a loss wants of the teacher travels with the data.
            teacher, x = self.given_logits, {"image": x, "logits": self.logits}
        alone = row.beside == published_weights.NOTHING
        distiller = kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=chosen,
            distillation_loss_weights=weights,
            alpha=1.0 if alone else 0.5,
        )
        return distiller, x

    def run(self, row, seed):
        start = time.time()
        model, x = self.distiller(row, seed)
        epochs, rate = self.settings["epochs"], self.settings["rate"]
        options = {"indexed": True} if row.indexed else {}
        logs = fit(model, x, self.y, seed, epochs, rate, **options)
        if row.make is not None:
            model = model.deployable_student()
        decisions = self.predict(model, self.x_test).argmax(-1)
        return {
            "accuracy": float(np.mean(decisions == self.y_test)),
            "agreement": float(np.mean(decisions == self.teacher_decisions)),
            "logs": {name: float(value) for name, value in logs.items()},
            "seconds": time.time() - start,
        }

    def stepper(self, row):
        """A function that trains some steps, and what is deployed then."""
        model, x = self.distiller(row, seed=0, live=True)
        model.compile(keras.optimizers.Adam(1e-3), CROSSENTROPY)
        x, y = x[: 2 * BATCH_SIZE], self.y[: 2 * BATCH_SIZE]
        options = {"indexed": True} if row.indexed else {}
        data = kd.datasets.batches(x, y, BATCH_SIZE, seed=0, **options)
        model.fit(data, steps_per_epoch=2, shuffle=False, verbose=0)
        function, iterator = model.make_train_function(), iter(data)

        def steps(count):
            for _ in range(count):
                logs = function(iterator)
            return keras.tree.map_structure(np.asarray, logs)

        return steps, multiply_accumulates(model.deployable_student())

    def milliseconds(self, row, plain, rounds, count=5):
        """Median per step of this row and of soft targets, in turn.

        Of processor time: whatever else runs, it is not counted.
        """
        made, times = [self.stepper(row), self.stepper(plain)], [[], []]
        steppers, deployed = zip(*made)
        for stepper in steppers:
            stepper(count)
        for _ in range(rounds):
            for stepper, taken in zip(steppers, times):
                start = time.process_time()
                stepper(count)
                taken.append(1000 * (time.process_time() - start) / count)
        of_row, of_plain = (float(np.median(taken)) for taken in times)
        return {
            "ms": of_row,
            "soft_targets_ms": of_plain,
            "deployed": deployed[0],
        }


# Workers.


@functools.cache
def experiment_of(settings):
    long_runs.one_thread()
    return CompareLossesExperiment(json.loads(settings))


def first_numbers(settings):
    experiment = experiment_of(json.dumps(settings))
    return {
        "accuracy": experiment.teacher_accuracy(),
        "teacher": multiply_accumulates(experiment.teacher),
        "student": multiply_accumulates(student_network(0)),
        "teacher_parameters": experiment.teacher.count_params(),
        "student_parameters": student_network(0).count_params(),
    }


def work(job):
    """One row and seed, or one row's time: `(key, result)`."""
    key, name, seed, settings = job
    experiment = experiment_of(json.dumps(settings))
    keras.backend.clear_session()
    rows = published_weights.rows(settings["temperature"])
    rows = {row.name: row for row in rows}
    if seed is None:
        rounds = 3 if settings["quick"] else 15
        plain = rows["SoftTargets"]
        return key, experiment.milliseconds(rows[name], plain, rounds)
    return key, experiment.run(rows[name], seed)
