"""Every loss of `kd.losses` at its published weight, on Fashion-MNIST.

    python examples/studies/compare_losses.py  # all rows, 3 seeds
    python examples/studies/compare_losses.py --time  # then: step time
    python examples/studies/compare_losses.py --table  # table and picture
    python examples/studies/compare_losses.py --quick  # all rows, in minutes

One teacher (residual, 3.2 million multiply-accumulates) and one student
(depthwise-separable, a tenth of that), half of the training images. All rows
of a seed begin with the same weights and see the same batches. What there was
to choose was chosen on 10 000 other training images (`--held-out`); the table
is about the test images.

The run can be stopped and started again: results are saved row by row, and
what is there is not done again.
"""

import argparse
import math
import pathlib
import sys

import compare_losses_experiment
import numpy as np
import published_weights
from compare_losses_experiment import OUT

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs
from _shared import reporting

FULL = {
    "images": 30000,
    "tested": 10000,
    "teacher_epochs": 8,
    "teacher_rate": 1e-2,
    "epochs": 5,
    "rate": 4e-2,
    "temperature": 1.0,
}
REFERENCES = ("alone", "SoftTargets")
QUICK = {**FULL, "images": 1280, "tested": 1000, "teacher_epochs": 2}
QUICK = {**QUICK, "epochs": 1}


# Results: a dict "row/seed" -> numbers.


def of_row(results, name, what="accuracy", seeds=None):
    """A list by seed: of all seeds of the row, or of those given."""
    if seeds is None:
        seeds = seeds_of(results, name)
    return [results[f"{name}/{seed}"][what] for seed in seeds]


def seeds_of(results, name):
    keys = [key.rsplit("/", 1) for key in results if "/" in key]
    return sorted(int(seed) for row, seed in keys if row == name)


def table_rows(results, times, rows):
    teacher = results["first"]["accuracy"]
    lines = []
    for row in rows:
        seeds = seeds_of(results, row.name)
        if not seeds:
            continue
        accuracy = of_row(results, row.name)
        line = {
            "loss": row.name,
            "weight": weight_text(row),
            "beside": row.beside if row.make else "",
            "test accuracy %": reporting.percent(accuracy),
        }
        for name in REFERENCES:
            paired = np.subtract(accuracy, of_row(results, name, seeds=seeds))
            same = row.name == name
            line[f"- {name}"] = "" if same else reporting.percent(paired, "+")
        alone = of_row(results, "alone", seeds=seeds)
        closed = reporting.gap_closed(teacher, alone, accuracy)
        line["gap closed"] = closed if row.make else ""
        agreement = of_row(results, row.name, "agreement")
        line["agreement %"] = reporting.percent(agreement)
        measured = times.get(f"time/{row.name}")
        line["ms per step"] = (
            f"{measured['ms']:.1f} "
            f"({measured['ms'] / measured['soft_targets_ms']:.2f})"
            if measured
            else ""
        )
        line["weight and form from"] = row.source
        lines.append(line)
    return lines


def weight_text(row):
    if isinstance(row.weight, dict):
        return ", ".join(f"{weight:g}" for weight in row.weight.values())
    return f"{row.weight:g}" if row.make else ""


def picture(path, results, rows):
    """Accuracy of each row with its interval, sorted."""
    values = {
        row.name: reporting.interval(100 * np.array(of_row(results, row.name)))
        for row in rows
        if seeds_of(results, row.name)
    }
    names = sorted(values, key=lambda name: values[name][0])
    colours = ["C1" if name in REFERENCES else "C0" for name in names]
    size = (8, 0.26 * len(names) + 1.2)
    with reporting.picture(path, figsize=size) as axes:
        for place, (name, colour) in enumerate(zip(names, colours)):
            mean, half = values[name]
            half = 0.0 if math.isnan(half) else half
            axes.errorbar(
                mean, place, xerr=half, fmt="o", color=colour, capsize=2, ms=4
            )
        teacher = 100 * results["first"]["accuracy"]
        axes.axvline(teacher, color="grey", linestyle="--", label="teacher")
        soft = values["SoftTargets"][0]
        axes.axvline(soft, color="C1", linewidth=0.8, label="soft targets")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="test accuracy %, mean and 95 % interval")
        axes.grid(axis="x", alpha=0.3)
        axes.legend(frameon=False, loc="upper left")


def report(folder, rows):
    results = long_runs.saved(folder / "results.json")
    if "first" not in results:
        raise SystemExit(f"No accuracies in {folder} yet: run without --time.")
    times = long_runs.saved(folder / "times.json")
    numbers = results["first"]
    print(
        f"teacher: {numbers['teacher_parameters']:,} parameters, "
        f"{numbers['teacher']:,} multiply-accumulates, "
        f"{100 * numbers['accuracy']:.1f} %\n"
        f"student: {numbers['student_parameters']:,} parameters, "
        f"{numbers['student']:,} multiply-accumulates\n"
    )
    lines = table_rows(results, times, rows)
    print(reporting.table(lines))
    for key, measured in times.items():
        if not key.startswith("time/"):
            continue
        if measured["deployed"] != numbers["student"]:
            name = key.removeprefix("time/")
            print(
                f"\n{name} deploys {measured['deployed']:,} "
                "multiply-accumulates.",
                end="",
            )
    done = [result for key, result in results.items() if "/" in key]
    seconds = sum(result["seconds"] for result in done)
    print(f"\n{seconds / 60:.0f} minutes, all processes together")
    picture(folder / "accuracy.png", results, rows)
    content = {"table": lines, "results": results}
    long_runs.save(folder / "report.json", content)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", help="their names; default: all")
    parser.add_argument("--seeds", type=int, help="default 3")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="accuracy on held-out training images, into another folder",
    )
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--scale", type=float, help="of all published weights")
    args = parser.parse_args()
    settings = dict(QUICK if args.quick else FULL)
    settings.update(quick=args.quick, held_out=args.held_out)
    name = "compare_losses"
    for option in ("rate", "temperature", "scale"):
        if getattr(args, option) is not None:
            settings[option] = getattr(args, option)
            name += f"_{option}_{settings[option]:g}"
    name += "_held_out" * args.held_out
    home = OUT / ("compare_losses_quick" if args.quick else "compare_losses")
    # The teacher is in `home`; what other settings give, in folders beside it.
    folder = home if name == "compare_losses" else home / name
    folder.mkdir(parents=True, exist_ok=True)
    settings["home"] = home.name
    rows = published_weights.rows(settings["temperature"])
    unknown = set(args.rows or ()) - {row.name for row in rows}
    if unknown:
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")
    names = {*REFERENCES, *(args.rows or [row.name for row in rows])}
    chosen = [row for row in rows if row.name in names]
    jobs, file = [], "results.json"
    if args.time:
        file = "times.json"
        jobs = [(f"time/{r.name}", r.name, None) for r in chosen if r.make]
    elif not args.table:
        seeds = range(args.seeds or (1 if args.quick else 3))
        jobs = [(f"{r.name}/{s}", r.name, s) for s in seeds for r in chosen]
    long_runs.run_jobs(
        [(*job, settings) for job in jobs],
        folder / file,
        settings,
        compare_losses_experiment.first_numbers,
        compare_losses_experiment.work,
        args.processes,
    )
    report(folder, rows)


if __name__ == "__main__":
    main()
