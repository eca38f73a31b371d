"""Born-again language models: are students better at the next word?

    python examples/papers/language_model.py  # both networks, 3 seeds
    python examples/papers/language_model.py --table  # table and picture
    python examples/papers/language_model.py --quick  # tiny numbers
    python examples/papers/language_model.py --full --data DIR  # on a GPU

Table 6 of Furlanello et al. 2018: an LSTM and a character-aware LSTM, each
trained from the text (teacher), taught by this teacher alone (BAN-1), and by
teacher and text (BAN+L); and an ensemble of BAN-1 and BAN-2, which is taught by
BAN-1. The table gives the perplexity of validation and test text; less is
better. Teacher and student go through the text side by side, each with a state
for every stream that goes on from batch to batch.

`--full` has the paper's networks and recipe, and wants the Penn Treebank: a
folder with ptb.train.txt, ptb.valid.txt and ptb.test.txt. Without `--data`, the
text is the King James Bible of Debian's packages bible-kjv and bible-kjv-text,
and without `--full` a 24th of it, for networks that two cores can train until
they are done: with Adam and a cosine, where SGD would want 30 000 steps. Units,
rates, epochs and the part of the text were chosen by the validation perplexity.

The run can be stopped and started again: results are saved job by job, and of
the generations every epoch.
"""

import argparse
import copy
import pathlib
import sys

import language_model_experiment
import numpy as np
from language_model_experiment import OUT

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs
from _shared import reporting

# Furlanello et al. 2018 with the networks of Zaremba et al. 2014 and Kim et
# al. 2016. Epochs: those of Zaremba's large network, and of Kim.
FULL = {
    "text": "bible",
    "every": [1, 1, 1],
    "vocabulary": 10_000,
    "steps": 35,
    "optimizer": "sgd",
    "generations": 2,
    "networks": {
        "LSTM": {
            "options": {},
            "batch_size": 32,
            "rate": 1.0,
            "factor": 0.25,
            "least_gain": 0.0,
            "clip_norm": 10.0,
            "epochs": 55,
        },
        "CNN-LSTM": {
            "options": {},
            "word_length": 21,
            "batch_size": 20,
            "rate": 2.0,
            "factor": 0.5,
            "least_gain": 1.0,
            "clip_norm": 5.0,
            "epochs": 25,
        },
    },
}
SMALL = {
    "LSTM": {
        "options": {"units": 200, "dropout": 0.3},
        "rate": 4e-3,
        "epochs": 24,
    },
    "CNN-LSTM": {
        "options": {
            "units": 200,
            "dropout": 0.3,
            "widths": [1, 2, 3],
            "filters": [16, 32, 48],
            "highways": 1,
        },
        "word_length": 14,
        "rate": 4e-3,
        "epochs": 20,
    },
}
TINY = {
    "LSTM": {"options": {"units": 16}, "epochs": 1},
    "CNN-LSTM": {
        "options": {
            "units": 16,
            "widths": [1, 2],
            "filters": [4, 8],
            "highways": 1,
        },
        "epochs": 1,
    },
}
ROWS = ["teacher", "BAN-1", "BAN-2", "BAN+L", "ensemble"]
PARTS = ["validation", "test"]
# Table 6 of Furlanello et al. 2018 (Penn Treebank), in the order of PARTS.
PUBLISHED = {
    "LSTM": {"teacher": (75.11, 71.87), "BAN+L": (71.19, 68.56)},
    "CNN-LSTM": {"teacher": (83.69, 80.05), "BAN+L": (80.27, 76.97)},
}


def settings_of(args):
    settings = copy.deepcopy(FULL)
    settings["verbose"] = 2 if args.full else 0
    settings["data"] = args.data
    if not args.full:
        settings |= {"every": [24, 4, 1], "vocabulary": 1000}
        settings["optimizer"] = "adam"
        for network, smaller in SMALL.items():
            settings["networks"][network] |= smaller
    if args.quick:
        settings |= {"every": [40, 4, 4], "vocabulary": 200}
        for network, smaller in TINY.items():
            settings["networks"][network] |= smaller
    # What other settings give, in folders of their own.
    home = "language_model" + "_full" * args.full + "_quick" * args.quick
    if args.data:
        home += f"_{pathlib.Path(args.data).name}"
    return {**settings, "home": home}


# Results.


