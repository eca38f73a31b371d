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
import functools
import json
import pathlib
import sys
import time

import keras
import numpy as np

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared.reporting import gap_closed
from _shared.reporting import percent
from _shared.reporting import table

layers = keras.layers
SAVED = pathlib.Path(__file__).parents[2] / "saved_models"
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

# Channels and stride of each convolution.
THREE = ((16, 2), (24, 2), (32, 2))
SIX = ((12, 2), (12, 1), (24, 2), (24, 1), (32, 2), (32, 1))
# How deep a layer lies, in layers of the student. Of the six convolutions the
# second of each size stands beside the student's one of that size.
DEPTHS = {
    "same layers": (0, 1, 2, 3, 4),
    "deeper": (-0.5, 0, 0.5, 1, 1.5, 2, 3, 4),
}
TEACHERS = {"same layers": THREE, "deeper": SIX}
STUDENT_DEPTHS = DEPTHS["same layers"]

# What is tried on held-out images.
SOFT = [(1.0, 0.5), (1.0, 0.9), (2.0, 0.5), (2.0, 0.9)]  # temperature, alpha
WEIGHTS = (0.01, 0.03, 0.1, 0.3)
SHIFTS, SPREADS = (-1, 0, 1), (0.5, 1.0, 2.0)


def network(convolutions, name, dropout=0.0):
    """Convolutions and two dense layers, each with a name of its own."""
    stack = [
        layers.Conv2D(
            channels,
            3,
            stride,
            padding="same",
            activation="relu",
            name=f"conv{number}",
        )
        for number, (channels, stride) in enumerate(convolutions, 1)
    ]
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            *stack,
            layers.Flatten(),
            layers.Dropout(dropout),
            layers.Dense(64, activation="relu", name="dense1"),
            layers.Dense(10, name="dense2"),
        ],
        name=name,
    )


def aligned_layers(model):
    """Names of the layers that take part, from the first to the last."""
    return [
        x.name for x in model.layers if x.name.startswith(("conv", "dense"))
    ]


def one_to_one(depths):
    """Each layer of the student learns from the one beside it."""
    return np.equal.outer(depths, STUDENT_DEPTHS).astype(float)


def window(depths, shift, spread):
    """lambda_ij as a bell around the layer `shift` deeper than layer j.

        lambda_ij = exp(-(depth_i - depth_j - shift)^2 / (2 spread^2)) / sum_i

    What is below a hundredth is left out: such a pair costs as much as another.
    """
    away = np.subtract.outer(depths, np.add(STUDENT_DEPTHS, shift))
    # The nearest layer of each column counts 1, however far it is.
    nearest = np.min(away**2, axis=0)
    bell = np.exp(-(away**2 - nearest) / (2 * spread**2))
    bell /= bell.sum(axis=0)
    bell[bell < 0.01] = 0.0
    return bell / bell.sum(axis=0)


class Experiment:
    """The data, and how every network here is trained and judged."""

    def __init__(
        self,
        images,
        epochs,
        teacher_images,
        teacher_epochs,
        teachers=tuple(TEACHERS),
    ):
        self.data = kd.datasets.fashion_mnist()
        self.order = np.random.default_rng(0).permutation(60000)
        self.held_out = self._part(self.order[-10000:])
        self.watched = self._part(self.order[-12000:-10000])
        self.test = self.data.x_test, self.data.y_test
        self.images, self.epochs = images, epochs
        self.every = max(1, epochs // 10)  # Epochs between two looks.
        self.teachers = {
            name: self._teacher(name, teacher_images, teacher_epochs)
            for name in teachers
        }

    def _part(self, indices):
        return self.data.x_train[indices], self.data.y_train[indices]

    def _teacher(self, name, images, epochs):
        keras.utils.set_random_seed(0)
        teacher = network(TEACHERS[name], f"teacher_{name[:4]}", dropout=0.3)
        self.fit(teacher, images, epochs, seed=0)
        return teacher

    def fit(self, model, images, epochs, seed, watch=False):
        steps = images // 64
        rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * steps)
        model.compile(
            keras.optimizers.Adam(rate), CROSSENTROPY, metrics=["accuracy"]
        )
        # Else the step is traced twice; with 40 pairs that takes long.
        model.optimizer.build(model.trainable_variables)
        x, y = self._part(self.order[:images])
        return model.fit(
            kd.datasets.batches(x, y, batch_size=64, seed=seed),
            steps_per_epoch=steps,
            epochs=epochs,
            validation_data=self.watched if watch else None,
            validation_batch_size=500,
            validation_freq=self.every,
            shuffle=False,
            verbose=0,
        ).history

    def student(self, seed, teacher=None, loss=None, weight=1.0, alpha=0.5):
        """-> a trained student, its history, and the loss it learned by."""
        keras.utils.set_random_seed(1000 + seed)
        student = trained = network(THREE, "student")
        if teacher is not None:
            loss = loss(self.teachers[teacher], student)
            trained = kd.Distiller(
                student=student,
                teacher=self.teachers[teacher],
                distillation_losses=loss,
                distillation_loss_weights=weight,
                alpha=alpha,
            )
        history = self.fit(trained, self.images, self.epochs, seed, watch=True)
        return student, history, loss

    def classes(self, model, images):
        return model.predict(images, batch_size=500, verbose=0).argmax(-1)

    def judged(self, **how):
        """Accuracy on the held-out images of a student of seed 0, its loss."""
        student, _, loss = self.student(seed=0, **how)
        right = self.classes(student, self.held_out[0]) == self.held_out[1]
        return float(np.mean(right)), loss


def soft_targets(teacher, student, temperature):
    return kd.losses.SoftTargets(temperature=temperature)


