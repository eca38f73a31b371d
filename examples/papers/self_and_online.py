"""Students without a larger teacher, on Fashion-MNIST: what does it bring?

    python examples/papers/self_and_online.py  # all rows, 3 seeds
    python examples/papers/self_and_online.py --table  # table and picture
    python examples/papers/self_and_online.py --choose  # on held-out images
    python examples/papers/self_and_online.py --long  # four times the epochs
    python examples/papers/self_and_online.py --quick  # all rows, tiny numbers

One network, trained in six ways with the same images, epochs and optimizer:
plainly; with exits taught by the deepest (BYOT); each stage imitating where
the next one looks (SelfAttention); taught by the average of its own past; two
that teach each other (DML); three branches taught by their ensemble (ONE).
Beside them what comes for nothing: the average of a plain network's weights,
and the ensemble of two plain networks. Network, data and rate are those of
`born_again.py`; methods have their published settings, and what else there
was to choose was chosen on held-out training images (`--choose`).

The run can be stopped and started again: results are saved job by job.
"""

import argparse
import pathlib
import sys

import born_again_experiment
import numpy as np
import self_and_online_experiment
from born_again import FULL as BORN_AGAIN
from born_again import TINY
from self_and_online_experiment import JOBS

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs
from _shared import reporting

OUT = born_again_experiment.OUT
FULL = {
    **BORN_AGAIN,
    "data": {"fashion_mnist": BORN_AGAIN["data"]["fashion_mnist"]},
    "consistency": 0.1,
    "momentum": 0.99,
}
LONG_IMAGES = {**FULL["data"]["fashion_mnist"], "epochs": 60}
LONG = {**FULL, "data": {"fashion_mnist": LONG_IMAGES}}
IMAGES = {**FULL["data"]["fashion_mnist"], **TINY, "widths": [4, 8, 8]}
QUICK = {**FULL, "data": {"fashion_mnist": IMAGES}}
# What is chosen on held-out training images, one seed.
CHOICES = {"consistency": (0.1, 0.3, 1.0), "momentum": (0.99, 0.999)}


def rows_of(results):
    """-> a dict row -> a dict seed -> numbers, in the order of the jobs."""
    found = {}
    for job in JOBS:
        for key, result in results.items():
            name, _, seed = key.rpartition("/")
            if name == job:
                for row, numbers in result["rows"].items():
                    found.setdefault(row, {})[int(seed)] = numbers
    return found


def table_rows(results):
    found, lines = rows_of(results), []
    plain = found.get("plain", {})
    for row, by_seed in found.items():
        errors = [numbers["error"] for numbers in by_seed.values()]
        seeds = [] if row == "plain" else sorted(by_seed.keys() & plain.keys())
        difference = [by_seed[s]["error"] - plain[s]["error"] for s in seeds]
        cost = next(iter(by_seed.values()))["multiply_accumulates"]
        lines.append(
            {
                "what ships": row,
                "multiply-accumulates": f"{cost:,}",
                "test error %": reporting.percent(errors),
                "difference from plain": reporting.percent(difference, "+")
                if seeds
                else "",
                "seeds": len(errors),
            }
        )
    return lines


def picture(path, results):
    """Error of each row with its interval, and what it costs to ship."""
    colours = {job: f"C{number}" for number, job in enumerate(JOBS)}
    found = rows_of(results)
    names = {}
    size = (8, 0.3 * len(found) + 1)
    with reporting.picture(path, figsize=size) as axes:
        for place, (row, by_seed) in enumerate(reversed(found.items())):
            errors = [100 * numbers["error"] for numbers in by_seed.values()]
            mean, half = reporting.interval(errors)
            cost = next(iter(by_seed.values()))["multiply_accumulates"]
            axes.errorbar(
                mean,
                place,
                xerr=0.0 if np.isnan(half) else half,
                fmt="o",
                color=colours[next(job for job in JOBS if row.startswith(job))],
                capsize=2,
                ms=4,
            )
            names[place] = f"{row} ({cost / 1e6:.1f} M)"
        axes.set_yticks(list(names), names.values())
        axes.set_xlabel("test error %, 95 % interval; M: multiply-accumulates")
        axes.grid(axis="x", alpha=0.3)


def report(folder):
    results = long_runs.saved(folder / "results.json")
    done = {key: r for key, r in results.items() if "/" in key}
    if not done:
        raise SystemExit(f"No results in {folder} yet: run without --table.")
    first = results["first"]
    print(
        f"{first['parameters']:,} parameters, {first['steps']} steps an epoch"
    )
    lines = table_rows(done)
    print("\n" + reporting.table(lines))
    picture(folder / "errors.png", done)
    seconds = sum(result["seconds"] for result in done.values())
    print(f"\n{seconds / 60:.1f} minutes of one process")
    long_runs.save(folder / "report.json", {"table": lines, "results": results})


def do(jobs, path, settings, processes):
    long_runs.run_jobs(
        jobs,
        path,
        settings,
        self_and_online_experiment.first_numbers,
        self_and_online_experiment.work,
        processes,
    )
    return long_runs.saved(path)


def choose(folder, settings, processes):
    settings = {**settings, "held_out": True}
    jobs = [
        (
            f"{option} {value:g}",
            "moving average",
            0,
            {**settings, option: value},
        )
        for option, values in CHOICES.items()
        for value in values
    ]
    results = do(jobs, folder / "choices.json", settings, processes)
    lines = [
        {
            "choice": option,
            "value": f"{value:g}" + " (taken)" * (value == settings[option]),
            **{
                f"held-out error %, {row}": f"{100 * numbers['error']:.1f}"
                for row, numbers in results[f"{option} {value:g}"][
                    "rows"
                ].items()
            },
        }
        for option, values in CHOICES.items()
        for value in values
    ]
    print(reporting.table(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=JOBS)
    parser.add_argument("--seeds", type=int, help="default 3")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--choose", action="store_true")
    lengths = parser.add_mutually_exclusive_group()
    lengths.add_argument("--quick", action="store_true")
    lengths.add_argument("--long", action="store_true", help="four times")
    args = parser.parse_args()
    sizes = QUICK if args.quick else LONG if args.long else FULL
    settings = {**sizes, "held_out": False}
    settings["home"] = (
        "self_and_online" + "_quick" * args.quick + "_long" * args.long
    )
    folder = OUT / settings["home"]
    folder.mkdir(parents=True, exist_ok=True)
    if args.choose:
        choose(folder, settings, args.processes)
        return
    seeds = range(args.seeds or (1 if args.quick else 3))
    jobs = [
        (f"{job}/{seed}", job, seed, settings)
        for seed in seeds
        for job in args.jobs
    ]
    if not args.table:
        do(jobs, folder / "results.json", settings, args.processes)
    report(folder)


if __name__ == "__main__":
    main()