def perplexities_of(results, network):
    """-> a dict row -> a dict seed -> a dict part -> perplexity."""
    found = {row: {} for row in ROWS}
    for key, result in results.items():
        if f"/{network}/" in key:
            for row, perplexity in result["perplexity"].items():
                found[row][int(key.rpartition("/")[2])] = perplexity
    return {row: seeds for row, seeds in found.items() if seeds}


def cell(values, sign=""):
    mean, half = reporting.interval(values)
    text = f"{mean:{sign}.2f}"
    return text if np.isnan(half) else f"{text} ± {half:.2f}"


def table_rows(results, first):
    """The paper's numbers beside ours; the difference is paired by seed."""
    lines = []
    for network in first:
        found = perplexities_of(results, network)
        for row, seeds in found.items():
            line = {"network": network, "row": row}
            theirs = PUBLISHED[network].get(row, ("", ""))
            for part, number in zip(PARTS, theirs):
                line[f"{part}, published"] = number
                line[part] = cell([found[part] for found in seeds.values()])
            both = sorted(seeds.keys() & found.get("teacher", {}).keys())
            gain = [
                seeds[s]["test"] - found["teacher"][s]["test"] for s in both
            ]
            compared = gain and row != "teacher"
            line["test - teacher's"] = cell(gain, "+") if compared else ""
            lines.append({**line, "seeds": len(seeds)})
    return lines


def picture(path, results, first):
    """Validation perplexity by epoch: means of the seeds, and their range."""
    with reporting.picture(
        path, 1, len(first), figsize=(10, 4), squeeze=False
    ) as all_axes:
        for axes, network in zip(all_axes[0], first):
            for index, row in enumerate(ROWS[:-1]):
                seeds = [
                    result["curves"][row]
                    for key, result in results.items()
                    if f"/{network}/" in key and row in result["curves"]
                ]
                if not seeds:
                    continue
                curves = np.array(seeds)
                epochs = np.arange(1, curves.shape[1] + 1)
                reporting.line(
                    axes,
                    epochs,
                    curves,
                    f"C{index}",
                    marker="o",
                    ms=4,
                    label=row,
                )
            axes.set(
                title=network, xlabel="epoch", ylabel="validation perplexity"
            )
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend(frameon=False)


def report(folder):
    results = long_runs.saved(folder / "results.json")
    done = {key: r for key, r in results.items() if "/" in key}
    if not done:
        raise SystemExit(f"No results in {folder} yet: run without --table.")
    first = results["first"]
    for network, numbers in first.items():
        print(
            f"{network}: {numbers['parameters']:,} parameters, vocabulary "
            f"{numbers['vocabulary']:,}, {numbers['train_words']:,} words of "
            f"training, {numbers['validation_words']:,} of validation, "
            f"{numbers['test_words']:,} of test"
        )
    lines = table_rows(done, first)
    print("\n" + reporting.table(lines))
    picture(folder / "curves.png", done, first)
    seconds = sum(result["seconds"] for result in done.values())
    print(f"\n{seconds / 60:.1f} minutes of one process")
    content = {"table": lines, "results": results}
    long_runs.save(folder / "report.json", content)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    jobs = ["generations", "BAN+L"]
    parser.add_argument("--jobs", nargs="+", choices=jobs, default=jobs)
    parser.add_argument("--networks", nargs="+", choices=list(SMALL))
    parser.add_argument("--seeds", type=int, help="default 3")
    parser.add_argument("--processes", type=int, help="default 2; 1 for --full")
    parser.add_argument("--data", metavar="DIR", help="files *train*.txt, ...")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true")
    sizes.add_argument("--full", action="store_true", help="the paper's sizes")
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


def main():
    args = arguments()
    settings = settings_of(args)
    folder = OUT / settings["home"]
    folder.mkdir(parents=True, exist_ok=True)
    seeds = range(args.seeds or (1 if args.quick else 3))
    # BAN+L is taught by the teacher of "generations".
    for job in args.jobs if not args.table else ():
        jobs = [
            (f"{job}/{network}/{seed}", job, network, seed, settings)
            for seed in seeds
            for network in args.networks or settings["networks"]
        ]
        long_runs.run_jobs(
            jobs,
            folder / "results.json",
            settings,
            language_model_experiment.first_numbers,
            language_model_experiment.work,
            args.processes or (1 if args.full else 2),
        )
    report(folder)


if __name__ == "__main__":
    main()
