"""Pairs of data and networks, what `kd.diagnose` says, what distilling does."""

import functools
import pathlib
import sys
from typing import NamedTuple

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared.long_runs import one_thread
from _shared.small_networks import halved

import keras_distill as kd

layers = keras.layers
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BATCH_SIZE = 128
# At once in one call of the training step: these networks are tiny.
STEPS_PER_EXECUTION = 50
SHIRT, TROUSER = 6, 1
PULLOVER, DRESS, COAT = 2, 3, 4


class Network(NamedTuple):
    """`"dense"` has one hidden layer of `width`, `"conv"` two convolutions."""

    kind: str
    width: int
    normalized: bool = True


class Pair(NamedTuple):
    """Data, student and teacher.

    Attributes:
        data: `"fashion"` (at half the resolution) or `"digits"`.
        images: The number of the student's images.
        student: A `Network`.
        teacher: A `Network`.
        teacher_images: The number of the teacher's images, the student's
            first.
        teacher_steps: The steps of the teacher's training.
        positive: Classes that are told from the rest; none for all classes.
        wrong_labels: The share of the student's labels that are drawn anew.
        wrong_validation: Whether so many validation labels are, too.
    """

    data: str = "fashion"
    images: int = 2000
    student: Network = Network("dense", 16)
    teacher: Network = Network("dense", 256)
    teacher_images: int = 20000
    teacher_steps: int = 2000
    positive: tuple = ()
    wrong_labels: float = 0.0
    wrong_validation: bool = False


CONV = Network("conv", 16)
OTHERS = (PULLOVER, DRESS, SHIRT)
PAIRS = {
    "few images": Pair(images=500),
    "some images": Pair(),
    "many images": Pair(images=20000),
    "tiny student": Pair(student=Network("dense", 5)),
    "tiny student, many images": Pair(
        images=20000, student=Network("dense", 5)
    ),
    "large student": Pair(student=Network("dense", 128)),
    "weak teacher": Pair(teacher_steps=60),
    "teacher like the student": Pair(
        teacher=Network("dense", 16), teacher_images=2000
    ),
    "teacher of the same images": Pair(teacher_images=2000),
    "wrong labels, some images": Pair(wrong_labels=0.4),
    "wrong labels, many images": Pair(images=20000, wrong_labels=0.4),
    "wrong labels, validation too": Pair(
        wrong_labels=0.4, wrong_validation=True
    ),
    "shirts, few images": Pair(images=500, positive=(SHIRT,)),
    "trousers, few images": Pair(images=500, positive=(TROUSER,)),
    "30 % positive": Pair(images=500, positive=OTHERS),
    "30 % positive, weak teacher": Pair(positive=OTHERS, teacher_steps=60),
    "digits": Pair("digits", 1100, teacher=CONV, teacher_images=1100),
    "digits, few images": Pair(
        "digits", 150, teacher=CONV, teacher_images=1100
    ),
    "few images, convolutions": Pair(images=500, student=Network("conv", 8)),
    "many images, convolutions": Pair(images=20000, student=Network("conv", 8)),
    "few images, not normalized": Pair(
        images=500, student=Network("dense", 16, normalized=False)
    ),
    "some images, not normalized": Pair(
        student=Network("dense", 16, normalized=False)
    ),
}


class Data:
    """The data of a pair.

    Args:
        pair: A `Pair`.
        held_out: Whether the test part is taken from the training images,
            which are also shuffled in another order: for trying things out.
    """

    def __init__(self, pair, held_out=False):
        if pair.data == "digits":
            data = kd.datasets.digits(fold=1 if held_out else 0)
            validation = slice(1100, None)
        else:
            data = kd.datasets.fashion_mnist()
            validation = slice(40000, 42000)
        generator = np.random.default_rng(int(held_out))
        order = generator.permutation(len(data.x_train))
        x, y = data.x_train[order], self._labels(pair, data.y_train[order])
        self.classes = 2 if pair.positive else 10
        pool = slice(pair.teacher_images)
        self.pool = halved(x[pool]), y[pool]
        self.test = data.x_test, self._labels(pair, data.y_test)
        if held_out and pair.data != "digits":
            self.test = x[50000:], y[50000:]
        self.test = halved(self.test[0]), self.test[1]
        wrong = np.where(
            generator.uniform(size=len(y)) < pair.wrong_labels,
            generator.integers(self.classes, size=len(y), dtype="int32"),
            y,
        )
        train = slice(pair.images)
        self.train = halved(x[train]), wrong[train]
        y = wrong if pair.wrong_validation else y
        self.validation = halved(x[validation]), y[validation]

    @staticmethod
    def _labels(pair, y):
        return np.isin(y, pair.positive).astype("int32") if pair.positive else y


