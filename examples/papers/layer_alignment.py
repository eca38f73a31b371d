"""Which layer of a teacher teaches which layer of a student.

    python examples/papers/layer_alignment.py  # 3 seeds
    python examples/papers/layer_alignment.py --quick  # one seed, few steps

After Oleinik 2023, who distils between small networks of unlike depth by the
information that pairs of layers share. The student has three convolutions and
two dense layers, and 1000 images of Fashion-MNIST. One teacher has the same
layers and saw 20 000 images; the other has six convolutions.

lambda_ij says how much the teacher's layer i teaches the student's layer j:
one to one (pairwise), all to all, learned with the student, or the best of a
grid. The grid, like temperature, alpha and weight, is judged on 10 000 held-out
images of the training set, one seed each. Accuracies of the table are those on
the 10 000 test images, which choose nothing.
"""

import argparse
import json
import pathlib
import sys
import time

import numpy as np
from layer_alignment_experiment import THREE
from layer_alignment_experiment import Experiment
from layer_alignment_experiment import aligned_layers
from layer_alignment_experiment import final
from layer_alignment_experiment import network
from layer_alignment_experiment import search

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared.reporting import gap_closed
from _shared.reporting import line
from _shared.reporting import percent
from _shared.reporting import picture
from _shared.reporting import table

SAVED = pathlib.Path(__file__).parents[2] / "saved_models"

# What is tried on held-out images.
SOFT = [(1.0, 0.5), (1.0, 0.9), (2.0, 0.5), (2.0, 0.9)]  # temperature, alpha
WEIGHTS = (0.01, 0.03, 0.1, 0.3)
SHIFTS, SPREADS = (-1, 0, 1), (0.5, 1.0, 2.0)


def table_rows(results, teachers, chosen):
    """Rows of the printed table."""
    alone = results[None, "alone"]["accuracy"]
    rows = []

    def add(teacher, row, accuracy, settings="", gain="", agreement="", gap=""):
        rows.append(
            {
                "teacher": teacher,
                "student": row,
                "chosen": settings,
                "test accuracy %": accuracy,
                "minus alone": gain,
                "agreement with teacher %": agreement,
                "gap closed": gap,
            }
        )

    add("", "alone", percent(alone))
    for teacher, accuracy in teachers.items():
        add(teacher, "(the teacher)", percent([accuracy]))
        for (of, row), result in results.items():
            if of == teacher:
                closed = gap_closed([accuracy], alone, result["accuracy"])
                agreement = [a[teacher] for a in result["agreement"]]
                add(
                    teacher,
                    row,
                    percent(result["accuracy"]),
                    chosen[of, row],
                    percent(np.subtract(result["accuracy"], alone), "+"),
                    percent(agreement),
                    closed,
                )
    return rows


def curves(path, results, teachers, every):
    """Accuracy by epoch, one picture per teacher: means, ranges over seeds."""
    size = (5.5 * len(teachers), 4.5)
    with picture(
        path, 1, len(teachers), figsize=size, sharey=True, squeeze=False
    ) as panels:
        for axes, teacher in zip(panels[0], teachers):
            shown = [key for key in results if key[0] in (None, teacher)]
            for index, key in enumerate(shown):
                values = 100 * np.array(results[key]["history"])
                epochs = every * np.arange(1, values.shape[1] + 1)
                colour = "black" if key[0] is None else f"C{index - 1}"
                line(axes, epochs, values, colour, label=key[1])
            axes.set(title=f"Teacher: {teacher}", xlabel="epoch")
            axes.grid(alpha=0.3)
        panels[0, 0].set_ylabel("accuracy % on 2000 held-out images")
        panels[0, -1].legend(frameon=False, loc="lower right")


