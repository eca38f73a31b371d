"""Every loss of `kd.losses` at its published weight, on Fashion-MNIST.

    python examples/compare_losses.py                # all rows, 3 seeds
    python examples/compare_losses.py --time         # then: ms per step
    python examples/compare_losses.py --table        # the table and the picture
    python examples/compare_losses.py --quick        # all rows, in minutes

One teacher (residual, 3.2 million multiply-accumulates) and one student
(depthwise-separable, a tenth of that), half of the training images. All rows
of a seed begin with the same weights and see the same batches. What there was
to choose was chosen on 10 000 other training images (`--held-out`); the table
is about the test images.

The run can be stopped and started again: results are saved row by row, and
what is there is not done again.
"""

import argparse
import json
import math
import multiprocessing
import os
import pathlib
import time

import keras
import numpy as np
import published_weights
import reporting
import tensorflow as tf
from tqdm import tqdm

import keras_distill as kd
from keras_distill.cost import multiply_accumulates

layers = keras.layers
OUT = pathlib.Path(__file__).parent.parent / "saved_models"
BATCH_SIZE = published_weights.BATCH_SIZE
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
FULL = {
    "images": 30000,
    "tested": 10000,
    "teacher_epochs": 8,
    "teacher_rate": 1e-2,
    "epochs": 5,
    "rate": 4e-2,
    "temperature": 1.0,
}
QUICK = {**FULL, "images": 1280, "tested": 1000, "teacher_epochs": 2}
QUICK = {**QUICK, "epochs": 1}


# The networks. `block1` and `block2` have equal shapes in both, so that
# losses without a connector can compare them.


def normalized(x, name):
    return layers.BatchNormalization(momentum=0.9, name=name)(x)


def conv(x, filters, size, strides, name, depthwise=False):
    """A convolution and its batch normalization, `<name>_bn`."""
    options = {"padding": "same", "use_bias": False, "name": f"{name}_conv"}
    if depthwise:
        x = layers.DepthwiseConv2D(size, strides, **options)(x)
    else:
        x = layers.Conv2D(filters, size, strides, **options)(x)
    return normalized(x, f"{name}_bn")


def network(block, name):
    image = keras.Input((28, 28, 1), name="image")
    x = layers.ReLU(name="stem")(conv(image, 12, 3, 2, "stem"))
    x = block(x, 24, 1, "block1")
    x = block(x, 48, 2, "block2")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(10, name="head")(x), name=name)


def residual_block(x, filters, strides, name):
    y = layers.ReLU(name=f"{name}_a")(conv(x, filters, 3, strides, f"{name}_a"))
    y = conv(y, filters, 3, 1, f"{name}_b")
    x = conv(x, filters, 1, strides, f"{name}_short")
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=name)(x)


def separable_block(x, filters, strides, name):
    x = conv(x, None, 3, strides, f"{name}_depthwise", depthwise=True)
    x = layers.ReLU(name=f"{name}_depthwise")(x)
    return layers.ReLU(name=name)(conv(x, filters, 1, 1, name))


def teacher_network():
    return network(residual_block, "teacher")


def student_network(seed):
    keras.utils.set_random_seed(1000 + seed)
    return network(separable_block, "student")


# Training, in worker processes of one thread each.


def fit(model, x, y, seed, epochs, rate, **options):
    steps = len(y) // BATCH_SIZE
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps * epochs)
    model.compile(keras.optimizers.Adam(schedule), CROSSENTROPY)
    options = {"seed": seed, "drop_remainder": True, **options}
    history = model.fit(
        kd.datasets.batches(x, y, BATCH_SIZE, **options),
        steps_per_epoch=steps,
        epochs=epochs,
        shuffle=False,
        verbose=0,
    ).history
    return {name: values[-1] for name, values in history.items()}


