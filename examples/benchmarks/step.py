"""What a step of distillation costs, beside the two networks in it.

    python examples/benchmarks/step.py                   # everything
    python examples/benchmarks/step.py --pairs one-layer # some
    python examples/benchmarks/step.py --quick           # a minute

Three pairs of networks: residual networks for 32x32 images, MobileNetV2 of
width 1.0 and 0.35 for 96x96, and one layer of two logits (a softmax over one
class is always 1), where the fixed cost of a step shows. All rows of a pair
have the same data (one batch, again and again, tf.data's autotuner off),
optimizer, task loss, accuracy metric and teacher, each its own student with
the same first weights; jit_compile=False, which is what "auto" is on a CPU.

The floor is the sum of the plain student's step (Model.fit's train function)
and of the teacher's forward pass in inference mode. Feature loss: the mean
square of the difference of one pair of maps of equal shape, which is `Hint`
without a regressor here, `FeatureDistillation("mse")` in keras.distillation.
In bfloat16: `teacher_dtype`. By quarters: a `teacher_batch_size` of a quarter
of the batch. By hand: one tf.function with a tf.GradientTape that logs loss and
accuracy.

Rounds of one call each (as many calls as take 20 ms), in an order drawn anew.
Ratios are per round, to the same round's denominator: medians over the rounds,
with quartiles, by the clock; beside it the median ratio of processor time,
which other programs on the machine disturb less. `met`: whether the median by
the clock, with two decimals, keeps to the target.

Memory: a process that fits a kd.Distiller, and one that fits the plain student
and runs the teacher in turn (its floor is the larger of the two, not their
sum), with freed memory given back at once (`MALLOC_MMAP_THRESHOLD_`) and
without oneDNN, whose pool would keep it. `peak`: the highest resident set of
the process from its start on, TensorFlow itself included. `step`: how far the
resident set rises in a step. Medians over processes.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from step_experiment import MEMORY
from step_experiment import OURS_FEATURE
from step_experiment import Bench
from step_experiment import pairs

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from _shared.measuring import THREADS
from _shared.measuring import in_a_process
from _shared.measuring import peak_bytes
from _shared.measuring import quartiles
from _shared.measuring import resident
from _shared.measuring import timed
from _shared.measuring import use_threads
from _shared.reporting import table

SAVED = pathlib.Path(__file__).parents[2] / "saved_models"


# Memory.


def both(first, second):
    first()
    second()


def memory_here(pair, label):
    """Bytes of this process: the highest, and the rise in a step."""
    bench = Bench(pair)
    if label == "floor":
        function = functools.partial(
            both, bench.plain(), bench.teacher_forward()
        )
    else:
        function = bench.ours(feature=True)
    for _ in range(5):
        function()
    highest = resident("VmHWM")
    return highest, peak_bytes(function)


def memory_row(name, processes, arguments):
    """Medians of the highest resident set and of the rise in a step."""
    found = {"floor": [], OURS_FEATURE: []}
    for _ in range(processes):
        for label, values in found.items():
            of = ("--memory-of", name, label, *arguments)
            values.append(in_a_process(__file__, *of))
    if any(value is None for values in found.values() for value in values):
        return None
    floor, ours = (np.median(v, axis=0) for v in found.values())
    return {
        "pair": name,
        "bytes": found,
        "floor": floor.tolist(),
        "ours": ours.tolist(),
        "ratio": (ours / floor).tolist(),
    }


def printed_memory(row):
    rows = []
    for index, kind in enumerate(("peak", "step")):
        ratio = row["ratio"][index]
        rows.append(
            {
                "pair": row["pair"],
                "memory": kind,
                "floor MB": f"{row['floor'][index] / 1e6:.0f}",
                f"{OURS_FEATURE} MB": f"{row['ours'][index] / 1e6:.0f}",
                "ratio": f"{ratio:.3f}",
                "target": MEMORY.wanted(),
                "met": MEMORY.met(ratio),
            }
        )
    return rows


# Reports.


def report_rows(name, pair, seconds):
    """One dict per comparison, with numbers."""
    rows = []
    for comparison in pair.comparisons:
        ratios = comparison.ratios(seconds)
        by_clock = quartiles(ratios[:, 0])
        rows.append(
            {
                "pair": name,
                "ratio of times": comparison.label,
                "by_clock": by_clock,
                "of_processors": quartiles(ratios[:, 1]),
                "target": comparison.wanted(),
                "met": comparison.met(by_clock[1]),
            }
        )
    return rows


def printed(row):
    low, middle, high = row["by_clock"]
    return {
        "pair": row["pair"],
        "ratio of times": row["ratio of times"],
        "median": f"{middle:.3f}",
        "quartiles": f"{low:.3f} to {high:.3f}",
        "processor time": f"{row['of_processors'][1]:.3f}",
        "target": row["target"],
        "met": row["met"],
    }


def printed_times(name, seconds):
    return [
        {
            "pair": name,
            "row": label,
            "ms": f"{1e3 * statistics.median(values[:, 0]):.3g}",
            "processor ms": f"{1e3 * statistics.median(values[:, 1]):.3g}",
        }
        for label, values in seconds.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", nargs="+", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument(
        "--processes", type=int, default=3, help="per row of memory; 0: none"
    )
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    use_threads()
    known = pairs(args.quick)
    if args.memory_of:
        name, label = args.memory_of
        print(json.dumps(memory_here(known[name], label)))
        return
    if unknown := set(args.pairs or ()) - known.keys():
        parser.error(f"no pair {sorted(unknown)}; there are {sorted(known)}")
    chosen = {n: p for n, p in known.items() if n in (args.pairs or known)}
    if args.quick:
        args.rounds = 2
    rows, times, seconds = [], [], {}
    for name, pair in chosen.items():
        # A fixed cost is short: more rounds cost nothing.
        rounds = args.rounds if pair.tap else 5 * args.rounds
        seconds[name] = timed(Bench(pair).functions(), rounds)
        rows += report_rows(name, pair, seconds[name])
        times += printed_times(name, seconds[name])
        keras.backend.clear_session()
    print(f"{args.rounds} rounds, {THREADS} threads\n")
    print(table([printed(row) for row in rows]) + "\n")
    print(table(times) + "\n")
    arguments = ["--quick"] if args.quick else []
    memories = [
        memory_row(name, args.processes, arguments)
        for name, pair in chosen.items()
        if pair.tap and args.processes
    ]
    memories = [row for row in memories if row]
    if memories:
        print(table(sum((printed_memory(row) for row in memories), [])))
    out = SAVED / ("benchmarks_quick" if args.quick else "benchmarks")
    out.mkdir(parents=True, exist_ok=True)
    report = {
        "command": " ".join(
            ["python", "examples/benchmarks/step.py", *sys.argv[1:]]
        ),
        "rounds": args.rounds,
        "threads": THREADS,
        "rows": rows,
        "memory": memories,
        "seconds": {
            name: {label: v.tolist() for label, v in values.items()}
            for name, values in seconds.items()
        },
    }
    (out / "step.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
