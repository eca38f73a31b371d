"""Patience: does a student with 64 times the steps reach its teacher?

    python examples/papers/patience.py  # all rows, 3 seeds
    python examples/papers/patience.py --table  # table and picture
    python examples/papers/patience.py --quick  # tiny numbers

The headline of Beyer et al. 2022 ("A good teacher is patient and consistent"),
with the teacher, the students and the images of `function_matching.py`:
function matching from a cached teacher for 1, 4, 16 and 64 times 480 steps,
with mild and with strong crops, beside labels on the same views and on plain
images. Each length is a training of its own, with its own cosine down to 0.

The run can be stopped and started again: results are saved row by row.
"""

import argparse
import pathlib
import sys

import function_matching
import function_matching_experiment
import numpy as np
from function_matching_experiment import OUT

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs
from _shared import reporting

EPOCHS = 15  # 480 steps: once.
TIMES = (1, 4, 16, 64)
# Name -> a row of `function_matching_experiment.py`, and its crops.
ROWS = {
    "function matching, crops of 0.8 to 1": ("cached teacher", 0.8),
    "function matching, crops of 0.25 to 1": ("cached teacher", 0.25),
    "labels, crops of 0.8 to 1": ("labels, same views", 0.8),
    "labels, plain images": ("labels, plain images", 0.8),
}


def settings_of(quick, row, times):
    sizes = function_matching.QUICK if quick else function_matching.FULL
    home = "patience" + "_quick" * quick
    return {
        **sizes,
        "dataset": "fashion_mnist",
        "size": None,
        "held_out": False,
        "quick": quick,
        "home": home,
        "crop_area": ROWS[row][1],
        "short": times * (1 if quick else EPOCHS),
        "points": {"short": 1},
    }


def steps_of(results, row):
    """-> a dict steps -> results by seed."""
    found = {}
    for key, result in results.items():
        if key.startswith(f"{row}/"):
            found.setdefault(result["steps"][-1], []).append(result)
    return dict(sorted(found.items()))


def table_rows(results):
    lines = []
    teacher = results["first"]["accuracy"]
    for row in ROWS:
        for steps, seeds in steps_of(results, row).items():
            accuracy = np.array([result["accuracy"] for result in seeds])
            train = [result["train"] for result in seeds]
            agreement = [result["agreement"] for result in seeds]
            lines.append(
                {
                    "row": row,
                    "steps": f"{steps:,}",
                    "test accuracy %": reporting.percent(accuracy),
                    "student - teacher": reporting.percent(
                        accuracy - teacher, "+"
                    ),
                    "training - test": reporting.percent(train - accuracy, "+"),
                    "agreement %": reporting.percent(agreement),
                    "seeds": len(seeds),
                }
            )
    return lines


def picture(path, results):
    """Accuracy by the length of training: means, and the range of seeds."""
    lengths = {}
    with reporting.picture(path, figsize=(7, 4.2)) as axes:
        for number, row in enumerate(ROWS):
            found = steps_of(results, row)
            lengths |= found
            if not found:
                continue
            accuracies = [
                [100 * result["accuracy"] for result in seeds]
                for seeds in found.values()
            ]
            reporting.line(
                axes,
                list(found),
                list(zip(*accuracies)),
                f"C{number}",
                marker="o",
                label=row,
            )
        teacher = 100 * results["first"]["accuracy"]
        axes.axhline(teacher, color="grey", linestyle="--", label="teacher")
        axes.set(
            xscale="log",
            xlabel="steps of the training",
            ylabel="test accuracy %",
        )
        axes.minorticks_off()
        axes.set_xticks(list(lengths), [f"{steps:,}" for steps in lengths])
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")


def report(folder):
    results = long_runs.saved(folder / "results.json")
    if "first" not in results:
        raise SystemExit(f"No results in {folder} yet: run without --table.")
    print(f"teacher: {100 * results['first']['accuracy']:.1f} %\n")
    lines = table_rows(results)
    print(reporting.table(lines))
    picture(folder / "patience.png", results)
    done = [result for key, result in results.items() if "/" in key]
    seconds = sum(sum(result["seconds"].values()) for result in done)
    print(f"\n{seconds / 60:.0f} minutes of one process")
    content = {"table": lines, "results": results}
    long_runs.save(folder / "report.json", content)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", nargs="+", type=int, help="1 4 16 64")
    parser.add_argument("--seeds", type=int, help="default 3")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    # Short ones first: there is something to see early.
    jobs = [
        (
            f"{row}/{times}/{seed}",
            ROWS[row][0],
            seed,
            settings_of(args.quick, row, times),
        )
        for times in args.times or TIMES[: 2 if args.quick else None]
        for seed in range(args.seeds or (1 if args.quick else 3))
        for row in ROWS
    ]
    first = settings_of(args.quick, next(iter(ROWS)), 1)
    folder = OUT / first["home"]
    folder.mkdir(parents=True, exist_ok=True)
    if not args.table:
        long_runs.run_jobs(
            jobs,
            folder / "results.json",
            first,
            function_matching_experiment.first_numbers,
            function_matching_experiment.work,
            args.processes,
        )
    report(folder)


if __name__ == "__main__":
    main()
