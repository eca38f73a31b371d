"""Born-again networks on Fashion-MNIST and digits: do students get better?

    python examples/papers/born_again.py  # all rows, 5 seeds
    python examples/papers/born_again.py --show  # table and picture
    python examples/papers/born_again.py --held-out  # held-out images
    python examples/papers/born_again.py --quick  # all rows, tiny numbers
    python examples/papers/born_again.py --table 5  # the paper's table 5, small
    python examples/papers/born_again.py --table 5 --full  # on CIFAR, a GPU

The table of Furlanello et al. 2018 in small: a plainly trained network, three
generations taught by the one before (BAN-1 to BAN-3), the first of them with
labels too (BAN+L), without dark knowledge (CWTM) and with a shuffled one
(DKPP), and ensembles of generations, beside ensembles of as many plainly
trained networks. All have the same layers, epochs and optimizer. What there
was to choose was chosen on held-out training images; the table is about the
test images.

The run can be stopped and started again: results are saved job by job, and of
the generations every epoch.
"""

import argparse
import json
import pathlib
import sys

import born_again_experiment
import born_again_rows
import numpy as np
from born_again_experiment import OUT
from born_again_experiment import VARIANTS
from born_again_tables import TABLES
from born_again_tables import columns_of

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs
from _shared import reporting

FULL = {
    "rate": 0.6,
    "weight_decay": 5e-4,
    "data": {
        "fashion_mnist": {
            "images": 4096,
            "tested": 10000,
            "epochs": 15,
            "widths": [16, 32, 64],
            "stem_strides": 2,
        },
        "digits": {
            "images": 1437,
            "tested": 360,
            "epochs": 30,
            "widths": [16, 32],
            "stem_strides": 1,
        },
    },
}
TINY = {"images": 256, "tested": 300, "epochs": 1, "widths": [4, 8]}
QUICK = {
    **FULL,
    "data": {name: {**data, **TINY} for name, data in FULL["data"].items()},
}
GENERATIONS = ["plain", "BAN-1", "BAN-2", "BAN-3"]
ENSEMBLES = {
    "BAN": ["ensemble of BAN-1, BAN-2", "ensemble of BAN-1, BAN-2, BAN-3"],
    "plain": ["ensemble of 2 plain", "ensemble of 3 plain"],
}
ROWS = [*GENERATIONS, *VARIANTS, *ENSEMBLES["BAN"], *ENSEMBLES["plain"]]
CHOICES = ("rate", "weight_decay")


# Results.


def errors_of(results, data):
    """-> a dict row -> a dict seed -> test error."""
    found = {row: {} for row in ROWS}
    for key, result in results.items():
        if f"/{data}/" in key:
            for row, error in result["errors"].items():
                found[row][int(key.rpartition("/")[2])] = error
    return {row: errors for row, errors in found.items() if errors}


def table_rows(results, settings):
    lines = []
    for data in settings["data"]:
        found = errors_of(results, data)
        for row, errors in found.items():
            seeds = sorted(errors.keys() & found.get("plain", {}).keys())
            difference = [errors[s] - found["plain"][s] for s in seeds]
            lines.append(
                {
                    "data": data,
                    "network": row,
                    "test error %": reporting.percent(list(errors.values())),
                    "difference from plain": reporting.percent(difference, "+")
                    if difference and row != "plain"
                    else "",
                    "seeds": len(errors),
                }
            )
    return lines


def picture(path, results, settings):
    """Error by generation: means of the seeds, and their range."""
    number = len(settings["data"])
    with reporting.picture(path, 1, number, figsize=(10, 4)) as all_axes:
        for axes, data in zip(all_axes, settings["data"]):
            found = errors_of(results, data)
            for label, rows, places, colour in (
                ("one network", GENERATIONS, range(4), "C0"),
                ("ensemble of BAN-1 to here", ENSEMBLES["BAN"], (2, 3), "C1"),
                ("ensemble of 2, 3 plain", ENSEMBLES["plain"], (2, 3), "grey"),
            ):
                if not all(row in found for row in rows):
                    continue
                seeds = sorted(set.intersection(*(set(found[r]) for r in rows)))
                errors = 100 * np.array(
                    [[found[r][s] for r in rows] for s in seeds]
                )
                reporting.line(
                    axes, places, errors, colour, marker="o", ms=4, label=label
                )
            axes.set(
                title=data.replace("_", " "),
                ylabel="test error %",
                xticks=range(4),
                xticklabels=GENERATIONS,
            )
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend(frameon=False, fontsize="small")