def network(description, shape, classes, name):
    kind, width, normalized = description

    def activated(x):
        if normalized:
            x = layers.BatchNormalization(momentum=0.9)(x)
        return layers.ReLU()(x)

    image = keras.Input(shape, name="image")
    if kind == "dense":
        x = activated(layers.Dense(width)(layers.Flatten()(image)))
    else:
        x = activated(layers.Conv2D(width, 3, 2, padding="same")(image))
        x = activated(layers.Conv2D(2 * width, 3, padding="same")(x))
        x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(image, layers.Dense(classes)(x), name=name)


def fit(model, x, y, steps, optimizer, seed):
    model.compile(
        optimizer,
        CROSSENTROPY,
        steps_per_execution=min(STEPS_PER_EXECUTION, steps),
    )
    model.fit(
        kd.datasets.batches(x, y, batch_size=BATCH_SIZE, seed=seed),
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
    )


def scores(model, data):
    """Accuracy and balanced accuracy on the test data."""
    x, y = data.test
    right = model.predict(x, batch_size=1000, verbose=0).argmax(-1) == y
    recalls = [right[y == c].mean() for c in np.unique(y)]
    return float(right.mean()), float(np.mean(recalls))


# Workers.


one_thread_each = functools.cache(one_thread)


def prepare(settings):
    """Prepares the data set before several workers want it."""
    kd.datasets.fashion_mnist()
    return settings


def examine(job):
    """Trains a teacher, asks `kd.diagnose`, and looks what distilling does.

    Args:
        job: The pair's name, seeds, steps, and `held_out` of `Data`.

    Returns:
        The name and a dict.
    """
    one_thread_each()
    name, seeds, steps, held_out = job
    pair = PAIRS[name]
    data = Data(pair, held_out)
    shape, classes = data.train[0].shape[1:], data.classes
    x, y = data.train

    def student(seed):
        keras.utils.set_random_seed(1000 * (1 + held_out) + seed)
        return network(pair.student, shape, classes, "student")

    settings = kd.recipes.settings(
        samples=len(x),
        steps=steps,
        batch_size=BATCH_SIZE,
        student=student(999),
    )
    keras.utils.set_random_seed(500 + held_out)
    teacher = network(pair.teacher, shape, classes, "teacher")
    optimizer = settings.optimizer(pair.teacher_steps)
    fit(teacher, *data.pool, pair.teacher_steps, optimizer, seed=500)
    # None of the networks that are trained below.
    diagnosis = kd.diagnose(
        student=student(999),
        teacher=teacher,
        dataset=data.train,
        validation_data=data.validation,
        steps=steps,
        batch_size=BATCH_SIZE,
        verbose=False,
    )
    alone, distilled = [], []
    for seed in range(seeds):
        network_alone, taught = student(seed), student(seed)
        distiller = kd.Distiller(
            student=taught,
            teacher=teacher,
            **settings.distiller_arguments(image_size=shape[:2]),
        )
        for model in (network_alone, distiller):
            fit(model, x, y, steps, settings.optimizer(steps), seed)
        alone.append(scores(network_alone, data))
        distilled.append(scores(taught, data))
    return name, {
        "facts": diagnosis.as_dict(),
        "settings": [settings.temperature, settings.crop_area is not None],
        "report": str(diagnosis),
        "teacher": scores(teacher, data),
        "alone": alone,
        "distilled": distilled,
    }