def graphs(path, teacher, tried, names):
    """The four best alignments and the learned one, as graphs of layers.

    Args:
        path: Where to write the PNG file.
        teacher: Its name.
        tried: What `search` tried.
        names: Names of the teacher's and of the student's layers.
    """
    best = sorted(
        (attempt for attempt in tried if attempt["matrix"]),
        key=lambda attempt: -attempt["accuracy"],
    )
    shown = distinct(best)
    shown += [a for a in best if a["name"] == "learned" and a not in shown]
    size = (3.2 * len(shown), 4.6)
    with picture(path, 1, len(shown), figsize=size, squeeze=False) as panels:
        for axes, attempt in zip(panels[0], shown):
            heights = [np.linspace(0.0, 1.0, len(side)) for side in names]
            for i, row in enumerate(attempt["matrix"]):
                for j, share in enumerate(row):
                    if share >= 0.01:
                        axes.plot(
                            (0, 1),
                            (heights[0][i], heights[1][j]),
                            color=f"C{j}",
                            linewidth=7 * share,
                            alpha=0.75,
                            solid_capstyle="round",
                        )
            for x, side, align in ((0, 0, "right"), (1, 1, "left")):
                axes.plot(
                    [x] * len(heights[side]),
                    heights[side],
                    "o",
                    color="0.2",
                    ms=7,
                )
                for y, name in zip(heights[side], names[side]):
                    axes.text(
                        x + (0.08 if x else -0.08),
                        y,
                        name,
                        ha=align,
                        va="center",
                        fontsize=10,
                    )
                axes.text(
                    x,
                    -0.09,
                    ("teacher", "student")[side],
                    ha="center",
                    fontsize=10,
                    style="italic",
                )
            axes.set(xlim=(-0.62, 1.62), ylim=(1.05, -0.16))
            axes.axis("off")
            accuracy = f"{100 * attempt['accuracy']:.1f} % held out"
            axes.set_title(f"{attempt['name']}\n{accuracy}", fontsize=11)
        panels[0, 0].figure.suptitle(
            f"Teacher: {teacher}. The best on held-out images, and what was "
            "learned; width of a line: lambda"
        )


def distinct(attempts):
    """One attempt per matrix, the best; at most four."""
    kept = []
    for attempt in attempts:
        if all(attempt["matrix"] != other["matrix"] for other in kept):
            kept.append(attempt)
    return kept[:4]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    started = time.perf_counter()
    if args.quick:
        out, seeds = SAVED / "layer_alignment_quick", 1
        experiment = Experiment(256, 2, 512, 2, teachers=["same layers"])
        experiment.soft, experiment.weights = SOFT[:1], WEIGHTS[:1]
        experiment.shifts, experiment.spreads = (0,), SPREADS[:1]
    else:
        out, seeds = SAVED / "layer_alignment", args.seeds
        experiment = Experiment(1000, 30, 20000, 8)
        experiment.soft, experiment.weights = SOFT, WEIGHTS
        experiment.shifts, experiment.spreads = SHIFTS, SPREADS
    out.mkdir(parents=True, exist_ok=True)

    print("On held-out images, one seed:")
    runs, chosen, tried = {(None, "alone"): {}}, {}, {}
    for teacher in experiment.teachers:
        rows, tried[teacher] = search(experiment, teacher)
        for row, attempt in rows.items():
            runs[teacher, row] = {"teacher": teacher, **attempt["how"]}
            chosen[teacher, row] = attempt["name"].partition(", ")[2]
            if row == "best of the grid":
                chosen[teacher, row] = attempt["name"]
    print(f"\nOn test images, {seeds} seeds:")
    results, teachers = final(experiment, runs, seeds)

    rows = table_rows(results, teachers, chosen)
    print()
    print(table(rows))
    curves(out / "accuracy_by_epoch.png", results, teachers, experiment.every)
    student = aligned_layers(network(THREE, "student"))
    for teacher, attempts in tried.items():
        names = (aligned_layers(experiment.teachers[teacher]), student)
        path = out / f"alignments_{teacher.replace(' ', '_')}.png"
        graphs(path, teacher, attempts, names)
        for attempt in attempts:
            del attempt["how"]  # Holds functions.
    report = {
        "command": "python examples/papers/layer_alignment.py",
        "images": experiment.images,
        "epochs": experiment.epochs,
        "table": rows,
        "held_out": tried,
        "teachers": teachers,
        "results": [
            {"teacher": teacher, "student": row, **result}
            for (teacher, row), result in results.items()
        ],
        "seconds": round(time.perf_counter() - started, 1),
    }
    (out / "report.json").write_text(json.dumps(report, indent=1))
    print(f"\n{report['seconds']:.0f} s. Everything is in {out}")


if __name__ == "__main__":
    main()
