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
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from _shared.reporting import table  # noqa: E402
from losses import SAVED  # noqa: E402
from losses import THREADS  # noqa: E402
from losses import peak_bytes  # noqa: E402
from losses import quartiles  # noqa: E402
from losses import resident  # noqa: E402
from losses import resnet  # noqa: E402
from losses import timed  # noqa: E402

PLAIN, TEACHER = "plain student step", "teacher forward"
OURS, STOCK = "kd.Distiller", "keras.distillation"
OURS_FEATURE, STOCK_FEATURE = f"{OURS}, + feature", f"{STOCK}, + feature"
HALF, PIECES = f"{OURS}, teacher in bfloat16", f"{OURS}, teacher by quarters"
HAND = "by hand"
FLOOR = (PLAIN, TEACHER)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A ratio of two sums of rows, and what it is to be.

    Args:
        of: Labels of rows, above the line.
        to: The same below.
        target: The bound; none: it is for information.
        at_least: Whether the ratio is to be above it.
    """

    of: tuple
    to: tuple
    target: float | None = None
    at_least: bool = False

    @property
    def label(self):
        names = ["floor" if s == FLOOR else s[0] for s in (self.of, self.to)]
        return " / ".join(names)

    def ratios(self, seconds):
        """`(rounds, 2)`: by the clock, and of processor time."""
        of, to = (sum(seconds[row] for row in s) for s in (self.of, self.to))
        return of / to

    def wanted(self):
        if self.target is None:
            return ""
        return f"{'>=' if self.at_least else '<='} {self.target:.2f}"

    def met(self, ratio):
        if self.target is None:
            return ""
        ratio = round(ratio, 2)  # As precise as the target.
        good = ratio >= self.target if self.at_least else ratio <= self.target
        return "yes" if good else "no"


MEMORY = Comparison((OURS_FEATURE,), FLOOR, 1.05)
WITH_FEATURES = (
    Comparison((OURS_FEATURE,), FLOOR, 1.05),
    Comparison((STOCK_FEATURE,), (OURS_FEATURE,), 1.3, at_least=True),
    Comparison((STOCK_FEATURE,), FLOOR),
)
LOGITS_ONLY = (
    Comparison((OURS,), FLOOR),
    Comparison((OURS,), (STOCK,), 1.0),
    Comparison((OURS,), (HAND,), 1.03),
    Comparison((HALF,), (OURS,)),
    Comparison((PIECES,), (OURS,)),
)
FIXED_COST = (
    Comparison((OURS,), (PLAIN,), 1.45),
    Comparison((STOCK,), (PLAIN,)),
    Comparison((HAND,), (PLAIN,)),
    Comparison((OURS,), (STOCK,), 1.0),
)


@dataclasses.dataclass(frozen=True)
class TeacherStudent:
    """Two networks and their data.

    Args:
        teacher, student: Functions without arguments.
        shape: Of a sample.
        classes: How many.
        batch: Samples.
        tap: A layer of both whose outputs have one shape; none: no features.
        comparisons: What is printed.
    """

    teacher: Callable
    student: Callable
    shape: tuple
    classes: int
    batch: int
    tap: str | None
    comparisons: tuple

    def data(self):
        """Endless batches."""
        generator = np.random.default_rng(0)
        x = generator.normal(size=(self.batch, *self.shape)).astype("float32")
        y = generator.integers(0, self.classes, self.batch).astype("int32")
        options = tf.data.Options()
        options.autotune.enabled = False
        batches = tf.data.Dataset.from_tensors((x, y)).repeat()
        return batches.with_options(options)


def mobilenet(alpha, size=96, classes=100):
    return keras.applications.MobileNetV2(
        input_shape=(size, size, 3),
        alpha=alpha,
        weights=None,
        classes=classes,
        classifier_activation=None,
    )


def one_layer(classes=2):
    inputs = keras.Input((1,))
    return keras.Model(inputs, keras.layers.Dense(classes)(inputs))


def pairs(quick):
    """Name -> `TeacherStudent`."""
    partial = functools.partial
    width, size, batches = (8, 32, (16, 8)) if quick else (32, 96, (64, 64))
    return {
        "residual": TeacherStudent(
            teacher=partial(resnet, width, 2),
            student=partial(resnet, width, 1),
            shape=(32, 32, 3),
            classes=100,
            batch=batches[0],
            tap="stage2",
            comparisons=WITH_FEATURES + LOGITS_ONLY,
        ),
        "MobileNetV2": TeacherStudent(
            teacher=partial(mobilenet, 1.0, size),
            student=partial(mobilenet, 0.35, size),
            shape=(size, size, 3),
            classes=100,
            batch=batches[1],
            tap="out_relu",
            comparisons=WITH_FEATURES + LOGITS_ONLY,
        ),
        "one-layer": TeacherStudent(
            teacher=one_layer,
            student=one_layer,
            shape=(1,),
            classes=2,
            batch=32,
            tap=None,
            comparisons=FIXED_COST,
        ),
    }


class Bench:
    """The rows of one pair: functions without arguments."""

    def __init__(self, pair):
        self.pair = pair
        self.teacher = self.network(pair.teacher)

    def network(self, function):
        keras.utils.set_random_seed(0)
        return function()

    def compiled(self, model):
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
        return model

    def fitted(self, model):
        """The train function, after two steps of `fit`."""
        data = self.pair.data()
        self.compiled(model).fit(data, steps_per_epoch=2, verbose=0)
        return functools.partial(model.train_function, iter(data))

    def plain(self):
        return self.fitted(self.network(self.pair.student))

    def teacher_forward(self):
        @tf.function(jit_compile=False, autograph=False)
        def forward(iterator):
            x, _ = iterator.get_next()
            return self.teacher(x, training=False)

        return functools.partial(forward, iter(self.pair.data()))

    def ours(self, feature=False, **options):
        losses = [kd.losses.SoftTargets()]
        if feature:
            losses.append(
                kd.losses.Hint(
                    teacher_layer_name=self.pair.tap,
                    student_layer_name=self.pair.tap,
                    regressor=None,
                )
            )
        return self.fitted(
            kd.Distiller(
                student=self.network(self.pair.student),
                teacher=self.teacher,
                distillation_losses=losses,
                **options,
            )
        )

    def stock(self, feature=False):
        losses = [
            # Its default, a string, is compared without a softmax.
            keras.distillation.LogitsDistillation(
                temperature=1.0, loss=keras.losses.KLDivergence()
            )
        ]
        if feature:
            losses.append(
                keras.distillation.FeatureDistillation(
                    loss="mse",
                    teacher_layer_name=self.pair.tap,
                    student_layer_name=self.pair.tap,
                )
            )
        return self.fitted(
            keras.distillation.Distiller(
                teacher=self.teacher,
                student=self.network(self.pair.student),
                distillation_losses=losses,
            )
        )

    def by_hand(self):
        """What `ours` does without features, as one writes it oneself."""
        student = self.compiled(self.network(self.pair.student))
        optimizer = student.optimizer
        optimizer.build(student.trainable_variables)
        crossentropy = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        )
        mean = keras.metrics.Mean("loss")
        accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")

        @tf.function(jit_compile=False, autograph=False)
        def step(iterator):
            x, y = iterator.get_next()
            log_p = tf.nn.log_softmax(self.teacher(x, training=False))
            with tf.GradientTape() as tape:
                logits = student(x, training=True)
                log_q = tf.nn.log_softmax(logits)
                divergence = tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), -1)
                divergence = tf.reduce_mean(divergence)
                loss = 0.5 * divergence + 0.5 * crossentropy(y, logits)
            variables = student.trainable_variables
            gradients = tape.gradient(loss, variables)
            optimizer.apply_gradients(zip(gradients, variables))
            mean.update_state(loss)
            accuracy.update_state(y, logits)
            return {"loss": mean.result(), "accuracy": accuracy.result()}

        return functools.partial(step, iter(self.pair.data()))

    def functions(self):
        """Label -> function; each was called."""
        made = {
            PLAIN: self.plain(),
            TEACHER: self.teacher_forward(),
            OURS: self.ours(),
            STOCK: self.stock(),
            HAND: self.by_hand(),
        }
        if self.pair.tap is not None:
            made[OURS_FEATURE] = self.ours(feature=True)
            made[STOCK_FEATURE] = self.stock(feature=True)
            made[HALF] = self.ours(teacher_dtype="bfloat16")
            made[PIECES] = self.ours(teacher_batch_size=self.pair.batch // 4)
        for label, function in made.items():
            function()
            for value in tf.nest.flatten(function()):
                if not np.isfinite(value).all():
                    raise ValueError(f"{label} gives {value}")
        return made


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


def memory(name, label, arguments):
    """The same in a process of its own; `None` where it does not tell."""
    environment = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "4096",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }
    done = subprocess.run(
        [sys.executable, __file__, "--memory-of", name, label, *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(f"No memory: {done.stderr.strip().splitlines()[-1]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def memory_row(name, processes, arguments):
    """Medians of the highest resident set and of the rise in a step."""
    found = {"floor": [], OURS_FEATURE: []}
    for _ in range(processes):
        for label, values in found.items():
            values.append(memory(name, label, arguments))
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
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
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
