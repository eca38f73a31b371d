"""One setting of the study of defaults: its data, teacher and students."""

import functools
import pathlib
import sys
import time
from typing import NamedTuple

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs
from _shared.small_networks import accuracy
from _shared.small_networks import halved
from _shared.small_networks import network
from _shared.small_networks import plain_student
from _shared.small_networks import residual_block
from _shared.small_networks import separable_block

import keras_distill as kd

BATCH_SIZE = 128
LEARNING_RATE = 3e-3
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# Passes of random views in a cache; longer training repeats them.
CACHED_PASSES = 8


class Setting(NamedTuple):
    """What one user has.

    Attributes:
        data: `"fashion"`, `"glyphs"` or `"digits"`.
        student: A key of `STUDENTS`.
        images: The number of labelled images.
        steps: The length of the training.
        unlabelled: Whether all other training images are there, unlabelled.
        constant: Whether the learning rate stays, at a third of that from
            which it goes down to 0 otherwise.
        views: Whether views are tried too; not part of `key`.
    """

    data: str
    student: str
    images: int
    steps: int
    unlabelled: bool = False
    constant: bool = False
    views: bool = False

    @property
    def key(self):
        words = [self.data, self.student, str(self.images), str(self.steps)]
        words += ["unlabelled"] * self.unlabelled + ["constant"] * self.constant
        return " ".join(words)


class Configuration(NamedTuple):
    """What `kd.Distiller` is given; `temperature=None`: training alone."""

    temperature: float | None
    alpha: float
    views: str = "plain"

    @property
    def key(self):
        if self.temperature is None:
            return f"alone, {self.views}"
        return f"T {self.temperature:g}, alpha {self.alpha:g}, {self.views}"


STUDENTS = {
    "tiny": lambda shape, classes: network(
        separable_block, [(8, 2), (12, 2), (16, 1)], shape, classes
    ),
    "small": lambda shape, classes: network(
        separable_block, [(16, 2), (24, 2), (32, 1)], shape, classes
    ),
    "wide": lambda shape, classes: network(
        separable_block, [(32, 2), (64, 2), (96, 1)], shape, classes
    ),
    "no batch norm": lambda shape, classes: _headed(
        plain_student(7), shape, classes
    ),
}
VIEWS = {
    "weak": {"crop_area": (0.7, 1.0), "mixup": False},
    "medium": {"crop_area": (0.5, 1.0), "mixup": True},
    "strong": {"crop_area": (0.25, 1.0), "mixup": True},
}


def _headed(model, shape, classes):
    """The same layers for another shape and number of classes."""
    layers = [keras.Input(shape)]
    for layer in model.layers[:-1]:
        layers.append(type(layer).from_config(layer.get_config()))
    return keras.Sequential([*layers, keras.layers.Dense(classes)])


@functools.cache
def load(data, quick, seed=0):
    """Returns training images and labels, and those to judge by.

    The latter are training images too: the test set chooses nothing here.
    Images of clothes and characters are 14x14, so that the study takes hours
    and not days.
    """
    if data == "fashion":
        split = kd.datasets.fashion_mnist()
        x, y = halved(split.x_train), split.y_train
        held_out = 10_000
    elif data == "digits":
        split = kd.datasets.digits()
        x, y = split.x_train, split.y_train
        held_out = 400
    else:
        # Other fonts than those of the training images.
        split = kd.datasets.glyphs(62, 30_000, size=14, verbose=False)
        order = np.random.default_rng(seed).permutation(len(split.x_train))
        if not seed:
            order.sort()
        x, y = split.x_train[order], split.y_train[order]
        return x, y, split.x_test, split.y_test
    order = np.random.default_rng(seed).permutation(len(x))
    if quick:
        order, held_out = order[:1000], 200
    x, y = x[order], y[order]
    return x[:-held_out], y[:-held_out], x[-held_out:], y[-held_out:]


def teacher_of(data, settings):
    """Trains the teacher of a data set, or loads it."""
    path = pathlib.Path(settings["folder"]) / f"{data}.keras"
    if path.exists():
        return keras.models.load_model(path)
    x, y, _, _ = load(data, settings["quick"], settings["seed"])
    x, y = x[:20_000], y[:20_000]
    keras.utils.set_random_seed(settings["seed"])
    widths = [(24, 1), (48, 2), (64, 1)]
    teacher = network(residual_block, widths, x.shape[1:], int(y.max()) + 1)
    steps = settings["teacher_steps"]
    teacher.compile(_adam(steps), CROSSENTROPY)
    _fit(teacher, kd.datasets.batches(x, y, BATCH_SIZE, seed=0), steps)
    teacher.save(path)
    return teacher


