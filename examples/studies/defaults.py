"""Which temperature, alpha and views win, and when.

    python examples/studies/defaults.py  # all settings, 3 seeds
    python examples/studies/defaults.py --table  # the tables of what is there
    python examples/studies/defaults.py --quick  # two minutes, small numbers

A setting is a data set, a student, a number of images, a number of steps, and
whether all other images are there without labels. In each, the student is
trained alone and distilled with every temperature and alpha; in some, with
random crops and mixup too. One teacher per data set saw 20 000 labelled images
(fewer if there are fewer). Batches of 128, Adam at 0.003 with half a cosine.

Accuracies are those on training images that no network sees: the rule of
`kd.recipes.settings` is read off this table. The teacher's outputs are cached.
The run can be stopped and started again: what is there is not done again.
"""

import argparse
import pathlib
import sys

import defaults_experiment
import numpy as np
from defaults_experiment import Configuration
from defaults_experiment import Setting

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs
from _shared import reporting

import keras_distill as kd

SAVED = pathlib.Path(__file__).parents[2] / "saved_models"

# The most telling first: what a run that is stopped early has.
SETTINGS = [
    Setting("fashion", "small", 2000, 2400, views=True),
    Setting("fashion", "small", 20_000, 2400, views=True),
    Setting("fashion", "no batch norm", 2000, 2400),
    Setting("fashion", "small", 500, 600),
    Setting("fashion", "small", 2000, 2400, unlabelled=True),
    Setting("digits", "small", 1000, 600),
    Setting("fashion", "wide", 2000, 2400),
    Setting("fashion", "small", 2000, 600),
    Setting("fashion", "tiny", 2000, 2400),
    Setting("glyphs", "wide", 2000, 2400, views=True),
    Setting("fashion", "small", 500, 2400, views=True),
    Setting("digits", "small", 500, 2400),
    Setting("glyphs", "wide", 20_000, 2400),
    Setting("fashion", "small", 2000, 2400, constant=True),
    Setting("glyphs", "wide", 2000, 2400, unlabelled=True),
    Setting("fashion", "no batch norm", 2000, 6000, views=True),
    Setting("fashion", "no batch norm", 500, 2400, views=True),
    Setting("fashion", "small", 20_000, 6000),
    Setting("fashion", "small", 2000, 6000, views=True),
    Setting("fashion", "small", 2000, 15_000),
]
TEMPERATURES, ALPHAS = (1.0, 2.0, 4.0), (0.5, 1.0)
ALONE = Configuration(None, 0.0)


def configurations(setting):
    """Returns what is tried in a setting, the student alone first."""
    alphas = (1.0,) if setting.unlabelled else ALPHAS
    tried = [ALONE] + [
        Configuration(t, alpha) for alpha in alphas for t in TEMPERATURES
    ]
    if setting.views:
        for views in defaults_experiment.VIEWS:
            tried.append(Configuration(None, 0.0, views))
            tried.append(Configuration(1.0, 1.0, views))
            tried.append(Configuration(4.0, 0.5, views))
    return tried


def rule(setting, images):
    """Returns the configuration that `kd.recipes.settings` chooses."""
    chosen = kd.recipes.settings(
        samples=setting.images,
        steps=setting.steps,
        batch_size=defaults_experiment.BATCH_SIZE,
        unlabelled=images - setting.images if setting.unlabelled else 0,
        student=defaults_experiment.STUDENTS[setting.student]((14, 14, 1), 10),
    )
    return Configuration(chosen.temperature, chosen.alpha)


def points(values):
    mean, half = reporting.interval(100 * np.asarray(values))
    return f"{mean:.1f} ± {half:.1f}"


