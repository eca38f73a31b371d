"""A small language model learns from text of its own that the teacher scores.

    python examples/on_policy.py
    python examples/on_policy.py --quick

A transformer of three layers, trained on the characters of the King James
Version, teaches one of two layers (Debian's packages `bible-kjv` and
`bible-kjv-text`). Every student starts from the same training on the text,
then goes on: from labels, or from the teacher by one of three
divergences, on the text or on continuations of its own (`kd.recipes.
on_policy`).

Two numbers say what that is good for. The perplexity of held-out text, per
character: does the student expect what people write? And what the teacher says
of text that the student writes, the mean logarithm of its probability per
character: does the student write what the teacher finds likely?
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

from _shared import reporting

SAVED = pathlib.Path(__file__).parents[1] / "saved_models"
LENGTH, PROMPT, BATCH = 48, 16, 16
FULL = {"teacher": 2400, "begin": 2400, "go_on": 320, "test": 320, "seeds": 3}
QUICK = {"teacher": 20, "begin": 10, "go_on": 3, "test": 32, "seeds": 1}
FULL["depths"], QUICK["depths"] = (3, 2), (1, 1)  # Of teacher and student.
DIVERGENCES = {
    "forward KL": kd.losses.SoftTargets,
    "Jensen-Shannon": kd.losses.JensenShannon,
    "reverse KL": lambda: kd.losses.SoftTargets(direction="reverse"),
}
SOURCES = {"the text": 0.0, "its own text": 1.0}


class Text:
    """Numbers of characters, in pieces of `LENGTH + 1`."""

    def __init__(self):
        self.text = kd.datasets.read_text("bible")
        self.characters = sorted(set(self.text.training))

    def pieces(self, count, part, seed):
        """`(count, LENGTH + 1)` int32, from random places of a part."""
        text = getattr(self.text, part)
        generator = np.random.default_rng(seed)
        starts = generator.integers(len(text) - LENGTH - 1, size=count)
        number = {c: n for n, c in enumerate(self.characters)}
        return np.array(
            [
                [number.get(c, 0) for c in text[s : s + LENGTH + 1]]
                for s in starts
            ],
            "int32",
        )

    def __call__(self, ids):
        return "".join(self.characters[i] for i in ids)


def network(vocabulary, role, settings):
    student = role == "student"
    return kd.models.transformer_language_model(
        vocabulary,
        length=LENGTH,
        width=48 if student else 96,
        depth=settings["depths"][student],
        dropout=0.0,
        name=role,
    )


def train(model, data, steps, rate):
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(rate, steps)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    model.fit(data, shuffle=False, verbose=2)


def of_people(pieces, batch=BATCH):
    """Text as `(x, y)` for a training with labels."""
    return kd.datasets.batches(pieces[:, :-1], pieces[:, 1:], batch)


def log_probability(model, x, y, weight=1.0):
    """The mean logarithm of the probability of y, per character."""
    logits = model.predict(x, batch_size=64, verbose=0)
    logs = np.asarray(ops.log_softmax(logits, axis=-1))
    logs = np.take_along_axis(logs, y[..., None], axis=-1)[..., 0]
    weight = np.broadcast_to(weight, logs.shape)
    return float(np.sum(weight * logs) / np.sum(weight))


def judged(model, teacher, pieces):
    """Perplexity of held-out text, the teacher's word on what the model
    writes, and the beginning of that."""
    x, y = pieces[:, :-1], pieces[:, 1:]
    samples = kd.recipes.on_policy(
        model, pieces, prompt_length=PROMPT, batch_size=32, seed=1
    )
    parts = zip(*samples.as_numpy_iterator())
    x_own, y_own, weight = (np.concatenate(part) for part in parts)
    return {
        "perplexity": float(np.exp(-log_probability(model, x, y))),
        "teacher": log_probability(teacher, x_own, y_own, weight),
        "ids": np.concatenate([x_own[:3], y_own[:3, -1:]], axis=1).tolist(),
    }


def student_of(begun, divergence, fraction, teacher, pieces, steps, seed):
    """A student that goes on from `begun`."""
    student = keras.models.clone_model(begun)
    student.set_weights(begun.get_weights())
    if divergence is None:
        train(student, of_people(pieces), steps, 1e-3)
        return student
    distiller = kd.Distiller(
        student=student,
        teacher=teacher,
        distillation_losses=divergence(),
        alpha=1.0,
    )
    samples = kd.recipes.on_policy(
        student,
        pieces,
        prompt_length=PROMPT,
        fraction=fraction,
        batch_size=BATCH,
        seed=seed,
    )
    train(distiller, samples, steps, 1e-3)
    return student


def table(results, networks):
    rows = []
    for name, seeds in results.items():
        network = networks[name == "teacher"]
        rows.append(
            {
                "network": name,
                "parameters": f"{network.count_params():,}",
                "perplexity": number([s["perplexity"] for s in seeds]),
                "teacher on what it writes": number(
                    [s["teacher"] for s in seeds]
                ),
            }
        )
    return rows


def number(values):
    mean, half = reporting.interval(values)
    return f"{mean:.3f}" if len(values) < 2 else f"{mean:.3f} ± {half:.3f}"


def draw(path, results):
    """Saves both numbers of every student as a picture."""
    with reporting.picture(path, figsize=(7, 4.5)) as axis:
        for index, (name, seeds) in enumerate(results.items()):
            x, y = (
                [s[key] for s in seeds] for key in ("perplexity", "teacher")
            )
            own = name.endswith("its own text")
            axis.scatter(
                x,
                y,
                color=f"C{index}",
                marker="o" if own else "x",
                label=name,
            )
        axis.set(
            xlabel="perplexity per character, held-out text (less is better)",
            ylabel="teacher's log-probability of what it writes",
        )
        axis.legend(frameon=False, fontsize=8)
        axis.grid(alpha=0.3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny numbers")
    quick = parser.parse_args().quick
    settings = QUICK if quick else FULL
    folder = SAVED / ("on_policy_quick" if quick else "on_policy")
    folder.mkdir(parents=True, exist_ok=True)
    text = Text()
    vocabulary = len(text.characters)
    of_test = text.pieces(settings["test"], "test", 0)
    keras.utils.set_random_seed(0)
    teacher = network(vocabulary, "teacher", settings)
    steps = settings["teacher"]
    pieces = text.pieces(32 * steps, "training", 1)
    train(teacher, of_people(pieces, 32), steps, 2e-3)
    results = collections.defaultdict(list)
    results["teacher"].append(judged(teacher, teacher, of_test))
    for seed in range(settings["seeds"]):
        keras.utils.set_random_seed(seed)
        begun = network(vocabulary, "student", settings)
        pieces = text.pieces(BATCH * settings["begin"], "training", 2 + seed)
        train(begun, of_people(pieces), settings["begin"], 3e-3)
        results["student, at the beginning"].append(
            judged(begun, teacher, of_test)
        )
        steps = settings["go_on"]
        pieces = text.pieces(BATCH * steps, "training", 100 + seed)
        ways = {"labels": (None, 0.0)}
        for source, fraction in SOURCES.items():
            for name, divergence in DIVERGENCES.items():
                ways[f"{name}, {source}"] = divergence, fraction
        for name, (divergence, fraction) in ways.items():
            student = student_of(
                begun, divergence, fraction, teacher, pieces, steps, seed
            )
            results[name].append(judged(student, teacher, of_test))
            found = results[name][-1]
            print(
                f"seed {seed}, {name}: perplexity {found['perplexity']:.3f}, "
                f"teacher {found['teacher']:.3f}\n{text(found['ids'][0])!r}",
                flush=True,
            )
    rows = table(results, (begun, teacher))
    people = log_probability(teacher, of_test[:, :-1], of_test[:, 1:])
    print(f"\n{reporting.table(rows)}")
    print(f"\nThe teacher on held-out text of people: {people:.3f}")
    report = {"settings": settings, "table": rows, "results": results}
    report["teacher_on_people"] = people
    (folder / "report.json").write_text(json.dumps(report, indent=2))
    draw(folder / "on_policy.png", results)
    print(f"Saved '{folder}'.")


if __name__ == "__main__":
    main()
