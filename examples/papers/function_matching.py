"""Function matching on Fashion-MNIST: what makes a good teacher?

    python examples/papers/function_matching.py --choose  # rates and crops
    python examples/papers/function_matching.py  # all rows, 3 seeds
    python examples/papers/function_matching.py --time  # then: step time
    python examples/papers/function_matching.py --table  # tables, pictures
    python examples/papers/function_matching.py --quick  # tiny numbers

Five questions of Beyer et al. 2022 ("A good teacher is patient and
consistent"), each a block of the table and a picture. The teacher knows
20 480 images, the students 2048 of these. All rows of a seed begin with the
same weights and see the same batches. What there was to choose was chosen on
other training images (`--choose`); the table is about the test images.

The run can be stopped and started again: results are saved row by row, and
what is there is not done again.
"""

import argparse
import pathlib
import sys

import function_matching_experiment
import numpy as np
from function_matching_experiment import OUT
from function_matching_experiment import ROWS

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs
from _shared import reporting

FULL = {
    "images": 2048,
    "teacher_images": 20480,
    "tested": 10000,
    "teacher_epochs": 12,
    "teacher_rate": 1e-2,
    "short": 60,
    "long": 240,
    "points": {"short": 5, "long": 10},
    "rate": 3e-2,
    "labels_rate": 3e-2,
    "weight_decay": 0.0,
    "crop_area": 0.8,
    "teacher_crop_area": 0.5,
}
QUICK = {
    **FULL,
    "images": 512,
    "teacher_images": 2048,
    "tested": 1000,
    "teacher_epochs": 1,
    "short": 2,
    "long": 4,
    "points": {"short": 2, "long": 2},
}
# Question -> its rows, each with the row that it is compared with.
QUESTIONS = {
    "teaching": {
        "fixed teacher": "function matching",
        "independent noise": "function matching",
        "consistent": "function matching",
        "function matching": None,
    },
    "patience": {
        "labels, plain images": None,
        "labels, plain images, long": "labels, plain images",
        "labels, same views": None,
        "labels, same views, long": "labels, same views",
        "function matching": None,
        "function matching, long": "function matching",
    },
    "labels": {"half labels": "function matching", "function matching": None},
    "start": {
        "from pretrained": "function matching",
        "function matching": None,
    },
    "cache": {
        "cached teacher": "function matching",
        "function matching": None,
    },
}


# Results.


def seeds_of(results, name):
    keys = [key.rsplit("/", 1) for key in results if "/" in key]
    return sorted(int(seed) for row, seed in keys if row == name)


def of_row(results, name, what, seeds=None):
    """A list by seed: of all seeds of the row, or of those given."""
    seeds = seeds_of(results, name) if seeds is None else seeds
    return [results[f"{name}/{seed}"][what] for seed in seeds]


def table_rows(results):
    lines = []
    for question, rows in QUESTIONS.items():
        for name, other in rows.items():
            if not seeds_of(results, name):
                continue
            accuracy = of_row(results, name, "accuracy")
            train = of_row(results, name, "train")
            difference = ""
            seeds = [
                seed
                for seed in seeds_of(results, name)
                if other and f"{other}/{seed}" in results
            ]
            if seeds:
                difference = reporting.percent(
                    np.subtract(
                        of_row(results, name, "accuracy", seeds),
                        of_row(results, other, "accuracy", seeds),
                    ),
                    "+",
                )
            agreement = of_row(results, name, "agreement")
            lines.append(
                {
                    "question": question,
                    "row": name,
                    "test accuracy %": reporting.percent(accuracy),
                    "training - test": reporting.percent(
                        np.subtract(train, accuracy), "+"
                    ),
                    "agreement %": reporting.percent(agreement),
                    "difference": difference,
                    "from": other if difference else "",
                    "seeds": len(accuracy),
                }
            )
    return lines


def picture(path, results, question):
    """Accuracy by step: means of the seeds, and their range."""
    rows = [name for name in QUESTIONS[question] if seeds_of(results, name)]
    if not rows:
        return
    with reporting.picture(path, figsize=(7, 4.2)) as axes:
        for number, name in enumerate(rows):
            colour, steps = f"C{number}", of_row(results, name, "steps")[0]
            test = 100 * np.array(of_row(results, name, "test_curve"))
            train = 100 * np.array(of_row(results, name, "train_curve"))
            reporting.line(axes, steps, test, colour, marker=".", label=name)
            axes.plot(steps, train.mean(0), colour, linestyle=":", linewidth=1)
        teacher = 100 * results["first"]["accuracy"]
        axes.axhline(teacher, color="grey", linestyle="--", label="teacher")
        low = min(
            min(of_row(results, name, "test_curve")[0][1:]) for name in rows
        )
        axes.set(
            xlabel="step",
            ylabel="accuracy % (dotted: on the training images)",
            title=question,
            ylim=(100 * low - 3, None),
        )
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")


