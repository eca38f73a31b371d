"""What `kd.diagnose` says, and what distilling then does.

    python examples/studies/diagnosis.py  # all pairs, 3 seeds
    python examples/studies/diagnosis.py --table  # the table of what is there
    python examples/studies/diagnosis.py --quick  # a minute, small numbers

For each pair of data and networks a teacher is trained, `kd.diagnose` is asked
with its defaults, and the student is trained alone and distilled, with the
settings of `kd.recipes.settings`, for as many steps. The test data are used for
the outcome only: the thresholds of `kd.diagnose` were set before, most of them
on other networks, that of wrong labels with `--held-out`.

The run can be stopped and started again: what is there is not done again.
`--held-out` takes other images and seeds, and none of the test data, to try
things out.
"""

import argparse
import pathlib
import sys

import diagnosis_experiment
import numpy as np
from diagnosis_experiment import PAIRS

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import long_runs
from _shared import reporting

SAVED = pathlib.Path(__file__).parents[2] / "saved_models"
HEADROOM = ("teacher_not_better", "no_clear_headroom")
PROMISES = ("limited_by_data", "limited_by_labels")
REGIMES = (*PROMISES, "limited_by_capacity", "undecided")


def answer(facts):
    """Returns the words of the finding that counts, and if they promise a
    gain; `None` if they do not answer."""
    kinds = [finding["kind"] for finding in facts["findings"]]
    kind = next(k for k in kinds if k in HEADROOM + REGIMES)
    promise = None if kind == "undecided" else kind in PROMISES
    return kind.replace("_", " "), promise


def gains(result):
    """Distilled minus alone by seed: accuracies, balanced accuracies."""
    return np.subtract(result["distilled"], result["alone"]).T


def there_is_a_gain(result):
    """Whether a gain is sure: its interval over the seeds is above 0.

    If classes are imbalanced, that of the accuracy or of the balanced
    accuracy, and the other is not below 0.
    """
    measures = gains(result)
    if not result["facts"]["data"]["validation_imbalanced"]:
        measures = measures[:1]
    intervals = [reporting.interval(gain) for gain in measures]
    return any(mean > half for mean, half in intervals) and not any(
        mean < -half for mean, half in intervals
    )


def row(name, result):
    facts = result["facts"]
    said, promise = answer(facts)
    gain = there_is_a_gain(result)
    accuracy, balanced = gains(result)
    imbalanced = facts["data"]["validation_imbalanced"]
    headroom = facts["headroom"]["accuracy"]
    verdict = {None: "no answer", gain: "hit"}.get(promise, "miss")
    temperature, cropped = result["settings"]
    return {
        "pair": name,
        "parameters": f"{facts['student']['parameters']:,}",
        "images": f"{facts['data']['training_samples']:,}",
        "teacher %": f"{100 * result['teacher'][0]:.1f}",
        "alone %": reporting.percent([a for a, _ in result["alone"]]),
        "headroom (95 %)": (
            f"{100 * headroom['difference']:+.1f} "
            f"({100 * headroom['low']:+.1f} to {100 * headroom['high']:+.1f})"
        ),
        "diagnose": said,
        "distilled with": f"T {temperature:g}" + ", crops" * cropped,
        "distilled - alone": reporting.percent(accuracy, "+"),
        "balanced": reporting.percent(balanced, "+") if imbalanced else "",
        "gain": "yes" if gain else "no",
        "": verdict,
    }


def summary(results):
    """Hits, and the mean gain of pairs with and without a promise."""
    promises = {name: answer(r["facts"])[1] for name, r in results.items()}
    gain = {name: there_is_a_gain(r) for name, r in results.items()}
    answered = [name for name, p in promises.items() if p is not None]
    hits = [name for name in answered if promises[name] == gain[name]]
    lines = [f"{len(results)} pairs, {len(answered)} answers, {len(hits)} hits"]
    for promise, words in ((True, "distil"), (False, "nothing to gain")):
        names = [name for name in answered if promises[name] is promise]
        if not names:
            continue
        means = [100 * gains(results[name])[0].mean() for name in names]
        sure = sum(gain[name] for name in names)
        lines.append(
            f'"{words}": {len(names)} pairs, of them {sure} with a sure gain; '
            f"mean gain {np.mean(means):+.1f} points "
            f"({min(means):+.1f} to {max(means):+.1f})"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, metavar="PAIR")
    args = parser.parse_args()
    steps, seeds, names = 2000, args.seeds, args.pairs or list(PAIRS)
    if args.quick:
        steps, seeds, names = 100, 2, args.pairs or ["digits"]
    end = "_quick" * args.quick + "_held_out" * args.held_out
    out = SAVED / f"diagnosis{end}"
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.json"
    if not args.table:
        long_runs.run_jobs(
            [(name, seeds, steps, args.held_out) for name in names],
            path,
            {"seeds": seeds, "steps": steps},
            diagnosis_experiment.prepare,
            diagnosis_experiment.examine,
            args.processes,
        )
    saved = long_runs.saved(path)
    results = {name: saved[name] for name in PAIRS if name in saved}
    print(reporting.table([row(*item) for item in results.items()]))
    print(f"\n{summary(results)}")


if __name__ == "__main__":
    main()