def tables(results, settings, sizes):
    """Prints accuracy alone, the gain of each configuration, and the rule."""
    columns = [
        Configuration(t, alpha) for alpha in ALPHAS for t in TEMPERATURES
    ]
    names = [f"T {c.temperature:g}, {c.alpha:g}" for c in columns]
    print("| setting | passes | alone | " + " | ".join(names) + " | rule |")
    print("|---" * (4 + len(columns)) + "|")
    gains = {name: [] for name in [*names, "rule", "best"]}
    for setting in settings:
        found = {
            c: results.get(f"{setting.key}/{c.key}")
            for c in configurations(setting)
        }
        if found[ALONE] is None:
            continue
        images = sizes[setting.data] if setting.unlabelled else setting.images
        passes = setting.steps * defaults_experiment.BATCH_SIZE / images
        gain = {
            c: 100 * np.subtract(v, found[ALONE])
            for c, v in found.items()
            if v is not None and c.views == "plain"
        }
        chosen = rule(setting, images)
        cells = [f"{gain[c].mean():+.1f}" if c in gain else "" for c in columns]
        of_rule = points(gain[chosen] / 100) if chosen in gain else ""
        print(
            f"| {setting.key} | {passes:.0f} | {points(found[ALONE])} | "
            + " | ".join(cells)
            + f" | {of_rule} |"
        )
        if len(gain) == 1 + len(columns) and not setting.unlabelled:
            for name, c in zip(names, columns):
                gains[name].append(gain[c].mean())
            gains["rule"].append(gain[chosen].mean())
            gains["best"].append(max(g.mean() for g in gain.values()))
    if gains["best"]:
        print(
            "\nGain over training alone in points, over the "
            f"{len(gains['best'])} settings with labels"
        )
        print("| | mean | worst | share of the best |")
        print("|---|---|---|---|")
        for name, values in gains.items():
            share = np.sum(values) / np.sum(gains["best"])
            print(
                f"| {name} | {np.mean(values):+.2f} | {np.min(values):+.2f} | "
                f"{100 * share:.0f} % |"
            )
    _views_table(results, settings)


def _views_table(results, settings):
    """Prints the best of each strength of views."""
    strengths = ["plain", *defaults_experiment.VIEWS]
    print("\n| setting | " + " | ".join(strengths) + " |")
    print("|---" * (1 + len(strengths)) + "|")
    for setting in settings:
        cells = []
        for views in strengths:
            found = {
                c: results[key]
                for c in configurations(setting)
                if c.views == views
                and (key := f"{setting.key}/{c.key}") in results
            }
            if len(found) < 2:
                break
            alone = next(c for c in found if c.temperature is None)
            best = max(found, key=lambda c: np.mean(found[c]))
            cells.append(
                f"{100 * np.mean(found[alone]):.1f}, "
                f"{100 * np.mean(found[best]):.1f} ({best.key.split(', p')[0]})"
            )
        if len(cells) == len(strengths):
            print(f"| {setting.key} | " + " | ".join(cells) + " |")


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


def results_of(args, home, seed, tried):
    """Runs what a study lacks, prints its teachers' accuracies, and returns
    all its results.

    Args:
        args: Those of `arguments`.
        home: The name of its folder.
        seed: That of images, teachers and students.
        tried: A list of `(setting, key, configuration)`.
    """
    folder = SAVED / (home + "_quick" * args.quick)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    settings = {
        "folder": str(folder),
        "seed": seed,
        "seeds": 2 if args.quick else args.seeds,
        "quick": args.quick,
        "teacher_steps": 60 if args.quick else 4000,
        "data": sorted({setting.data for setting, _, _ in tried}),
    }
    if not args.table:
        jobs = [
            (f"{setting.key}/{key}", tuple(setting), configuration, settings)
            for setting, key, configuration in tried
        ]
        long_runs.run_jobs(
            jobs,
            path,
            settings,
            defaults_experiment.prepare,
            defaults_experiment.work,
            args.processes,
        )
    results = long_runs.saved(path)
    for name, accuracy in results["first"].items():
        print(f"teacher of {name}: {100 * accuracy:.1f} %")
    print()
    return results


def main():
    args = arguments(__doc__.splitlines()[0])
    settings = SETTINGS
    if args.quick:
        settings = [Setting("digits", "small", 200, 60, views=True)]
    tried = [
        (setting, c.key, tuple(c))
        for setting in settings
        for c in configurations(setting)
    ]
    results = results_of(args, "defaults", 0, tried)
    sizes = {
        name: len(defaults_experiment.load(name, args.quick)[0])
        for name in results["first"]
    }
    tables(results, settings, sizes)


if __name__ == "__main__":
    main()
