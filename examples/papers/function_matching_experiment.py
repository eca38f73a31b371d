"""The networks, the data and the trainings of `function_matching.py`."""

import functools
import json
import os
import pathlib
import sys
import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

import keras_distill as kd
from keras_distill.cost import multiply_accumulates

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs
from _shared.small_networks import network
from _shared.small_networks import residual_block
from _shared.small_networks import separable_block

OUT = pathlib.Path(__file__).parents[2] / "saved_models"
BATCH_SIZE = 64
CROSSENTROPY = keras.losses.CategoricalCrossentropy(from_logits=True)


class Row(NamedTuple):
    """One way of training the student.

    Attributes:
        length: "short" or "long".
        views: Class of the views; `None`: the student learns from labels.
        alpha: Share of distillation.
        augmented: Whether labels go with the views of function matching.
        pretrained: Whether the student begins as a short training from
            labels left it.
        cached: Whether the teacher's outputs come from a `kd.TeacherCache`.
    """

    name: str
    length: str = "short"
    views: type = None
    alpha: float = 1.0
    augmented: bool = False
    pretrained: bool = False
    cached: bool = False


MATCHING = kd.views.FunctionMatching
ROWS = [
    Row("fixed teacher", views=kd.views.FixedTeacher),
    Row("independent noise", views=kd.views.IndependentNoise),
    Row("consistent", views=kd.views.Consistent),
    Row("function matching", views=MATCHING),
    Row("half labels", views=MATCHING, alpha=0.5),
    Row("from pretrained", views=MATCHING, pretrained=True),
    Row("cached teacher", views=MATCHING, cached=True),
    Row("labels, plain images"),
    Row("labels, same views", augmented=True),
    Row("function matching, long", "long", views=MATCHING),
    Row("labels, plain images, long", "long"),
    Row("labels, same views, long", "long", augmented=True),
]


# The networks.


NETWORKS = {
    "teacher": (residual_block, [(24, 1), (48, 2)]),
    "student": (separable_block, [(32, 1), (64, 2), (64, 1)]),
}


# The data.


def images_of(dataset, size):
    """-> x_train, y_train, x_test, y_test; images in [0, 1]."""
    if dataset == "fashion_mnist" and size is None:
        return kd.datasets.fashion_mnist()

    def prepared(sample):
        image = tf.cast(sample["image"], tf.float32) / 255
        if size is not None:
            image = tf.image.resize(image, (size, size), antialias=True)
        return image, sample["label"]

    arrays = []
    for split in ("train", "test"):
        samples = kd.datasets.load(dataset, split).map(prepared)
        images, labels = zip(*samples.as_numpy_iterator())
        arrays += [np.stack(images), np.array(labels, "int32")]
    return arrays