def alignment(teacher, student, matrix):
    """`matrix`: lambda, or one of the names that the loss knows."""
    return kd.losses.LayerAlignedVariationalInformation(
        teacher_layer_name=aligned_layers(teacher),
        student_layer_name=aligned_layers(student),
        alignment=matrix,
        reduction="mean",
    )


def search(experiment, teacher):
    """The choices on held-out images.

    Returns:
        Row of the table -> arguments of `Experiment.student`, and what was
        tried: name, accuracy and, of an alignment, its lambda.
    """
    depths = DEPTHS[teacher]
    tried = []

    def attempt(name, **how):
        accuracy, loss = experiment.judged(teacher=teacher, **how)
        matrix = getattr(loss, "alignment_matrix", None)
        tried.append(
            {
                "name": name,
                "accuracy": accuracy,
                "matrix": matrix and np.array(matrix()).tolist(),
                "how": how,
            }
        )
        print(f"  {teacher}: {name}: {100 * accuracy:.1f} %", flush=True)
        return tried[-1]

    def best(attempts):
        return max(attempts, key=lambda a: a["accuracy"])

    def aligned(name, matrix, weight):
        loss = functools.partial(alignment, matrix=matrix)
        return attempt(name, loss=loss, weight=weight)

    soft = [
        attempt(
            f"Hinton, temperature {temperature:g}, alpha {alpha:g}",
            loss=functools.partial(soft_targets, temperature=temperature),
            alpha=alpha,
        )
        for temperature, alpha in experiment.soft
    ]
    pairwise = best(
        aligned(f"pairwise, weight {w:g}", one_to_one(depths), w)
        for w in experiment.weights
    )
    weight = pairwise["how"]["weight"]
    uniform = aligned("all to all", "uniform", weight)
    learned = aligned("learned", "learned", weight)
    grid = best(
        aligned(
            f"shift {shift}, spread {spread:g}",
            window(depths, shift, spread),
            weight,
        )
        for shift in experiment.shifts
        for spread in experiment.spreads
    )
    rows = {
        "Hinton": best(soft),
        "pairwise": pairwise,
        "all to all": uniform,
        "learned lambda": learned,
        "best of the grid": grid,
    }
    return rows, tried


def final(experiment, rows, seeds):
    """Row -> accuracy, agreement with the teacher and history, per seed.

    Args:
        experiment: A `Experiment`.
        rows: `(teacher, row) -> arguments of Experiment.student`.
        seeds: How many.
    """
    decided = {
        name: experiment.classes(teacher, experiment.test[0])
        for name, teacher in experiment.teachers.items()
    }
    results = {}
    for key, how in rows.items():
        result = {"accuracy": [], "agreement": [], "history": []}
        for seed in range(seeds):
            student, history, _ = experiment.student(seed, **how)
            classes = experiment.classes(student, experiment.test[0])
            result["accuracy"].append(
                float(np.mean(classes == experiment.test[1]))
            )
            result["agreement"].append(
                {t: float(np.mean(classes == decided[t])) for t in decided}
            )
            result["history"].append(history["val_accuracy"])
        results[key] = result
        print(f"  {key}: {percent(result['accuracy'])} %", flush=True)
    accuracies = {
        t: float(np.mean(decided[t] == experiment.test[1])) for t in decided
    }
    return results, accuracies


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


def plotting():
    """pyplot, for files and not for a screen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def curves(path, results, teachers, every):
    """Accuracy by epoch, one picture per teacher: means, ranges over seeds."""
    pyplot = plotting()
    figure, panels = pyplot.subplots(
        1,
        len(teachers),
        figsize=(5.5 * len(teachers), 4.5),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, teacher in zip(panels[0], teachers):
        shown = [key for key in results if key[0] in (None, teacher)]
        for index, key in enumerate(shown):
            values = 100 * np.array(results[key]["history"])
            epochs = every * np.arange(1, values.shape[1] + 1)
            colour = "black" if key[0] is None else f"C{index - 1}"
            axes.plot(epochs, values.mean(0), color=colour, label=key[1])
            axes.fill_between(
                epochs,
                values.min(0),
                values.max(0),
                color=colour,
                alpha=0.08,
                linewidth=0,
            )
        axes.set(title=f"Teacher: {teacher}", xlabel="epoch")
        axes.grid(alpha=0.3)
    panels[0, 0].set_ylabel("accuracy % on 2000 held-out images")
    panels[0, -1].legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def graphs(path, teacher, tried, names):
    """The four best alignments and the learned one, as graphs of layers.

    Args:
        path: Where to write the PNG file.
        teacher: Its name.
        tried: What `search` tried.
        names: Names of the teacher's and of the student's layers.
    """
    pyplot = plotting()
    best = sorted(
        (attempt for attempt in tried if attempt["matrix"]),
        key=lambda attempt: -attempt["accuracy"],
    )
    shown = distinct(best)
    shown += [a for a in best if a["name"] == "learned" and a not in shown]
    figure, panels = pyplot.subplots(
        1,
        len(shown),
        figsize=(3.2 * len(shown), 4.6),
        squeeze=False,
        layout="constrained",
    )
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
                [x] * len(heights[side]), heights[side], "o", color="0.2", ms=7
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
        axes.set_title(
            f"{attempt['name']}\n{100 * attempt['accuracy']:.1f} % held out",
            fontsize=11,
        )
    figure.suptitle(
        f"Teacher: {teacher}. The best on held-out images, and what was "
        "learned; width of a line: lambda"
    )
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


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
        picture = out / f"alignments_{teacher.replace(' ', '_')}.png"
        graphs(picture, teacher, attempts, names)
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
