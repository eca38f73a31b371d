"""Label-free pretraining by a teacher's features, then few labels.

    python examples/studies/pretraining.py  # the table of the examples' README
    python examples/studies/pretraining.py --quick  # numbers that mean nothing
    python examples/studies/pretraining.py --held-out  # without the test data

Fashion-MNIST at 14 x 14 pixels. Teachers learn from 20 000 images: the ten classes, three groups
of them, or by how much an image is turned, which needs no label. A student is
pretrained by one of them on 50 000 images without labels, and then trained on
1 % or 10 % of their labels, which no teacher has seen.
"""

import argparse
import json
import pathlib
import sys

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared.reporting import percent
from _shared.reporting import table
from _shared.small_networks import conv
from _shared.small_networks import network
from _shared.small_networks import residual_block

import keras_distill as kd

SAVED = pathlib.Path(__file__).parents[2] / "saved_models"
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
GROUPS = np.array([0, 1, 0, 0, 0, 2, 0, 2, 1, 2])  # tops, others, shoes
BATCH = 128


def turned(x, y):
    """Every image turned by a random number of quarters, which is its label."""
    turns = np.random.default_rng(0).integers(0, 4, len(x))
    images = [np.rot90(image, turn) for image, turn in zip(x, turns)]
    return np.stack(images), turns


# What a teacher learns, and its number of classes.
TEACHERS = {
    "ten classes": (10, lambda x, y: (x, y)),
    "three groups": (3, lambda x, y: (x, GROUPS[y])),
    "turns": (4, turned),
}


def halved(x):
    """Images of 14 x 14 pixels, each the mean of four."""
    return x.reshape(-1, 14, 2, 14, 2, 1).mean(axis=(2, 4))


def plain_block(x, filters, strides, name):
    return keras.layers.ReLU(name=name)(conv(x, filters, 3, strides, name))


def student_network(seed):
    keras.utils.set_random_seed(1000 + seed)
    widths = [(16, 1), (32, 2)]
    return network(plain_block, widths, (14, 14, 1), name="student")


def teacher_network(classes):
    keras.utils.set_random_seed(0)
    widths = [(32, 1), (64, 2)]
    return network(
        residual_block, widths, (14, 14, 1), classes=classes, name="teacher"
    )


def train(model, x, y, steps, seed, rate=3e-3):
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(keras.optimizers.Adam(schedule), CROSSENTROPY)
    model.fit(
        kd.datasets.batches(x, y, batch_size=BATCH, seed=seed),
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
    )


def accuracy(model, x, y):
    logits = model.predict(x, batch_size=500, verbose=0)
    return float(np.mean(logits.argmax(-1) == y))


class Experiment:
    """The data and the teachers, then one student at a time.

    Args:
        steps: Steps of a teacher, of pretraining and of training on labels.
        labels: Numbers of labelled images.
        held_out: Whether 10 000 training images are the test.
        images: Number of unlabelled images.
    """

    def __init__(self, steps, labels, held_out, images=50000):
        data = kd.datasets.fashion_mnist()
        data = data._replace(
            x_train=halved(data.x_train), x_test=halved(data.x_test)
        )
        order = np.random.default_rng(0).permutation(len(data.x_train))
        self.steps, self.labels = steps, labels
        self.x = data.x_train[order[:images]]
        self.y = data.y_train[order[:images]]
        self.test = data.x_test, data.y_test
        if held_out:
            self.test = (
                data.x_train[order[50000:]],
                data.y_train[order[50000:]],
            )
        self.teachers = {}

    def teacher(self, task):
        if task not in self.teachers:
            classes, labelled = TEACHERS[task]
            teacher = teacher_network(classes)
            seen = 2 * len(self.x) // 5
            x, y = labelled(self.x[:seen], self.y[:seen])
            train(teacher, x, y, self.steps[0], seed=0)
            self.teachers[task] = teacher
        return self.teachers[task]

    def teacher_accuracy(self, task):
        return accuracy(self.teacher(task), *TEACHERS[task][1](*self.test))

    def pretrained(self, task, seed, **options):
        student = student_network(seed)
        options = {"steps": self.steps[1], "batch_size": BATCH} | options
        kd.pretrain(
            student, self.teacher(task), self.x, seed=seed, verbose=0, **options
        )
        return student

    def soft_targets(self, seed):
        """The same images, steps and views, and the teacher's outputs."""
        loss = kd.losses.SoftTargets()
        return self.pretrained(
            "ten classes", seed, distillation_losses={"soft_targets": loss}
        )

    def labelled(self, student, count, seed, rate=3e-3):
        """Accuracy after training on labelled images from a given start."""
        start = student.get_weights()
        last = len(self.x)
        x, y = (a[last - count : last] for a in (self.x, self.y))
        train(student, x, y, self.steps[2], seed, rate)
        result = accuracy(student, *self.test)
        student.set_weights(start)
        return result
