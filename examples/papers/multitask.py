"""Which structure of several heads helps when: Heads of kd.multitask.

    python examples/papers/multitask.py  # all parts
    python examples/papers/multitask.py --part digits
    python examples/papers/multitask.py --quick  # all parts, tiny numbers

1. Synthetic tasks whose kernels are known: each truth wants its structure.
2. 45 linear students, one digit against another, each taught by an RBF-SVM.
3. A network on Fashion-MNIST, one trunk and a head for each of 11 attributes,
   each attribute taught by a teacher of its own, through `kd.Distiller`.

Every strength is chosen on samples that no student is trained on, by the
teachers' outputs; test images choose nothing.
"""

import argparse
import json
import pathlib
import sys
import time

import multitask_experiment as experiment
import numpy as np
from tqdm import tqdm

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import reporting

OUT = pathlib.Path(__file__).parents[2] / "saved_models" / "multitask"
FULL = {"seeds": 10, "folds": 20, "networks": 3, "steps": 200, "epochs": 60}
QUICK = {"seeds": 2, "folds": 2, "networks": 1, "steps": 20, "epochs": 2}
PAIRS = ("linf+l1", "rows+columns", "nuclear+l1", "nuclear+columns")
NETWORKS = {
    "no structure": [None],
    "feature": [("feature", (), s) for s in (3e-4, 2e-3)],
    "clustering": [("clustering", (groups,), 1e-3) for groups in (4, 8)],
    "linf+l1": [("linf+l1", (2.0,), s) for s in (5e-4, 3e-3)],
}


def mean(values, sign="", digits=3, scale=1.0):
    middle, half = reporting.interval(scale * np.asarray(values))
    text = f"{middle:{sign}.{digits}f}"
    return text if np.isnan(half) else f"{text} ± {half:.{digits}f}"


def synthetic(settings):
    names = ("feature", "clustering", *PAIRS)
    rows = []
    for truth in experiment.TRUTHS:
        runs = [
            experiment.synthetic(truth, seed, names, settings["steps"])
            for seed in tqdm(range(settings["seeds"]), truth)
        ]
        rows.append(
            {
                "truth": truth,
                **{name: mean([r[name] for r in runs]) for name in runs[0]},
            }
        )
    return rows


def digits(settings):
    names = ("feature", "clustering", "nuclear+l1", "linf+l1", "rows+columns")
    rows = []
    for images in (6, 15):
        runs = [
            experiment.digit_pairs(fold, images, names, settings["steps"] // 2)
            for fold in tqdm(range(settings["folds"]), f"{images} images")
        ]
        row = {"images per task": f"{images} (+{images} to choose)"}
        for name in ("teacher", "ridge"):
            row[name] = mean([r[name] for r in runs], "", 1, 100)
        for name in names:
            gains = [r[name] - r["ridge"] for r in runs]
            row[name] = mean(gains, "+", 2, 100)
        rows.append(row)
    return rows


def networks(settings, few=150):
    split = kd.datasets.fashion_mnist()
    teacher = experiment.teachers_of(
        split.x_train[:6000],
        split.y_train[:6000],
        max(1, settings["epochs"] // 10),
    )
    test = split.x_test, split.y_test
    found = {"teachers": [experiment.accuracy(teacher, *test)]}
    students, choices = {}, {}
    for seed in tqdm(range(settings["networks"]), "networks"):
        first = 10000 + 2 * few * seed
        x = split.x_train[first : first + few]
        held_out = split.x_train[first + few : first + 2 * few]
        for name, candidates in NETWORKS.items():
            tried = []
            for candidate in candidates:
                made = candidate and experiment.structure(*candidate)
                student = experiment.distilled(
                    made, teacher, x, seed, settings["epochs"]
                )
                error = experiment.cross_entropy(teacher, student, held_out)
                tried.append((error, len(tried), student))
            _, place, student = min(tried)
            choices.setdefault(name, []).append(candidates[place])
            accuracy = experiment.accuracy(student, *test)
            found.setdefault(name, []).append(accuracy)
            students[name] = student
    picture(students)
    print("chosen:", json.dumps(choices))
    alone = np.array(found["no structure"])
    return [
        {
            "heads": name,
            "test accuracy %": reporting.percent(values)
            if len(values) > 1
            else f"{100 * values[0]:.1f}",
            "against no structure": ""
            if name in ("teachers", "no structure")
            else mean(np.array(values) - alone, "+", 2, 100),
        }
        for name, values in found.items()
    ]


def picture(students):
    """What the heads of the last seed share."""
    OUT.mkdir(parents=True, exist_ok=True)
    for name in ("feature", "clustering", "linf+l1"):
        inspection = kd.multitask.inspect(students[name].get_layer("heads"))
        path = OUT / f"{name.replace('+', '_')}.png"
        inspection.plot(path)
        print(f"{name}:\n{inspection}\nSaved '{path.name}'.\n")


PARTS = {"synthetic": synthetic, "digits": digits, "networks": networks}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    settings = QUICK if options.quick else FULL
    for name in options.part or PARTS:
        start = time.monotonic()
        print(f"\n{reporting.table(PARTS[name](settings))}")
        print(f"{name}: {time.monotonic() - start:.0f} s, {settings}")


if __name__ == "__main__":
    main()
