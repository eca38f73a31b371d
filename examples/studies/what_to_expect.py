"""What to expect when: distillation against training alone, on Fashion-MNIST.

    python examples/studies/what_to_expect.py  # the table of the README
    python examples/studies/what_to_expect.py --quick  # a minute, small numbers

One teacher is trained on 20 000 images. Students of two sizes get 500, 2000 or
all 20 000 of these, with labels, for a short or a long time. Accuracy is that
on 10 000 other images of the training set: the test set chooses nothing here.

The teacher's logits are computed once and travel with the data, as the input
of a teacher that only passes them on.
"""

import argparse
import json
import pathlib
import sys

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared.small_networks import accuracy
from _shared.small_networks import plain_student
from _shared.small_networks import plain_teacher

import keras_distill as kd

layers = keras.layers
SAVED = pathlib.Path(__file__).parents[2] / "saved_models"
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def optimizer(steps, rate=4e-3):
    return keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(rate, steps)
    )


def fit(model, x, y, steps, seed, batch_size=64):
    model.fit(
        kd.datasets.batches(x, y, batch_size=batch_size, seed=seed),
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
    )


class Experiment:
    """The data, the teacher, and one student at a time."""

    def __init__(self, images, teacher_steps):
        data = kd.datasets.fashion_mnist()
        order = np.random.default_rng(0).permutation(len(data.x_train))
        train, held_out = order[:images], order[-10000:]
        self.x, self.y = data.x_train[train], data.y_train[train]
        self.x_val = data.x_train[held_out]
        self.y_val = data.y_train[held_out]
        keras.utils.set_random_seed(0)
        self.teacher = plain_teacher()
        self.teacher.compile(optimizer(teacher_steps, 2e-3), CROSSENTROPY)
        fit(self.teacher, self.x, self.y, teacher_steps, seed=0)
        self.logits = self.teacher.predict(self.x, batch_size=500, verbose=0)
        self.teacher_accuracy = accuracy(self.teacher, self.x_val, self.y_val)
        given = keras.Input((10,), name="logits")
        self.given_logits = keras.Model(given, layers.Identity()(given))

    def student(self, width, seed):
        keras.utils.set_random_seed(1000 + seed)
        return plain_student(width)

    def alone(self, width, labels, steps, seed):
        student = self.student(width, seed)
        student.compile(optimizer(steps), CROSSENTROPY)
        fit(student, self.x[:labels], self.y[:labels], steps, seed)
        return accuracy(student, self.x_val, self.y_val)

    def distilled(self, width, labels, steps, seed):
        student = self.student(width, seed)
        distiller = kd.Distiller(
            student=student,
            teacher=self.given_logits,
            distillation_losses=kd.losses.SoftTargets(),
        )
        distiller.compile(optimizer(steps), CROSSENTROPY)
        x = {"image": self.x[:labels], "logits": self.logits[:labels]}
        fit(distiller, x, self.y[:labels], steps, seed)
        return accuracy(student, self.x_val, self.y_val)


def interval(values):
    """Mean and half width of the 95 % interval (Student's t)."""
    from scipy import stats

    values = np.asarray(values, float)
    if len(values) < 2:
        return values.mean(), float("nan")
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return values.mean(), half


def percent(values):
    mean, half = interval(100 * np.asarray(values))
    return f"{mean:5.1f} ± {half:.1f}" if half == half else f"{mean:5.1f}"


def regimes(experiment, grid, seeds):
    """Alone against distilled with the package's defaults."""
    rows = []
    print("| student | images | steps | alone | distilled | difference |")
    print("|---|---|---|---|---|---|")
    for width, labels, steps in grid:
        alone, distilled = [], []
        for seed in range(seeds):
            alone.append(experiment.alone(width, labels, steps, seed))
            distilled.append(experiment.distilled(width, labels, steps, seed))
        size = plain_student(width).count_params()
        gain = np.subtract(distilled, alone)
        rows.append(
            {
                "parameters": size,
                "labels": labels,
                "steps": steps,
                "alone": alone,
                "distilled": distilled,
            }
        )
        print(
            f"| {size} | {labels} | {steps} | {percent(alone)} | "
            f"{percent(distilled)} | {percent(gain)} |",
            flush=True,
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    if args.quick:
        experiment = Experiment(images=2000, teacher_steps=100)
        grid = [(4, 200, 60)]
        seeds = 2
    else:
        experiment = Experiment(images=20000, teacher_steps=4000)
        amounts = [(500, 1000), (2000, 1000), (20000, 1000)]
        amounts += [(2000, 4000), (20000, 4000)]
        grid = [(width, *amount) for width in (7, 16) for amount in amounts]
        seeds = args.seeds
    print(
        f"teacher: {experiment.teacher.count_params()} parameters, "
        f"{100 * experiment.teacher_accuracy:.1f} % on 10 000 held-out images\n"
    )
    out = SAVED / ("what_to_expect" + "_quick" * args.quick)
    out.mkdir(parents=True, exist_ok=True)
    rows = regimes(experiment, grid, seeds)
    (out / "regimes.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