def report(folder):
    results = long_runs.saved(folder / "results.json")
    if "first" not in results:
        raise SystemExit(f"No accuracies in {folder} yet: run without --time.")
    first = results["first"]
    for network in ("teacher", "student"):
        print(
            f"{network}: {first[network]['parameters']:,} parameters, "
            f"{first[network]['multiply_accumulates']:,} multiply-accumulates"
        )
    print(f"teacher: {100 * first['accuracy']:.1f} %\n")
    lines = table_rows(results)
    if lines:
        print(reporting.table(lines))
    for question in QUESTIONS:
        picture(folder / f"{question}.png", results, question)
    done = [result for key, result in results.items() if "/" in key]
    seconds = sum(sum(result["seconds"].values()) for result in done)
    print(f"\n{seconds / 60:.0f} minutes of one process")
    times = long_runs.saved(folder / "times.json")
    if "time/steps" in times:
        print()
        print(reporting.table(times["time/steps"]))
    content = {"table": lines, "results": results, "times": times}
    long_runs.save(folder / "report.json", content)


# What is chosen on held-out training images: the row that it is chosen for.
CHOICES = {
    "crop_area": ("function matching", (0.25, 0.5, 0.8)),
    "rate": ("function matching", (0.01, 0.03, 0.06)),
    "labels_rate": ("labels, plain images", (0.01, 0.03, 0.06)),
    "weight_decay": ("function matching", (0.0, 3e-4)),
}


def choose(folder, settings, processes):
    """Accuracies on held-out training images, one seed, of every choice."""
    settings = {**settings, "held_out": True}
    jobs = [
        (f"{option} {value:g}", row, 0, {**settings, option: value})
        for option, (row, values) in CHOICES.items()
        for value in values
    ]
    path = folder / "choices.json"
    long_runs.run_jobs(
        jobs,
        path,
        settings,
        function_matching_experiment.first_numbers,
        function_matching_experiment.work,
        processes,
    )
    results = long_runs.saved(path)
    lines = [
        {
            "choice": option,
            "row": row,
            "value": f"{value:g}" + " (taken)" * (value == settings[option]),
            "held-out accuracy %": f"{100 * accuracy:.1f}",
        }
        for option, (row, values) in CHOICES.items()
        for value in values
        for accuracy in [results[f"{option} {value:g}"]["accuracy"]]
    ]
    print(reporting.table(lines))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--image-size", type=int, help="default: as it is")
    parser.add_argument("--rows", nargs="+", help="their names; default: all")
    parser.add_argument("--seeds", type=int, help="default 3")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--choose", action="store_true")
    args = parser.parse_args()
    unknown = set(args.rows or ()) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")
    return args


def main():
    args = arguments()
    home = "function_matching" + "_quick" * args.quick
    if args.dataset != "fashion_mnist":
        home += f"_{args.dataset.replace('/', '_')}"
    home += f"_{args.image_size}" * bool(args.image_size)
    settings = {
        **(QUICK if args.quick else FULL),
        "dataset": args.dataset,
        "size": args.image_size,
        "held_out": False,
        "quick": args.quick,
        "home": home,
    }
    folder = OUT / home
    folder.mkdir(parents=True, exist_ok=True)
    if args.choose:
        choose(folder, settings, args.processes)
        return
    rows = [r for r in ROWS if args.rows is None or r.name in args.rows]
    seeds = range(args.seeds or (1 if args.quick else 3))
    pairs = [(r.name, s) for s in seeds for r in rows if r.length == "short"]
    pairs += [(r.name, s) for r in rows if r.length == "long" for s in seeds]
    jobs = [(f"{name}/{seed}", name, seed, settings) for name, seed in pairs]
    file, processes = "results.json", args.processes
    if args.time:
        jobs = [("time/steps", None, None, settings)]
        file, processes = "times.json", 1
    if not args.table:
        long_runs.run_jobs(
            jobs,
            folder / file,
            settings,
            function_matching_experiment.first_numbers,
            function_matching_experiment.work,
            processes,
        )
    report(folder)


if __name__ == "__main__":
    main()