class Laboratory:
    """The data and the teacher, in every worker."""

    def __init__(self, settings):
        self.settings = settings
        folder = OUT / settings["home"]
        data = kd.datasets.fashion_mnist()
        order = np.random.default_rng(0).permutation(len(data.x_train))
        train = order[: settings["images"]]
        self.x, self.y = data.x_train[train], data.y_train[train]
        if settings["held_out"]:
            other = order[-settings["tested"] :]
            self.x_test, self.y_test = data.x_train[other], data.y_train[other]
        else:
            tested = slice(settings["tested"])
            self.x_test, self.y_test = data.x_test[tested], data.y_test[tested]
        path = folder / "teacher.keras"
        if path.exists():
            self.teacher = keras.models.load_model(path)
        else:
            keras.utils.set_random_seed(0)
            self.teacher = teacher_network()
            epochs, rate = settings["teacher_epochs"], settings["teacher_rate"]
            fit(self.teacher, self.x, self.y, 0, epochs, rate)
            self.teacher.save(folder / "unfinished.keras")
            os.replace(folder / "unfinished.keras", path)
        self.logits = self.predict(self.teacher, self.x)
        decisions = self.predict(self.teacher, self.x_test).argmax(-1)
        self.teacher_decisions = decisions
        given = keras.Input((10,), name="logits")
        self.given_logits = keras.Model(given, layers.Identity()(given))

    def predict(self, model, x):
        return model.predict(x, batch_size=500, verbose=0)

    def teacher_accuracy(self):
        return float(np.mean(self.teacher_decisions == self.y_test))

    def distiller(self, row, seed, live=False):
        """The student or its Distiller, and the data for `fit`."""
        student, x = student_network(seed), self.x
        if row.make is None:
            return student, x
        made = row.make(len(x))
        single = not isinstance(made, dict)
        chosen = {"loss": made} if single else made
        weights = {"loss": row.weight} if single else dict(row.weight)
        if row.beside == published_weights.SOFT:
            temperature = self.settings["temperature"]
            chosen["soft"] = kd.losses.SoftTargets(temperature=temperature)
            weights["soft"] = 1.0
        teacher = self.teacher
        if row.logits_only and not live:
            # What such a loss wants of the teacher travels with the data.
            teacher, x = self.given_logits, {"image": x, "logits": self.logits}
        alone = row.beside == published_weights.NOTHING
        distiller = kd.Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=chosen,
            distillation_loss_weights=weights,
            alpha=1.0 if alone else 0.5,
        )
        return distiller, x

    def run(self, row, seed):
        start = time.time()
        model, x = self.distiller(row, seed)
        epochs, rate = self.settings["epochs"], self.settings["rate"]
        options = {"indexed": True} if row.indexed else {}
        logs = fit(model, x, self.y, seed, epochs, rate, **options)
        if row.make is not None:
            model = model.deployable_student()
        decisions = self.predict(model, self.x_test).argmax(-1)
        return {
            "accuracy": float(np.mean(decisions == self.y_test)),
            "agreement": float(np.mean(decisions == self.teacher_decisions)),
            "logs": {name: float(value) for name, value in logs.items()},
            "seconds": time.time() - start,
        }

    def stepper(self, row):
        """A function that trains some steps with a live teacher."""
        model, x = self.distiller(row, seed=0, live=True)
        model.compile(keras.optimizers.Adam(1e-3), CROSSENTROPY)
        x, y = x[: 2 * BATCH_SIZE], self.y[: 2 * BATCH_SIZE]
        options = {"indexed": True} if row.indexed else {}
        data = kd.datasets.batches(x, y, BATCH_SIZE, seed=0, **options)
        model.fit(data, steps_per_epoch=2, shuffle=False, verbose=0)
        function, iterator = model.make_train_function(), iter(data)

        def steps(count):
            for _ in range(count):
                logs = function(iterator)
            return keras.tree.map_structure(np.asarray, logs)

        return steps

    def milliseconds(self, row, plain, rounds, count=5):
        """Median per step of this row and of soft targets, in turn."""
        steppers, times = [self.stepper(row), self.stepper(plain)], [[], []]
        for stepper in steppers:
            stepper(count)
        for _ in range(rounds):
            for stepper, taken in zip(steppers, times):
                start = time.perf_counter()
                stepper(count)
                taken.append(1000 * (time.perf_counter() - start) / count)
        of_row, of_plain = (float(np.median(taken)) for taken in times)
        return {"ms": of_row, "soft_targets_ms": of_plain}


def start_worker(settings):
    global laboratory
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    laboratory = Laboratory(settings)


def teacher_numbers():
    return {
        "accuracy": laboratory.teacher_accuracy(),
        "teacher": multiply_accumulates(laboratory.teacher),
        "student": multiply_accumulates(student_network(0)),
        "teacher_parameters": laboratory.teacher.count_params(),
        "student_parameters": student_network(0).count_params(),
    }


def work(job):
    """One row and seed, or one row's time: `(key, result)`."""
    key, name, seed = job
    keras.backend.clear_session()
    rows = published_weights.rows(laboratory.settings["temperature"])
    rows = {row.name: row for row in rows}
    if seed is None:
        rounds = 3 if laboratory.settings["quick"] else 15
        plain = rows["SoftTargets"]
        return key, laboratory.milliseconds(rows[name], plain, rounds)
    return key, laboratory.run(rows[name], seed)


# Results: a dict "row/seed" -> numbers, written after each.


def saved(path):
    return json.loads(path.read_text()) if path.exists() else {}


