"""Label-free pretraining by a teacher's features, then few labels.

    python examples/studies/pretraining.py  # goes on where it stopped
    python examples/studies/pretraining.py --table  # of what is there
    python examples/studies/pretraining.py --quick  # numbers mean nothing
    python examples/studies/pretraining.py --held-out  # without the test data

Fashion-MNIST at 14 x 14 pixels. Teachers learn from 20 000 images: the ten
classes, or by how many quarters an image is turned, which needs no label. A
student is pretrained by one of them on 50 000 images without labels, and then
trained on 1 % or 10 % of the labels, of images that no teacher was trained on.
"""

import argparse
import functools
import json
import pathlib
import sys
import typing

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared.long_runs import one_thread
from _shared.long_runs import run_jobs
from _shared.long_runs import saved
from _shared.reporting import percent
from _shared.reporting import table
from _shared.small_networks import accuracy
from _shared.small_networks import conv
from _shared.small_networks import halved
from _shared.small_networks import network
from _shared.small_networks import residual_block

import keras_distill as kd

SAVED = pathlib.Path(__file__).parents[2] / "saved_models"
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BATCH = 128


def turned(x, y):
    """Every image turned by a random number of quarters, which is its label."""
    turns = np.random.default_rng(0).integers(0, 4, len(x))
    images = [np.rot90(image, turn) for image, turn in zip(x, turns)]
    return np.stack(images), turns


# What a teacher learns, and its number of classes.
TEACHERS = {
    "ten classes": (10, lambda x, y: (x, y)),
    "turns": (4, turned),
}


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


def teacher_file(settings, task):
    return SAVED / settings["folder"] / f"{task.replace(' ', '_')}.keras"


class Data(typing.NamedTuple):
    """Images and labels to train on, and `(x, y)` to test on."""

    x: np.ndarray
    y: np.ndarray
    test: tuple


@functools.cache
def data_of(images, held_out):
    """Returns the first of the training images, half the size, as `Data`."""
    data = kd.datasets.fashion_mnist()
    order = np.random.default_rng(0).permutation(len(data.x_train))
    train, rest = order[:images], order[50000:]
    test = data.x_test, data.y_test
    if held_out:
        test = data.x_train[rest], data.y_train[rest]
    return Data(
        halved(data.x_train[train]),
        data.y_train[train],
        (halved(test[0]), test[1]),
    )


def prepare(settings):
    """Trains the teachers; returns their accuracies."""
    one_thread()
    data, accuracies = data_of(settings["images"], settings["held_out"]), {}
    n = 2 * len(data.x) // 5
    for task, (classes, labelled) in TEACHERS.items():
        teacher = teacher_network(classes)
        x, y = labelled(data.x[:n], data.y[:n])
        train(teacher, x, y, settings["teacher_steps"], seed=0)
        teacher.save(teacher_file(settings, task))
        accuracies[task] = accuracy(teacher, *labelled(*data.test))
    return accuracies


def pretrained(student, row, data, settings, seed):
    """Trains a student as a row says, in place."""
    task, options = ROWS[row]
    if task is None:
        return
    teacher = keras.models.load_model(teacher_file(settings, task))
    options = options(settings)
    if options.pop("soft_targets", False):
        options["distillation_losses"] = kd.losses.SoftTargets()
    kd.pretrain(
        student,
        teacher,
        data.x,
        steps=settings["steps"],
        batch_size=BATCH,
        seed=seed,
        verbose=0,
        **options,
    )


def work(job):
    """One start of a student, and what it makes of each number of labels."""
    key, row, seed, settings = job
    one_thread()
    data = data_of(settings["images"], settings["held_out"])
    student = student_network(seed)
    pretrained(student, row, data, settings, seed)
    start, result = student.get_weights(), {}
    if row == SOFT:
        result["0"] = accuracy(student, *data.test)
    for count in settings["labels"]:
        student.set_weights(start)
        x, y = data.x[-count:], data.y[-count:]
        train(student, x, y, settings["labelled_steps"], seed)
        result[str(count)] = accuracy(student, *data.test)
    return key, result


def cached(settings, name):
    """Both networks see the images as they are; the teacher runs once."""
    return {
        "views": kd.views.Views(),
        "cache_directory": SAVED / settings["folder"] / f"cache_{name}",
    }


SOFT = "soft targets of ten classes"
# What teaches, and the options of `kd.pretrain`.
ROWS = {
    "from scratch": (None, None),
    "features of ten classes": ("ten classes", lambda s: cached(s, "ten")),
    "features of turns": ("turns", lambda s: cached(s, "turns")),
    SOFT: (
        "ten classes",
        lambda s: {**cached(s, "soft"), "soft_targets": True},
    ),
    "features of ten classes, crops and mixup": ("ten classes", lambda s: {}),
}
SETTINGS = {
    "images": 50000,
    "labels": [500, 5000],
    "teacher_steps": 2000,
    "steps": 6000,
    "labelled_steps": 1500,
}
QUICK = {
    "images": 2000,
    "labels": [20, 200],
    "teacher_steps": 30,
    "steps": 20,
    "labelled_steps": 20,
}


def table_rows(results, settings):
    """The rows of the table, of the seeds that are there."""
    rows = []
    for row in ROWS:
        seeds = [k.split("/")[1] for k in results if k.startswith(f"{row}/")]
        cells = {"start": row, "seeds": len(seeds)}
        for count in map(str, settings["labels"]):
            values = [results[f"{row}/{seed}"][count] for seed in seeds]
            cells[f"{count} labels, %"] = percent(values) if values else ""
            pairs = [
                results[f"{row}/{seed}"][count] - other[count]
                for seed in seeds
                if (other := results.get(f"from scratch/{seed}"))
            ]
            gained = pairs and row != "from scratch"
            cells["gain" + " " * (count != str(settings["labels"][0]))] = (
                percent(pairs, "+") if gained else ""
            )
        rows.append(cells)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=ROWS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    name = "pretraining" + "_quick" * args.quick + "_held_out" * args.held_out
    out = SAVED / name
    out.mkdir(parents=True, exist_ok=True)
    settings = QUICK if args.quick else SETTINGS
    settings = settings | {"held_out": args.held_out, "folder": out.name}
    seeds = 1 if args.quick else args.seeds
    jobs = [
        [f"{row}/{seed}", row, seed, settings]
        for seed in range(seeds)
        for row in args.rows
    ]
    path = out / "results.json"
    if not args.table:
        run_jobs(jobs, path, settings, prepare, work, args.processes)
    results = saved(path)
    rows = table_rows(results, settings)
    networks = {"teacher": teacher_network(10), "student": student_network(0)}
    for role, network_ in networks.items():
        print(f"{role}: {network_.count_params():,} parameters")
    for task, right in results.get("first", {}).items():
        print(f"teacher of {task}: {100 * right:.1f} %")
    direct = [r["0"] for k, r in results.items() if k.startswith(SOFT)]
    if direct:
        print(f"{SOFT}, no label at all: {percent(direct)} %")
    print()
    print(table(rows))
    (out / "report.json").write_text(json.dumps({"table": rows}, indent=1))


if __name__ == "__main__":
    main()
