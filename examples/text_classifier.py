"""Text on phones: which of fifteen languages are these twenty characters?

    python examples/text_classifier.py
    python examples/text_classifier.py --choose  # weights, on other pages
    python examples/text_classifier.py --quick

A transformer of four layers teaches one of two layers, and a bag of embeddings
of pairs of characters, which needs next to no computation. The text is that of
Debian's translated manual pages; a page is in the training or in the test, in
all its languages. Needs `apt-get install manpages-de ...`, see
`_shared/manual_pages.py`.

Temperature and alpha are those of `kd.recipes.settings`; the weights of the
losses on hidden states and attention were chosen on pages that are neither in
the training nor in the test (`--choose`). What ships takes the numbers of
characters, int32.
"""

import argparse
import collections
import json
import pathlib
import sys

import keras
import numpy as np
from keras import ops

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # _shared

from _shared import manual_pages
from _shared import reporting

SAVED = pathlib.Path(__file__).parents[1] / "saved_models"
CLASSES, LENGTH, BATCH = len(manual_pages.LANGUAGES), 20, 64
FULL = {
    "train": 1000,
    "test": 300,
    "teacher": 2500,
    "student": 1500,
    "seeds": 3,
}
QUICK = {"train": 40, "test": 10, "teacher": 20, "student": 10, "seeds": 1}
FULL["files"], QUICK["files"] = (None, "dynamic"), ("dynamic",)
PADDING, UNKNOWN = 0, 1


class Characters:
    """The numbers of the characters that a text has often."""

    def __init__(self, texts, at_least=20):
        counts = collections.Counter("".join(texts))
        often = sorted(c for c, count in counts.items() if count >= at_least)
        self.numbers = {c: n for n, c in enumerate(often, UNKNOWN + 1)}
        self.size = len(often) + 2

    def ids(self, texts):
        """int32 `(texts, LENGTH)`, with padding at the end."""
        ids = np.full((len(texts), LENGTH), PADDING, "int32")
        for row, text in zip(ids, texts):
            row[: len(text)] = [self.numbers.get(c, UNKNOWN) for c in text]
        return ids


def transformer(vocabulary, name):
    size = {
        "teacher": {"width": 64, "depth": 4, "heads": 4},
        "student": {"width": 32, "depth": 2, "heads": 4},
    }[name]
    return kd.models.transformer_classifier(
        vocabulary, CLASSES, length=LENGTH, name=name, **size
    )


def bag(vocabulary, name):
    """The mean of an embedding of each pair of neighbours."""
    ids = keras.Input((LENGTH,), dtype="int32", name="ids")
    # A + is a BiasAdd at a batch of one, which TFLite has for floats only.
    pairs = ops.stack([vocabulary * ids[:, :-1], ids[:, 1:]], axis=-1)
    pairs = ops.sum(pairs, axis=-1)
    x = keras.layers.Embedding(vocabulary**2, 16, name="pairs")(pairs)
    present = ops.cast(ops.not_equal(ids[:, 1:], PADDING), "float32")
    x = ops.sum(x * present[..., None], axis=1)
    x = x / ops.maximum(ops.sum(present, axis=1, keepdims=True), 1.0)
    logits = keras.layers.Dense(CLASSES, name="logits")(x)
    return keras.Model(ids, logits, name=name)


STUDENTS = {"transformer": (transformer, 2e-3), "bag": (bag, 1e-2)}


def train(model, rate, data, steps):
    rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=10,
        jit_compile=False,
    )
    model.fit(data, steps_per_epoch=steps, epochs=1, verbose=2)


# What is added to the soft targets.
MORE = {
    "and HiddenStates": lambda: kd.losses.HiddenStates(
        teacher_layer_name=["block1", "block2", "block3", "block4"],
        student_layer_name=["block1", "block2"],
    ),
    "and AttentionRelation": lambda: kd.losses.AttentionRelation(
        teacher_layer_name="block4/attention",
        student_layer_name="block2/attention",
        heads=8,
    ),
}
WEIGHTS = dict.fromkeys(MORE, 1.0)
TRIED_WEIGHTS = (0.1, 1.0, 10.0)
WAYS = {
    "transformer": ["alone", "soft targets", *MORE],
    "bag": ["alone", "soft targets"],
}


def student_of(kind, way, seed, teacher, data, settings, vocabulary, weights):
    """A trained student."""
    build, rate = STUDENTS[kind]
    keras.utils.set_random_seed(seed)
    student = build(vocabulary, "student")
    model = student
    if way != "alone":
        chosen = kd.recipes.settings(
            samples=CLASSES * settings["train"],
            steps=settings["student"],
            batch_size=BATCH,
        )
        arguments = chosen.distiller_arguments()
        losses = {"soft": arguments.pop("distillation_losses")}
        loss_weights = {"soft": 1.0}
        if way in MORE:
            losses["more"], loss_weights["more"] = MORE[way](), weights[way]
        model = kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=losses,
            distillation_loss_weights=loss_weights,
            **arguments,
        )
    train(model, rate, data(10 + seed), settings["student"])
    return student


def accuracy(model, x, y):
    logits = model.predict(x, batch_size=500, verbose=0)
    return float(np.mean(logits.argmax(-1) == y))


