"""Text on phones: which of fifteen languages are these twenty characters?

    python examples/text_classifier.py
    python examples/text_classifier.py --choose  # weights, on other pages
    python examples/text_classifier.py --quick

A transformer of four layers teaches one of two layers, and a bag of embeddings,
which needs next to no computation. Tokens are pairs of neighbouring characters.
The teacher has many labelled texts; a student has the labels of a fifth of
them, and may learn from what the teacher says of the others. The text is that
of Debian's translated manual pages; a page is in the training or in the test,
in all its languages. Needs `apt-get install manpages-de ...`, see
`_shared/manual_pages.py`.

Temperature and alpha are those of `kd.recipes.settings`; the weights of the
losses on hidden states and attention were chosen on pages that are neither in
the training nor in the test (`--choose`). What ships takes the numbers of
pairs, int32.
"""

import argparse
import collections
import json
import pathlib
import sys

import keras
import numpy as np

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # _shared

from _shared import manual_pages
from _shared import reporting

SAVED = pathlib.Path(__file__).parents[1] / "saved_models"
CLASSES, BATCH = len(manual_pages.LANGUAGES), 64
CHARACTERS = 20
LENGTH = CHARACTERS - 1  # Pairs.
# Texts of each language, and steps.
FULL = {
    "texts": 5000,
    "labelled": 1000,
    "test": 300,
    "teacher": 4000,
    "student": 2000,
    "seeds": 3,
}
QUICK = {
    "texts": 80,
    "labelled": 40,
    "test": 10,
    "teacher": 20,
    "student": 10,
    "seeds": 1,
}
FULL["files"], QUICK["files"] = (None, "dynamic"), ("dynamic",)
PADDING, UNKNOWN = 0, 1
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Pairs:
    """The numbers of the pairs of characters that a text has often."""

    def __init__(self, texts, at_least=20):
        counts = collections.Counter(p for text in texts for p in pairs(text))
        often = sorted(p for p, count in counts.items() if count >= at_least)
        self.numbers = {p: n for n, p in enumerate(often, UNKNOWN + 1)}
        self.size = len(often) + 2

    def ids(self, texts):
        """int32 `(texts, LENGTH)`, with padding at the end."""
        ids = np.full((len(texts), LENGTH), PADDING, "int32")
        for row, text in zip(ids, texts):
            found = [self.numbers.get(p, UNKNOWN) for p in pairs(text)]
            row[: len(found)] = found
        return ids


def pairs(text):
    return [a + b for a, b in zip(text, text[1:])]


def transformer(vocabulary, name):
    size = {
        "teacher": {"width": 64, "depth": 4, "heads": 4},
        "student": {"width": 32, "depth": 2, "heads": 4},
    }[name]
    return kd.models.transformer_classifier(
        vocabulary, CLASSES, length=LENGTH, name=name, **size
    )


def bag(vocabulary, name):
    """The mean of an embedding of each token."""
    ids = keras.Input((LENGTH,), dtype="int32", name="ids")
    x = keras.layers.Embedding(vocabulary, 16, mask_zero=True)(ids)
    x = keras.layers.GlobalAveragePooling1D()(x)
    logits = keras.layers.Dense(CLASSES, name="logits")(x)
    return keras.Model(ids, logits, name=name)


STUDENTS = {"transformer": (transformer, 2e-3), "bag": (bag, 1e-2)}


def train(model, rate, data, steps, labels=True):
    rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=CROSSENTROPY if labels else None,
        steps_per_execution=10,
        jit_compile=False,
    )
    model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=2)


ALL = "soft targets on all texts"
# What is added to these.
MORE = {
    f"{ALL}, HiddenStates": lambda: kd.losses.HiddenStates(
        teacher_layer_name=["block1", "block2", "block3", "block4"],
        student_layer_name=["block1", "block2"],
    ),
    f"{ALL}, AttentionRelation": lambda: kd.losses.AttentionRelation(
        teacher_layer_name="block4/attention",
        student_layer_name="block2/attention",
        heads=8,
    ),
}
WEIGHTS = dict.fromkeys(MORE, 1.0)
TRIED_WEIGHTS = (0.1, 1.0)
WAYS = {
    "transformer": ["alone", "soft targets", ALL, *MORE],
    "bag": ["alone", "soft targets", ALL],
}