def report(folder, settings):
    results = long_runs.saved(folder / "results.json")
    done = {key: r for key, r in results.items() if "/" in key}
    if not done:
        raise SystemExit(f"No results in {folder} yet: run without --show.")
    for data, numbers in results["first"].items():
        print(
            f"{data}: {numbers['parameters']:,} parameters, "
            f"{numbers['multiply_accumulates']:,} multiply-accumulates, "
            f"{settings['data'][data]['images']} training images"
        )
    lines = table_rows(done, settings)
    print("\n" + reporting.table(lines))
    picture(folder / "generations.png", done, settings)
    seconds = sum(result["seconds"] for result in done.values())
    print(f"\n{seconds / 60:.1f} minutes of one process")
    content = {"table": lines, "results": results}
    long_runs.save(folder / "report.json", content)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    jobs = ["generations", *VARIANTS, "plain"]
    parser.add_argument(
        "--jobs",
        nargs="+",
        choices=["alone", *jobs],
        default=jobs,
        help="alone: one plain network, to choose settings by",
    )
    parser.add_argument("--data", nargs="+", choices=list(FULL["data"]))
    parser.add_argument("--seeds", type=int, help="default 5")
    parser.add_argument("--processes", type=int, default=2)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true")
    sizes.add_argument("--full", action="store_true", help="of a table")
    parser.add_argument(
        "--show", action="store_true", help="what is there already"
    )
    parser.add_argument(
        "--table", type=int, choices=list(TABLES), help="one of the paper's"
    )
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="error on held-out training images, into another folder",
    )
    for option in CHOICES:
        parser.add_argument(f"--{option.replace('_', '-')}", type=float)
    args = parser.parse_args()
    if args.full and not args.table:
        parser.error("--full is for a --table")
    own = args.jobs != jobs, args.data, args.held_out
    if args.table and any((*own, *(getattr(args, o) for o in CHOICES))):
        parser.error("a --table has its own jobs, data, rate and weight decay")
    return args


def published_rows(table, results, seeds):
    """The rows of a table of the paper: published errors, and ours."""
    rows, columns = TABLES[table], columns_of(table)

    def ours(row, column):
        """-> a dict seed -> error."""
        return {
            seed: results[key]["errors"][column]
            for seed in seeds
            if (key := f"{row.name}/{seed}") in results
            and column in results[key]["errors"]
        }

    lines = []
    for row in rows:
        line = {
            "network": row.name,
            "millions": f"{row.parameters:g}; {results['first'][row.name]:.3g}",
        }
        # In tables 4 and 5 the first row is the teacher of the others.
        reference = (
            ours(row, "Baseline")
            or ours(row, "Teacher")
            or ours(rows[0], "Teacher")
        )
        for column in columns:
            theirs, found = row.published.get(column), ours(row, column)
            cell = [] if theirs is None else [f"{theirs:g}"]
            if found:
                cell.append(reporting.percent(list(found.values())))
            both = sorted(found.keys() & reference.keys())
            if both and column not in ("Baseline", "Teacher"):
                difference = [found[s] - reference[s] for s in both]
                cell[-1] += f" ({reporting.percent(difference, '+')})"
            line[column] = "; ".join(cell)
        lines.append(line)
    return lines


def published_table(args):
    """Trains the rows of a table of the paper, and prints both."""
    settings = born_again_rows.FULL if args.full else born_again_rows.SMALL
    name = f"born_again_table_{args.table}"
    if args.quick:
        data = {"images": 256, "tested": 300, "epochs": 1}
        settings = {**settings, "data": {"fashion_mnist": data}}
    name += "_full" * args.full + "_quick" * args.quick
    settings = {**settings, "table": args.table, "home": name}
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    rows = TABLES[args.table]
    seeds = range(args.seeds or (1 if args.quick else 3))
    # The teacher of all rows first.
    shared = [row for row in rows if row.name.endswith("the teacher")]
    for stage in (shared, [row for row in rows if row not in shared]):
        jobs = [
            (f"{row.name}/{seed}", row.name, seed, json.dumps(settings))
            for seed in seeds
            for row in stage
            if not args.show
        ]
        long_runs.run_jobs(
            jobs,
            path,
            settings,
            born_again_rows.millions,
            born_again_rows.work,
            args.processes,
        )
    results = long_runs.saved(path)
    if "first" not in results:
        raise SystemExit(f"No results in {folder} yet: run without --show.")
    print("error in %: published; here (difference, paired by seed, from the")
    print("Baseline of the row, else from the Teacher)")
    print(reporting.table(published_rows(args.table, results, seeds)))
    seconds = [r["seconds"] for k, r in results.items() if "/" in k]
    print(f"\n{sum(seconds) / 60:.1f} minutes of one process")


def main():
    args = arguments()
    if args.table:
        published_table(args)
        return
    settings = {**(QUICK if args.quick else FULL), "held_out": args.held_out}
    # What other settings give, in folders of their own.
    name = "born_again" + "_quick" * args.quick + "_held_out" * args.held_out
    for option in CHOICES:
        if getattr(args, option) is not None:
            settings[option] = getattr(args, option)
            name += f"_{option}_{settings[option]:g}"
    settings["home"] = name
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    seeds = range(args.seeds or (1 if args.quick else 5))
    # The others are taught by the plain network of "generations".
    for stage in (["alone", "generations"], [*VARIANTS, "plain"]):
        jobs = [
            (f"{job}/{data}/{seed}", job, data, seed, settings)
            for seed in seeds
            for data in args.data or settings["data"]
            for job in stage
            if job in args.jobs and not args.show
        ]
        long_runs.run_jobs(
            jobs,
            folder / "results.json",
            settings,
            born_again_experiment.first_numbers,
            born_again_experiment.work,
            args.processes,
        )
    report(folder, settings)


if __name__ == "__main__":
    main()