def table(teacher, results, networks):
    """Rows of accuracy, and its difference to the student alone by seed."""
    rows = []
    for (kind, way), values in {("teacher", ""): [teacher], **results}.items():
        network = networks[kind]
        more = np.array(values) - np.array(results.get((kind, "alone"), 0.0))
        compared = way not in ("", "alone")
        rows.append(
            {
                "network": f"{kind}, {way}".strip(", "),
                "parameters": f"{network.count_params():,}",
                "multiply-accumulates": (
                    f"{kd.cost.multiply_accumulates(network):,}"
                ),
                "test accuracy %": reporting.percent(values),
                "against alone": (
                    reporting.percent(more, "+") if compared else ""
                ),
            }
        )
    return rows


def draw(path, networks, x, y):
    """Saves which languages networks take for which."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1,
        len(networks),
        figsize=(4.5 * len(networks), 5.0),
        sharey=True,
        layout="constrained",
    )
    for axis, (name, network) in zip(axes, networks.items()):
        chosen = network.predict(x, batch_size=500, verbose=0).argmax(-1)
        counts = np.zeros((CLASSES, CLASSES))
        np.add.at(counts, (y, chosen), 1)
        shares = 100 * counts / counts.sum(axis=1, keepdims=True)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for row, column in zip(*np.nonzero(shares >= 3)):
            dark = "white" if shares[row, column] > 50 else "black"
            axis.text(
                column,
                row,
                f"{shares[row, column]:.0f}",
                ha="center",
                va="center",
                fontsize=6,
                color=dark,
            )
        ticks = range(CLASSES)
        axis.set_xticks(ticks, manual_pages.LANGUAGES, fontsize=7, rotation=90)
        axis.set_yticks(ticks, manual_pages.LANGUAGES, fontsize=7)
        axis.set(title=name, xlabel="taken for, %")
    axes[0].set_ylabel("language")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def exported(folder, kinds, student, x, y, teacher):
    """TFLite files of a student, and their verification."""
    files = {
        kind or "float32": kd.export.tflite(
            student,
            folder / f"{kind or 'float32'}.tflite",
            quantization=kind,
            metadata={"class_names": manual_pages.LANGUAGES},
            overwrite=True,
        )
        for kind in kinds
    }
    return kd.export.verify(files, student, (x, y), teacher=teacher)


def choose(teacher, student_at, x, y):
    """Prints accuracy on held-out pages by weight, one seed."""
    rows = []
    for way in ("soft targets", *MORE):
        for weight in TRIED_WEIGHTS if way in MORE else ("",):
            student = student_at(way, {way: weight})
            taken = " (taken)" * (weight == WEIGHTS.get(way))
            value = reporting.percent([accuracy(student, x, y)])
            rows.append(
                {
                    "way": way,
                    "weight": f"{weight}{taken}",
                    "held-out accuracy %": value,
                }
            )
    print(f"teacher: {reporting.percent([accuracy(teacher, x, y)])} %")
    print(reporting.table(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny numbers")
    parser.add_argument("--choose", action="store_true")
    args = parser.parse_args()
    settings = QUICK if args.quick else FULL
    folder = SAVED / ("text_classifier" + "_quick" * args.quick)
    texts, y = manual_pages.snippets(settings["train"], LENGTH, "training", 1)
    part = "choices" if args.choose else "test"
    of_test, y_test = manual_pages.snippets(settings["test"], LENGTH, part, 2)
    characters = Characters(texts)
    x, x_test = characters.ids(texts), characters.ids(of_test)
    print(f"{len(x)} and {len(x_test)} texts of {characters.size} characters")
    for language in range(CLASSES):
        row = int(np.argmax(y_test == language))
        print(f"  {manual_pages.LANGUAGES[language]:6}{of_test[row]}")

    def data(seed):
        return kd.datasets.batches(x, y, BATCH, seed=seed)

    keras.utils.set_random_seed(0)
    teacher = transformer(characters.size, "teacher")
    train(teacher, 1e-3, data(0), settings["teacher"])

    def student_at(way, weights=WEIGHTS, kind="transformer", seed=0):
        return student_of(
            *(kind, way, seed, teacher, data, settings, characters.size),
            weights,
        )

    if args.choose:
        choose(teacher, student_at, x_test, y_test)
        return
    of_teacher = accuracy(teacher, x_test, y_test)
    print(f"teacher: {100 * of_teacher:.1f} %")
    results, networks = collections.defaultdict(list), {"teacher": teacher}
    first = {}
    for seed in range(settings["seeds"]):
        for kind, ways in WAYS.items():
            for way in ways:
                student = student_at(way, kind=kind, seed=seed)
                results[kind, way].append(accuracy(student, x_test, y_test))
                last = 100 * results[kind, way][-1]
                print(f"seed {seed}, {kind}, {way}: {last:.1f} %", flush=True)
                networks.setdefault(kind, student)
                first.setdefault((kind, way), student)
    rows = table(of_teacher, results, networks)
    report = {"settings": settings, "table": rows}
    print(f"\n{reporting.table(rows)}")
    folder.mkdir(parents=True, exist_ok=True)
    for kind in WAYS:
        student = first[kind, "soft targets"]
        (folder / kind).mkdir(exist_ok=True)
        checked = exported(
            folder / kind,
            settings["files"],
            student,
            x_test,
            y_test,
            teacher,
        )
        print(f"\n{kind}, soft targets, seed 0:\n{checked}")
        report[kind] = checked.as_dict()
    (folder / "report.json").write_text(json.dumps(report, indent=2))
    shown = {kind: first[kind, "soft targets"] for kind in WAYS}
    draw(
        folder / "languages.png", {"teacher": teacher, **shown}, x_test, y_test
    )
    print(f"Saved '{folder}'.")


if __name__ == "__main__":
    main()