def prepare(settings):
    """Trains all teachers, and returns their accuracies."""
    accuracies = {}
    for data in settings["data"]:
        teacher = teacher_of(data, settings)
        _, _, x, y = load(data, settings["quick"], settings["seed"])
        accuracies[data] = accuracy(teacher, x, y)
    return accuracies


def work(job):
    """Trains one configuration of one setting, with all seeds."""
    key, setting, configuration, settings = job
    long_runs.one_thread()
    setting = Setting(*setting)
    x, y, x_val, y_val = load(setting.data, settings["quick"], settings["seed"])
    labelled = min(setting.images, len(x))
    if configuration is None:
        return key, _chosen(setting, settings, x, y[:labelled], x_val, y_val)
    configuration = Configuration(*configuration)
    images = len(x) if setting.unlabelled else labelled
    if configuration.temperature is None:
        images = labelled
    x, y = x[:images], y[:images]
    views = None
    if configuration.views != "plain":
        views = kd.views.FunctionMatching(
            x.shape[1:3],
            flip=setting.data == "fashion",
            **VIEWS[configuration.views],
        )
    student = STUDENTS[setting.student](x.shape[1:], int(y_val.max()) + 1)
    distiller = kd.Distiller(
        student=student,
        distillation_losses=kd.losses.SoftTargets(
            temperature=configuration.temperature or 1.0
        ),
        alpha=configuration.alpha,
        views=views,
    )
    needs_labels = configuration.alpha < 1
    classes = None
    loss = CROSSENTROPY
    if views is not None and needs_labels:  # Mixup blends them.
        classes = int(y_val.max()) + 1
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    distiller.compile(
        _adam(setting.steps, setting.constant),
        loss if needs_labels else None,
        steps_per_execution=20,
    )
    cache = kd.TeacherCache.build(
        teacher_of(setting.data, settings),
        x,
        pathlib.Path(settings["folder"])
        / f"cache {setting.data} {images} {configuration.views}",
        views=views,
        epochs=1 if views is None else CACHED_PASSES,
        verbose=False,
    )
    accuracies = []
    variables = None
    for seed in range(settings["seeds"]):
        keras.utils.set_random_seed(_weights(settings, seed))
        fresh = STUDENTS[setting.student](x.shape[1:], int(y_val.max()) + 1)
        if variables is None:
            distiller.optimizer.build(student.trainable_variables)
            variables = [v.numpy() for v in distiller.optimizer.variables]
        for variable, value in zip(distiller.optimizer.variables, variables):
            variable.assign(value)
        student.set_weights(fresh.get_weights())
        stream = kd.datasets.batches(
            x,
            y if needs_labels else None,
            BATCH_SIZE,
            seed=seed,
            classes=classes if needs_labels else None,
            indexed=True,
            group_size=1 if views is None else views.group_size,
        )
        _fit(distiller, cache.join(stream), setting.steps)
        accuracies.append(accuracy(student, x_val, y_val))
    return key, accuracies


def _weights(settings, seed):
    """The seed of a student's initial weights."""
    return 1000 * (1 + settings["seed"]) + seed


def _chosen(setting, settings, x, y, x_val, y_val):
    """Lets `kd.choose` choose and trains that, with all seeds."""
    found = {"accuracies": [], "names": [], "choosing": [], "training": []}
    for seed in range(settings["seeds"]):
        keras.utils.set_random_seed(_weights(settings, seed))
        student = STUDENTS[setting.student](x.shape[1:], int(y_val.max()) + 1)
        start = time.time()
        choice = kd.choose(
            student=student,
            teacher=teacher_of(setting.data, settings),
            x=x[: len(y)],
            y=y,
            unlabelled=x[len(y) :] if setting.unlabelled else None,
            steps=setting.steps,
            batch_size=BATCH_SIZE,
            seed=seed,
            verbose=False,
        )
        found["choosing"].append(time.time() - start)
        start = time.time()
        choice.distiller.fit(**choice.fit_arguments(), verbose=0)
        found["training"].append(time.time() - start)
        found["accuracies"].append(accuracy(student, x_val, y_val))
        values = {name: c["value"] for name, c in choice.settings.items()}
        found["names"].append(
            next(
                row["name"]
                for row in choice.table
                if values.items() <= row.items()
            )
        )
    found["share"] = sum(found["choosing"]) / sum(found["training"])
    return found


def _adam(steps, constant=False):
    if constant:
        return keras.optimizers.Adam(LEARNING_RATE / 3)
    return keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    )


def _fit(model, dataset, steps):
    model.fit(dataset, steps_per_epoch=steps, shuffle=False, verbose=0)
