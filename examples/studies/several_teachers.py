"""What several teachers teach a small student, on handwritten digits.

    python examples/studies/several_teachers.py           # five seeds
    python examples/studies/several_teachers.py --quick   # says nothing

Digits of scikit-learn, 8x8: 1 200 images to train, 597 to test.

Same classes. Two teachers, each trained on 100 labelled images of its own. The
student sees the other 1 000 images, without labels, and learns from one
teacher, from both by a loss each, or from a combination.

Parts of the classes. One teacher knows 0 to 4, the other 5 to 9, each trained
on 500 images or so of its classes. The student learns all ten classes from the
1 000 images without labels (class_map with None), alone or with 50 labels.

All students of a seed have the same first weights and number of steps. Means
over seeds, and 95 % intervals of the paired difference to the first row.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from tqdm import tqdm

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from _shared.reporting import percent
from _shared.reporting import table

BATCH, RATE = 50, 3e-3


def network(units, classes=10):
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Flatten()(image)
    for size in units:
        x = layers.Dense(size, activation="relu")(x)
    return keras.Model(image, layers.Dense(classes)(x))


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def batches(x, y=None):
    return kd.datasets.batches(x, y, batch_size=BATCH, seed=0)


def trained(model, data, steps, loss=None):
    model.compile(keras.optimizers.Adam(RATE), loss)
    model.fit(data, steps_per_epoch=steps, verbose=0)
    return model


def soft(name, class_map=None):
    return kd.losses.SoftTargets(teacher_layer_name=name, class_map=class_map)


def accuracy(model, x, y):
    return np.mean(np.argmax(model.predict(x, verbose=0), -1) == y)


def results(seed, steps):
    """Row -> test accuracy in percent, for one seed."""
    digits = load_digits()
    x = (digits.images[..., None] / 16).astype("float32")
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order], digits.target[order]
    test, unlabelled = (x[1200:], y[1200:]), x[200:1200]
    keras.utils.set_random_seed(seed)
    first, second = (
        trained(
            network([128, 128]),
            batches(x[part], y[part]),
            steps,
            loss(),
        )
        for part in (slice(0, 100), slice(100, 200))
    )
    parts = []
    for low in (0, 5):
        mine = (y[:1200] >= low) & (y[:1200] < low + 5)
        data = batches(x[:1200][mine], y[:1200][mine] - low)
        parts.append(trained(network([128, 128], 5), data, steps, loss()))

    def taught(teacher, losses, data=unlabelled, labels=None):
        keras.utils.set_random_seed(seed)
        student, task_loss = network([16]), None
        if labels is not None:
            task_loss = keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, ignore_class=-1
            )
        distiller = kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=losses,
            alpha=1.0 if labels is None else 0.5,
        )
        trained(distiller, batches(data, labels), steps, task_loss)
        return accuracy(student, *test)

    def alone(count):
        keras.utils.set_random_seed(seed)
        data = batches(x[:count], y[:count])
        student = trained(network([16]), data, steps, loss())
        return accuracy(student, *test)

    names = ["first", "second"]
    teachers = kd.Teachers(
        {"first": first, "second": second},
        combinations={
            "mean": names,
            **{
                rule: kd.teachers.Combination(names, rule=rule)
                for rule in ("confidence", "sample")
            },
        },
    )
    outputs = teachers.predict(test[0], verbose=0)
    found = {"student of one teacher": taught(first, soft(None))}
    for name in ("mean", "confidence", "sample"):
        found[f"student of both, rule {name}"] = taught(teachers, soft(name))
    losses = {name: soft(name) for name in names}
    found["student of both, a loss each"] = taught(teachers, losses)
    found["student alone, 200 labels"] = alone(200)
    found["one teacher"] = np.mean(outputs["first"].argmax(-1) == test[1])
    mixed = np.asarray(teachers.combinations["mean"](outputs))
    found["both teachers, mean"] = np.mean(mixed.argmax(-1) == test[1])

    halves = {"low": parts[0], "high": parts[1]}
    class_names = [str(i) for i in range(10)]

    def by_parts():
        return {
            name: soft(
                name,
                kd.teachers.class_map(known, class_names, partial=True),
            )
            for name, known in (
                ("low", class_names[:5]),
                ("high", class_names[5:]),
            )
        }

    found["parts of the classes, no labels"] = taught(halves, by_parts())
    # The labelled images come again and again among the others.
    few = np.tile(np.arange(50), 20)
    marks = np.concatenate([np.full(1000, -1), y[few]])
    data = np.concatenate([unlabelled, x[few]])
    found["parts of the classes, 50 labels"] = taught(
        halves, by_parts(), data, marks
    )
    found["student alone, 50 labels"] = alone(50)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    steps = 600
    if arguments.quick:
        arguments.seeds, steps = 2, 3
    seeds = tqdm(range(arguments.seeds), desc="seeds")
    runs = [results(seed, steps) for seed in seeds]
    rows = []
    for label in runs[0]:
        values = np.array([run[label] for run in runs])
        first = np.array([run[next(iter(run))] for run in runs])
        rows.append(
            {
                "network": label,
                "accuracy %": percent(values),
                "to the first row": percent(values - first, "+"),
            }
        )
    print(table(rows))


if __name__ == "__main__":
    main()