def save(path, results):
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(results, indent=1, sort_keys=True))
    os.replace(unfinished, path)


def do(jobs, path, settings, processes):
    """Does all jobs that `path` does not hold yet, and writes it."""
    results = saved(path)
    if results.setdefault("settings", settings) != settings:
        raise SystemExit(f"{path} was made with {results['settings']}")
    jobs = [job for job in jobs if job[0] not in results]
    if not jobs:
        return
    spawn = multiprocessing.get_context("spawn")
    first = spawn.Pool(1, start_worker, (settings,))  # the teacher
    with first:
        results["teacher"] = first.apply(teacher_numbers)
    # New processes from time to time: graphs of old ones are never freed.
    with spawn.Pool(
        processes, start_worker, (settings,), maxtasksperchild=15
    ) as pool:
        progress = tqdm(pool.imap_unordered(work, jobs), total=len(jobs))
        for key, result in progress:
            results[key] = result
            save(path, results)
            progress.set_postfix_str(key)


def of_row(results, name, what):
    """A list by seed."""
    keys = [key for key in results if key.startswith(f"{name}/")]
    keys.sort(key=lambda key: int(key.rsplit("/", 1)[1]))
    return [results[key][what] for key in keys]


def table_rows(results, times, rows):
    teacher = results["teacher"]["accuracy"]
    reference = {
        name: of_row(results, name, "accuracy")
        for name in ("alone", "SoftTargets")
    }
    lines = []
    for row in rows:
        accuracy = of_row(results, row.name, "accuracy")
        if not accuracy:
            continue
        line = {
            "loss": row.name,
            "weight": weight_text(row),
            "beside": row.beside if row.make else "",
            "test accuracy %": reporting.percent(accuracy),
        }
        for name, values in reference.items():
            paired = np.subtract(accuracy, values[: len(accuracy)])
            same = row.name == name
            line[f"- {name}"] = "" if same else reporting.percent(paired, "+")
        closed = reporting.gap_closed(teacher, reference["alone"], accuracy)
        line["gap closed"] = f"{100 * closed:.0f} %" if row.make else ""
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
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    values = {
        row.name: reporting.interval(
            100 * np.array(of_row(results, row.name, "accuracy"))
        )
        for row in rows
        if of_row(results, row.name, "accuracy")
    }
    names = sorted(values, key=lambda name: values[name][0])
    colours = [
        "C1" if name in ("alone", "SoftTargets") else "C0" for name in names
    ]
    figure, axes = pyplot.subplots(
        figsize=(8, 0.26 * len(names) + 1.2), layout="constrained"
    )
    for place, (name, colour) in enumerate(zip(names, colours)):
        mean, half = values[name]
        half = 0.0 if math.isnan(half) else half
        axes.errorbar(
            mean, place, xerr=half, fmt="o", color=colour, capsize=2, ms=4
        )
    teacher = 100 * results["teacher"]["accuracy"]
    axes.axvline(teacher, color="grey", linestyle="--", label="teacher")
    soft = values["SoftTargets"][0]
    axes.axvline(soft, color="C1", linewidth=0.8, label="soft targets")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="test accuracy %, mean and 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def report(folder, rows):
    results = saved(folder / "results.json")
    times = saved(folder / "times.json")
    numbers = results["teacher"]
    print(
        f"teacher: {numbers['teacher_parameters']:,} parameters, "
        f"{numbers['teacher']:,} multiply-accumulates, "
        f"{100 * numbers['accuracy']:.1f} %\n"
        f"student: {numbers['student_parameters']:,} parameters, "
        f"{numbers['student']:,} multiply-accumulates\n"
    )
    lines = table_rows(results, times, rows)
    print(reporting.table(lines))
    seconds = sum(r.get("seconds", 0) for r in results.values())
    print(f"\n{seconds / 60:.0f} minutes of one core")
    picture(folder / "accuracy.png", results, rows)
    save(folder / "report.json", {"table": lines, "results": results})


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
    args = parser.parse_args()
    settings = dict(QUICK if args.quick else FULL)
    settings.update(quick=args.quick, held_out=args.held_out)
    name = "compare_losses"
    for option in ("rate", "temperature"):
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
    chosen = [row for row in rows if not args.rows or row.name in args.rows]
    if args.time:
        jobs = [(f"time/{r.name}", r.name, None) for r in chosen if r.make]
        do(jobs, folder / "times.json", settings, args.processes)
    elif not args.table:
        seeds = range(args.seeds or (1 if args.quick else 3))
        jobs = [(f"{r.name}/{s}", r.name, s) for s in seeds for r in chosen]
        do(jobs, folder / "results.json", settings, args.processes)
    report(folder, rows)


if __name__ == "__main__":
    main()