class FunctionMatchingExperiment:
    """The data and the teacher, in every worker."""

    def __init__(self, settings):
        self.settings = settings
        self.folder = OUT / settings["home"]
        x, y, x_test, y_test = images_of(settings["dataset"], settings["size"])
        self.classes = int(y.max()) + 1
        order = np.random.default_rng(0).permutation(len(y))
        if settings["held_out"]:
            other = order[-settings["tested"] :]
            x_test, y_test = x[other], y[other]
        self.x_test = x_test[: settings["tested"]]
        self.y_test = y_test[: settings["tested"]]
        taught = order[: settings["teacher_images"]]
        train = taught[: settings["images"]]
        self.x, self.y = x[train], y[train]
        self.teacher = self.trained_teacher(x[taught], y[taught])
        self.teacher_logits = self.logits(self.teacher, self.x_test)

    def view(self, kind, seed, **options):
        area = options.pop("area", self.settings["crop_area"])
        return kind(
            self.x.shape[1:3], crop_area=(area, 1.0), seed=seed, **options
        )

    def network(self, kind, seed):
        keras.utils.set_random_seed(1000 + seed)
        block, widths = NETWORKS[kind]
        return network(block, widths, self.x.shape[1:], self.classes, kind)

    def recipe(self, rate, epochs, samples=None, **options):
        samples = samples or self.settings["images"]
        return kd.recipes.function_matching(
            self.x.shape[1:3],
            samples=samples,
            epochs=epochs,
            batch_size=BATCH_SIZE,
            learning_rate=rate,
            warmup_steps=epochs * samples // BATCH_SIZE // 10,
            weight_decay=self.settings["weight_decay"],
            crop_area=(self.settings["crop_area"], 1.0),
            **options,
        )

    def trained_teacher(self, x, y):
        path = self.folder / "teacher.keras"
        if not path.exists():
            teacher = self.network("teacher", 0)
            area = self.settings["teacher_crop_area"]
            views = self.view(kd.views.Consistent, 0, area=area)
            epochs = self.settings["teacher_epochs"]
            recipe = self.recipe(
                self.settings["teacher_rate"], epochs, samples=len(y)
            )
            self.train_with_labels(teacher, x, y, 0, recipe, views)
            unfinished = self.folder / f"unfinished{os.getpid()}.keras"
            teacher.save(unfinished)
            os.replace(unfinished, path)
        return keras.models.load_model(path)

    # Training.

    def batches(self, x, y, seed, **options):
        return kd.datasets.batches(
            x, y, BATCH_SIZE, seed=seed, drop_remainder=True, **options
        )

    def viewed(self, x, y, seed, views):
        """Batches of images and one-hot labels, as these views show them."""
        data = self.batches(x, y, seed, classes=self.classes)
        if views is None:
            return data

        def view(x, y):
            seen = views.training(x, y)
            return seen.student, seen.y

        return kd.datasets.with_fast_epoch_end(data.map(view).prefetch(2))

    def train_with_labels(self, model, x, y, seed, recipe, views, **fit):
        model.compile(recipe.optimizer(), CROSSENTROPY, jit_compile=False)
        steps = recipe.steps // fit.get("epochs", 1)
        data = self.viewed(x, y, seed, views)
        model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0, **fit)

    def distiller(self, row, student, recipe, seed, teacher):
        arguments = {**recipe.distiller_arguments(), "alpha": row.alpha}
        if row.views is not MATCHING:
            arguments["views"] = self.view(row.views, seed)
        distiller = kd.Distiller(student=student, teacher=teacher, **arguments)
        distiller.compile(
            recipe.optimizer(),
            CROSSENTROPY if row.alpha < 1 else None,
            jit_compile=False,
        )
        return distiller

    def teacher_and_data(self, row, recipe, seed):
        """What `distiller` and `fit` get; of a cache its data alone."""
        y = self.y if row.alpha < 1 else None
        data = self.batches(self.x, y, seed, indexed=True, group_size=16)
        if not row.cached:
            return self.teacher, data
        area, epochs = self.settings["crop_area"], self.settings[row.length]
        cache = kd.TeacherCache.build(
            self.teacher,
            self.x,
            self.folder / f"cache_{area:g}_{epochs}_{seed}",
            views=recipe.views,
            epochs=epochs,
            verbose=False,
        )
        return None, cache.join(data)

    def run(self, row, seed):
        settings = self.settings
        student = self.network("student", seed)
        if row.pretrained:
            before = self.recipe(settings["labels_rate"], settings["short"])
            self.train_with_labels(student, self.x, self.y, seed, before, None)
        rate = settings["labels_rate" if row.views is None else "rate"]
        recipe = self.recipe(rate, settings[row.length], seed=seed)
        points = settings["points"][row.length]
        curve = Curve(self, student, recipe.steps // points)
        fit = {"epochs": points, "callbacks": [curve]}
        prepared = start = time.time()
        if row.views is None:
            views = recipe.views if row.augmented else None
            self.train_with_labels(
                student, self.x, self.y, seed, recipe, views, **fit
            )
        else:
            teacher, data = self.teacher_and_data(row, recipe, seed)
            start = time.time()
            distiller = self.distiller(row, student, recipe, seed, teacher)
            steps = recipe.steps // points
            distiller.fit(data, steps_per_epoch=steps, verbose=0, **fit)
        logits = self.logits(student, self.x_test)
        return {
            "accuracy": curve.test[-1],
            "train": curve.train[-1],
            "agreement": float(
                np.mean(logits.argmax(-1) == self.teacher_logits.argmax(-1))
            ),
            "steps": curve.steps,
            "test_curve": curve.test,
            "train_curve": curve.train,
            "seconds": {
                "prepared": start - prepared,
                "trained": time.time() - start,
            },
        }

    # Measuring.

    def milliseconds(self, count=10):
        """Rows of a table: median ms per step of live, cached and labels."""
        rounds = 3 if self.settings["quick"] else 15
        rows = {row.name: row for row in ROWS}
        names = ("labels, same views", "function matching", "cached teacher")
        steppers = [self.stepper(rows[name]) for name in names]
        taken = {name: [] for name in names}
        for number in range(rounds + 1):
            for name, stepper in zip(names, steppers):
                start = time.perf_counter()
                stepper(count)
                if number:  # The first round compiles.
                    passed = time.perf_counter() - start
                    taken[name].append(1000 * passed / count)
        medians = {name: float(np.median(taken[name])) for name in names}
        return [
            {
                "step": name,
                "ms": f"{milliseconds:.1f}",
                "relative": f"{milliseconds / medians[names[0]]:.2f}",
            }
            for name, milliseconds in medians.items()
        ]

    def stepper(self, row):
        """A function that trains some steps of this row."""
        student = self.network("student", 0)
        recipe = self.recipe(1e-3, self.settings["short"], seed=0)
        if row.views is None:
            model, data = student, self.viewed(self.x, self.y, 0, recipe.views)
            model.compile(recipe.optimizer(), CROSSENTROPY, jit_compile=False)
        else:
            teacher, data = self.teacher_and_data(row, recipe, 0)
            model = self.distiller(row, student, recipe, 0, teacher)
        model.fit(data, steps_per_epoch=2, verbose=0)
        function, iterator = model.make_train_function(), iter(data)

        def steps(count):
            for _ in range(count):
                logs = function(iterator)
            return keras.tree.map_structure(np.asarray, logs)

        return steps

    def logits(self, model, x):
        return model.predict(x, batch_size=500, verbose=0)

    def accuracy(self, model, x, y):
        return float(np.mean(self.logits(model, x).argmax(-1) == y))


class Curve(keras.callbacks.Callback):
    """Accuracy on plain test and training images by step."""

    def __init__(self, experiment, student, steps_per_point):
        super().__init__()
        self.experiment, self.student = experiment, student
        self.steps_per_point = steps_per_point
        self.steps, self.test, self.train = [], [], []

    def on_epoch_end(self, epoch, logs=None):
        experiment = self.experiment
        self.steps.append((epoch + 1) * self.steps_per_point)
        self.test.append(
            experiment.accuracy(
                self.student, experiment.x_test, experiment.y_test
            )
        )
        self.train.append(
            experiment.accuracy(self.student, experiment.x, experiment.y)
        )


# Workers.


@functools.lru_cache(maxsize=2)
def experiment_of(settings):
    long_runs.one_thread()
    return FunctionMatchingExperiment(json.loads(settings))


def first_numbers(settings):
    experiment = experiment_of(json.dumps(settings))
    numbers = {
        "accuracy": experiment.accuracy(
            experiment.teacher, experiment.x_test, experiment.y_test
        ),
        "train": experiment.accuracy(
            experiment.teacher, experiment.x, experiment.y
        ),
    }
    for model in (experiment.teacher, experiment.network("student", 0)):
        numbers[model.name] = {
            "parameters": model.count_params(),
            "multiply_accumulates": multiply_accumulates(model),
        }
    return numbers


def work(job):
    key, name, seed, settings = job
    experiment = experiment_of(json.dumps(settings))
    keras.backend.clear_session()
    if name is None:
        return key, experiment.milliseconds()
    row = {row.name: row for row in ROWS}[name]
    return key, experiment.run(row, seed)