class Experiment:
    """The texts, the teacher, and the training of students.

    Args:
        settings: `FULL` or `QUICK`.
        part: The pages to judge by, "choices" or "test".
    """

    def __init__(self, settings, part):
        self.settings = settings
        texts, self.y = manual_pages.snippets(
            settings["texts"], CHARACTERS, "training", 1
        )
        self.of_test, self.y_test = manual_pages.snippets(
            settings["test"], CHARACTERS, part, 2
        )
        tokens = Pairs(texts)
        self.vocabulary = tokens.size
        self.x, self.x_test = tokens.ids(texts), tokens.ids(self.of_test)
        keras.utils.set_random_seed(0)
        self.teacher = transformer(self.vocabulary, "teacher")
        data = kd.datasets.batches(self.x, self.y, BATCH, seed=0)
        train(self.teacher, 1e-3, data, settings["teacher"])

    def student(self, kind, way, seed, weights=WEIGHTS):
        """A trained student."""
        build, rate = STUDENTS[kind]
        keras.utils.set_random_seed(seed)
        student = build(self.vocabulary, "student")
        labelled = CLASSES * self.settings["labelled"]
        texts = len(self.x) if way.startswith(ALL) else labelled
        steps = self.settings["student"]
        y = self.y[:labelled] if texts == labelled else None
        data = kd.datasets.batches(self.x[:texts], y, BATCH, seed=10 + seed)
        model = student
        if way != "alone":
            arguments = kd.recipes.settings(
                samples=labelled,
                steps=steps,
                batch_size=BATCH,
                unlabelled=texts - labelled,
                student=student,
            ).distiller_arguments()
            losses = {"soft": arguments.pop("distillation_losses")}
            loss_weights = {"soft": 1.0}
            if way in MORE:
                losses["more"] = MORE[way]()
                loss_weights["more"] = weights[way]
            model = kd.Distiller(
                student=student,
                teacher=self.teacher,
                distillation_losses=losses,
                distillation_loss_weights=loss_weights,
                **arguments,
            )
        train(model, rate, data, steps, labels=y is not None)
        return student

    def accuracy(self, model):
        logits = model.predict(self.x_test, batch_size=500, verbose=0)
        return float(np.mean(logits.argmax(-1) == self.y_test))


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
    size = (4.5 * len(networks), 5.0)
    with reporting.picture(
        path, 1, len(networks), figsize=size, sharey=True
    ) as axes:
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
            axis.set_xticks(
                ticks, manual_pages.LANGUAGES, fontsize=7, rotation=90
            )
            axis.set_yticks(ticks, manual_pages.LANGUAGES, fontsize=7)
            axis.set(title=name, xlabel="taken for, %")
        axes[0].set_ylabel("language")


def exported(folder, kinds, student, experiment):
    """Writes TFLite files of a student, and verifies them."""
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
    data = experiment.x_test, experiment.y_test
    return kd.export.verify(files, student, data, teacher=experiment.teacher)


def choose(experiment):
    """Prints accuracy on pages for choices by weight, one seed."""
    found = experiment.accuracy(experiment.teacher)
    print(f"teacher: {reporting.percent([found])} %")
    rows = []
    for way in (ALL, *MORE):
        for weight in TRIED_WEIGHTS if way in MORE else ("",):
            student = experiment.student("transformer", way, 0, {way: weight})
            taken = " (taken)" * (weight == WEIGHTS.get(way))
            rows.append(
                {
                    "way": way,
                    "weight": f"{weight}{taken}",
                    "accuracy %": reporting.percent(
                        [experiment.accuracy(student)]
                    ),
                }
            )
    print(reporting.table(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny numbers")
    parser.add_argument("--choose", action="store_true")
    args = parser.parse_args()
    settings = QUICK if args.quick else FULL
    folder = SAVED / ("text_classifier" + "_quick" * args.quick)
    experiment = Experiment(settings, "choices" if args.choose else "test")
    if args.choose:
        choose(experiment)
        return
    teacher, y = experiment.teacher, experiment.y_test
    print(
        f"{len(experiment.x)} and {len(y)} texts, "
        f"{experiment.vocabulary} tokens"
    )
    for language in range(CLASSES):
        row = int(np.argmax(y == language))
        print(
            f"  {manual_pages.LANGUAGES[language]:6}{experiment.of_test[row]}"
        )
    of_teacher = experiment.accuracy(teacher)
    print(f"teacher: {100 * of_teacher:.1f} %")
    results, networks = collections.defaultdict(list), {"teacher": teacher}
    shipped = {}
    for seed in range(settings["seeds"]):
        for kind, ways in WAYS.items():
            for way in ways:
                student = experiment.student(kind, way, seed)
                results[kind, way].append(experiment.accuracy(student))
                last = 100 * results[kind, way][-1]
                print(f"seed {seed}, {kind}, {way}: {last:.1f} %", flush=True)
                networks.setdefault(kind, student)
                if way == ALL:
                    shipped.setdefault(kind, student)
    rows = table(of_teacher, results, networks)
    report = {"settings": settings, "table": rows}
    print(f"\n{reporting.table(rows)}")
    for kind, student in shipped.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        checked = exported(
            folder / kind, settings["files"], student, experiment
        )
        print(f"\n{kind}, {ALL}, seed 0:\n{checked}")
        report[kind] = checked.as_dict()
    (folder / "report.json").write_text(json.dumps(report, indent=2))
    shown = {"teacher": teacher, **shipped}
    draw(folder / "languages.png", shown, experiment.x_test, y)
    print(f"Saved '{folder}'.")


if __name__ == "__main__":
    main()
