"""What 8, 4 and 3 bits cost, and what distilling wins back: three seeds.

    python examples/quantization.py
    python examples/quantization.py --table  # the tables of what is there
    python examples/quantization.py --quick  # one network, tiny numbers

Three students, distilled from a teacher: of digits, and of Fashion-MNIST with
ReLU6 and with hard-swish and squeeze-excite. Each is quantized after training,
and trained again as its integer file computes it: by labels, by the float
student, or by the teacher (`kd.quantization.fine_tune`). All see the same
images. Every number is one of a TFLite file, on test images that chose nothing.

The run can be stopped and started again: a network and seed that is there is
not done again.
"""

import argparse
import pathlib
import sys

import numpy as np
import quantization_experiment
from quantization_experiment import CALIBRATED
from quantization_experiment import NETWORKS
from quantization_experiment import ONE_SCALE
from quantization_experiment import SAVED
from quantization_experiment import TUNED
from quantization_experiment import WAYS

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # _shared

from _shared import long_runs
from _shared import reporting

FULL = {
    "home": "quantization",
    "seeds": 3,
    "networks": list(NETWORKS),
    "tuning_rate": 1e-3,
    "data": {
        "digits": {
            "images": 1000,
            "teacher_steps": 600,
            "student_steps": 800,
            "tuning_steps": 300,
        },
        "fashion_mnist": {
            "images": 10_000,
            "teacher_steps": 800,
            "student_steps": 1000,
            "tuning_steps": 300,
        },
    },
}
QUICK = {
    "home": "quantization_quick",
    "seeds": 1,
    "networks": list(NETWORKS)[:1],
    "tuned": ["3-bit weights"],
    "tuning_rate": 1e-3,
    "data": {
        "digits": {
            "images": 200,
            "teacher_steps": 20,
            "student_steps": 20,
            "tuning_steps": 5,
        }
    },
}
TAUGHT = WAYS[1:]
# From this loss on, winning back is judged.
A_POINT = 0.01


class Place:
    """A network at one precision: its numbers, by seed.

    Args:
        results: Those of a run: "network/seed" -> a dict with `"rows"`.
        network: A key of `NETWORKS`.
        weights: How its weights are stored.
    """

    def __init__(self, results, network, weights):
        self.network, self.weights = network, weights
        self._rows = [
            result["rows"]
            for key, result in sorted(results.items())
            if key.startswith(f"{network}/")
        ]
        self.floating = self.numbers()
        self.calibrated = self.numbers(CALIBRATED)

    def numbers(self, way=None, what="accuracy"):
        """An array with a number for each seed; without `way` of float."""
        row = f"{self.weights}/{way}" if way else "float"
        return np.array([r[row][what] for r in self._rows if row in r])

    @property
    def loses(self):
        """Whether calibrating alone loses more than a point."""
        return np.mean(self.floating - self.calibrated) > A_POINT

    def won_back(self, way):
        """What share of the loss is back, by seed."""
        won = self.numbers(way) - self.calibrated
        return won / (self.floating - self.calibrated)

    def surely(self, way):
        """-1, 1: surely below, above calibrating alone, paired by seed."""
        mean, half = reporting.interval(self.numbers(way) - self.calibrated)
        return int(np.sign(mean)) if abs(mean) > half else 0

    def row(self, cell, ways, **columns):
        """A row of a table, after `columns`; `cell` writes a way's numbers."""
        return {
            "network": self.network,
            "weights": self.weights,
            **columns,
            **{
                way: cell(way) if len(self.numbers(way)) else "" for way in ways
            },
        }


def places(results, settings):
    """Every `Place` that there are results of."""
    found = [
        Place(results, network, weights)
        for network in settings["networks"]
        for weights in (ONE_SCALE, *(weights for weights, _, _ in TUNED))
    ]
    return [place for place in found if len(place.calibrated)]


def accuracy_table(found):
    """Test accuracy in %."""
    return [
        place.row(
            lambda way: reporting.percent(place.numbers(way)),
            WAYS,
            float=reporting.percent(place.floating),
        )
        for place in found
    ]


def agreement_table(found):
    """Share of test images of the float student's class, in %."""
    return [
        place.row(
            lambda way: reporting.percent(place.numbers(way, "agreement")), WAYS
        )
        for place in found
    ]


def won_back_table(found):
    """Share of the loss won back, in %, where it is more than a point."""
    return [
        place.row(
            lambda way: reporting.percent(place.won_back(way)),
            TAUGHT,
            lost=reporting.percent(place.floating - place.calibrated),
        )
        for place in found
        if place.loses
    ]


def verdict(found):
    """Says whether each way of teaching keeps what is hoped of it."""
    lines = []
    for way in TAUGHT:
        tried = [place for place in found if len(place.numbers(way))]
        losing = [place for place in tried if place.loses]
        kept = sum(np.mean(place.won_back(way)) >= 0.5 for place in losing)
        above, below = (
            sum(place.surely(way) == sign for place in tried)
            for sign in (1, -1)
        )
        lines.append(
            f"taught by {way}: at least half of the loss is back in {kept} of "
            f"{len(losing)} places; surely above calibrating alone in {above}, "
            f"surely below in {below} of {len(tried)}"
        )
    return "\n".join(lines)


def report(folder, settings):
    results = long_runs.saved(folder / "results.json")
    found = places(results, settings)
    if not found:
        raise SystemExit(f"No results in {folder} yet: run without --table.")
    for data, accuracy in results["first"].items():
        print(f"teacher of {data}: {100 * accuracy:.1f} %")
    tables = {
        "Test accuracy of the files, %": accuracy_table(found),
        "Share of the points lost that is won back, %": won_back_table(found),
        "Agreement with the float student, %": agreement_table(found),
    }
    for title, rows in tables.items():
        print(f"\n{title}\n\n{reporting.table(rows) if rows else 'None.'}")
    print("\n" + verdict(found))
    seconds = [r["seconds"] for key, r in results.items() if "/" in key]
    print(f"\n{sum(seconds) / 60:.0f} minutes of one process")
    long_runs.save(folder / "report.json", {**tables, "results": results})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    settings = QUICK if args.quick else FULL
    folder = SAVED / settings["home"]
    folder.mkdir(parents=True, exist_ok=True)
    if not args.table:
        jobs = [
            (f"{network}/{seed}", network, seed, settings)
            for seed in range(settings["seeds"])
            for network in settings["networks"]
        ]
        long_runs.run_jobs(
            jobs,
            folder / "results.json",
            settings,
            quantization_experiment.prepare,
            quantization_experiment.work,
            args.processes,
        )
    report(folder, settings)


if __name__ == "__main__":
    main()
