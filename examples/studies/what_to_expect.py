"""What to expect when: distillation against training alone, on Fashion-MNIST.

    python examples/studies/what_to_expect.py  # the table of the README
    python examples/studies/what_to_expect.py --table  # what is there of it
    python examples/studies/what_to_expect.py --quick  # a minute, small numbers

One teacher is trained on 20 000 images. Students of two sizes get 500, 2000 or
all 20 000 of these, with labels, for a short or a long time: alone, distilled
with the settings of `kd.recipes.settings`, and distilled on all 50 000 images,
the others without labels. Accuracy is that on 10 000 other images of the
training set: the test set chooses nothing here.

The run can be stopped and started again: what is there is not done again.
"""

import argparse
import functools
import json
import pathlib
import sys

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs
from _shared import reporting
from _shared.small_networks import accuracy
from _shared.small_networks import network
from _shared.small_networks import residual_block
from _shared.small_networks import separable_block

import keras_distill as kd

SAVED = pathlib.Path(__file__).parents[2] / "saved_models"
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BATCH_SIZE = 64
TEACHER = [(24, 1), (48, 2), (64, 1)]
STUDENTS = {
    "small": [(16, 2), (24, 2), (32, 1)],
    "large": [(48, 2), (96, 2), (96, 1)],
}
AMOUNTS = [(500, 1000), (2000, 1000), (20000, 1000), (2000, 4000)]
AMOUNTS += [(20000, 4000)]
WAYS = ("alone", "distilled", "with unlabelled")
FULL = {
    "taught": 20_000,
    "held_out": 10_000,
    "teacher_steps": 4000,
    "amounts": AMOUNTS,
    "home": "what_to_expect",
}
QUICK = {
    "taught": 1000,
    "held_out": 58_000,
    "teacher_steps": 50,
    "amounts": [(200, 60)],
    "home": "what_to_expect_quick",
}


class Experiment:
    """The data and the teacher, in every worker."""

    def __init__(self, settings):
        self.folder = SAVED / settings["home"]
        self.settings = settings
        data = kd.datasets.fashion_mnist()
        order = np.random.default_rng(0).permutation(len(data.x_train))
        train = order[: -settings["held_out"]]
        held_out = order[-settings["held_out"] :][:10_000]
        self.x, self.y = data.x_train[train], data.y_train[train]
        self.x_val = data.x_train[held_out]
        self.y_val = data.y_train[held_out]

    def teacher(self):
        path = self.folder / "teacher.keras"
        if not path.exists():
            keras.utils.set_random_seed(0)
            teacher = network(residual_block, TEACHER)
            taught = self.settings["taught"]
            steps = self.settings["teacher_steps"]
            schedule = keras.optimizers.schedules.CosineDecay(3e-3, steps)
            teacher.compile(keras.optimizers.Adam(schedule), CROSSENTROPY)
            data = kd.datasets.batches(
                self.x[:taught], self.y[:taught], BATCH_SIZE, seed=0
            )
            fit(teacher, data, steps)
            teacher.save(path)
        return keras.models.load_model(path)

    def student(self, name, seed=0):
        keras.utils.set_random_seed(1000 + seed)
        return network(separable_block, STUDENTS[name])

    def train(self, name, labels, steps, way, seed):
        """Returns the accuracy of a trained student."""
        student = self.student(name, seed)
        images = len(self.x) if way == "with unlabelled" else labels
        chosen = kd.recipes.settings(
            samples=labels,
            steps=steps,
            batch_size=BATCH_SIZE,
            unlabelled=images - labels,
            student=student,
        )
        y = self.y[:labels] if images == labels else None
        data = kd.datasets.batches(
            self.x[:images], y, BATCH_SIZE, seed=seed, indexed=way != "alone"
        )
        model = student
        if way != "alone":
            model = kd.Distiller(
                student=student, **chosen.distiller_arguments()
            )
            cache = kd.TeacherCache.build(
                self.teacher(), self.x, self.folder / "cache", verbose=False
            )
            data = cache.join(data, samples=range(images))
        model.compile(
            chosen.optimizer(steps), None if y is None else CROSSENTROPY
        )
        fit(model, data, steps)
        return accuracy(student, self.x_val, self.y_val)


def fit(model, data, steps):
    model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)


# Workers.


@functools.cache
def experiment_of(settings):
    long_runs.one_thread()
    return Experiment(json.loads(settings))


def first_numbers(settings):
    experiment = experiment_of(json.dumps(settings))
    teacher = experiment.teacher()
    return {
        "accuracy": accuracy(teacher, experiment.x_val, experiment.y_val),
        "parameters": teacher.count_params(),
        "students": {
            name: experiment.student(name).count_params() for name in STUDENTS
        },
    }


def work(job):
    key, arguments, settings = job
    keras.backend.clear_session()
    return key, experiment_of(json.dumps(settings)).train(*arguments)


def rows(results, settings, seeds):
    lines = []
    for name, size in results["first"]["students"].items():
        for labels, steps in settings["amounts"]:
            found = {
                way: [
                    results[key]
                    for seed in seeds
                    if (key := f"{name}/{labels}/{steps}/{way}/{seed}")
                    in results
                ]
                for way in WAYS
            }
            if len({len(values) for values in found.values()}) > 1:
                continue
            alone = found["alone"]
            lines.append(
                {
                    "student": f"{size:,}",
                    "images": f"{labels:,}",
                    "steps": f"{steps:,}",
                    "passes": f"{steps * BATCH_SIZE / labels:.0f}",
                    "alone": reporting.percent(alone),
                    "distilled": reporting.percent(found["distilled"]),
                    **{
                        f"gain, {way}": reporting.percent(
                            np.subtract(found[way], alone), "+"
                        )
                        for way in WAYS[1:]
                    },
                }
            )
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    settings = QUICK if args.quick else FULL
    seeds = range(2 if args.quick else args.seeds)
    folder = SAVED / settings["home"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    jobs = [
        (f"{'/'.join(map(str, arguments))}", arguments, settings)
        for amount in settings["amounts"]
        for name in STUDENTS
        for seed in seeds
        for way in WAYS
        for arguments in [(name, *amount, way, seed)]
    ]
    if not args.table:
        # As the file of results has it: without tuples.
        settings = json.loads(json.dumps(settings))
        long_runs.run_jobs(
            jobs, path, settings, first_numbers, work, args.processes
        )
    results = long_runs.saved(path)
    first = results["first"]
    print(
        f"teacher: {first['parameters']:,} parameters, "
        f"{100 * first['accuracy']:.1f} % on held-out images\n"
    )
    print(reporting.table(rows(results, settings, seeds)))


if __name__ == "__main__":
    main()
