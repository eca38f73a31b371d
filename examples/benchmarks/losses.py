"""What each distillation loss costs, beside a plain training step.

    python examples/benchmarks/losses.py                       # every loss
    python examples/benchmarks/losses.py --losses Hint DIST    # some
    python examples/benchmarks/losses.py --quick               # a minute

The student is a ResNet of 20 layers for 32x32 images (three stages of 32, 64
and 128 channels), its batch 128 images; the teacher has the same depth, twice
the channels and 100 classes. The plain step is the student's forward pass,
its gradient and the update. Of a loss, that part is measured which it adds:
its value, and its gradient with respect to the student's taps and to the
weights of its own connectors. The teacher's taps are computed beforehand.

Losses of transformers have a pair and a plain step of their own: a student of
four blocks of width 128 on 128 tokens, its batch 32 texts; the teacher is twice
as wide.

Rounds of one plain step and each loss, in an order drawn anew, so that all see
the same disturbances. Shares are per round, of the same round's plain step:
medians over the rounds, with quartiles. Time is given twice: by the clock, and
as processor time of this process, summed over its threads, which other
programs on the machine disturb less. The share is that of processor time.

Peak: how far the resident set of a process rises while the function runs, above
what it was with weights and taps in memory; median of 5 calls. Measured in a
process of its own, where freed memory goes back to the system at once
(`MALLOC_MMAP_THRESHOLD_`), without oneDNN, whose pool would keep it. Linux.
"""

import argparse
import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from _shared.measuring import CLASSES
from _shared.measuring import THREADS
from _shared.measuring import in_a_process
from _shared.measuring import peak_bytes
from _shared.measuring import quartiles
from _shared.measuring import resnet
from _shared.measuring import timed
from _shared.measuring import use_threads
from _shared.reporting import table

layers, losses = keras.layers, kd.losses
SAVED = pathlib.Path(__file__).parents[2] / "saved_models"
STAGES = ("stage1", "stage2", "stage3")
BEFORE_RELU = ("add1", "add2", "add3")
LAST, VECTOR, LOGITS = ("stage3",), ("pool",), ()
BLOCKS = tuple(f"block{number}" for number in (1, 2, 3, 4))
HEADS = tuple(f"{block}/attention" for block in BLOCKS)


@dataclasses.dataclass(frozen=True)
class Row:
    """A loss as it is commonly used.

    Args:
        loss: `Class` or `functools.partial(Class, ...)`.
        taps: Names of layers, the same in both networks; none: the outputs.
        note: What tells two rows of one class apart.
        tokens: Whether it is one of transformers.
    """

    loss: Callable
    taps: tuple = LOGITS
    note: str = ""
    tokens: bool = False

    @property
    def loss_class(self):
        return getattr(self.loss, "func", self.loss).__name__

    @property
    def label(self):
        return (
            f"{self.loss_class}, {self.note}" if self.note else self.loss_class
        )

    @property
    def plain_step(self):
        """The label of the step that it is compared with."""
        return "plain step of tokens" if self.tokens else "plain step"

    def make(self):
        """A new loss with its taps."""
        return self.loss(**self.named_taps())

    def named_taps(self):
        """The arguments that name the taps."""
        taps = list(self.taps) if len(self.taps) > 1 else "".join(self.taps)
        names = {"student_layer_name": taps or None}
        if self.loss_class not in ("SelfAttention", "EarlyExits"):
            names["teacher_layer_name"] = taps or None
        return names


partial = functools.partial
ROWS = [
    Row(losses.SoftTargets),
    Row(losses.JensenShannon),
    Row(losses.SkewKL),
    Row(losses.LogitsMSE),
    Row(losses.HardLabels),
    Row(partial(losses.DecoupledKD, alpha=1.0, beta=8.0, temperature=4.0)),
    Row(losses.DIST),
    Row(losses.ConfidenceWeightedByTeacherMax),
    Row(losses.DarkKnowledgeWithPermutedPredictions),
    Row(losses.Hint, STAGES[1:2]),
    Row(losses.AttentionTransfer, STAGES),
    Row(losses.NeuronSelectivityTransfer, STAGES),
    Row(losses.FactorTransfer, LAST),
    Row(losses.ActivationBoundary, BEFORE_RELU),
    Row(
        partial(
            losses.OverhauledFeature,
            batch_norm_layer_name=["norm1", "norm2", "norm3"],
        ),
        BEFORE_RELU,
    ),
    Row(losses.KnowledgeReview, STAGES),
    Row(losses.ChannelWise, LAST),
    Row(losses.PearsonFeature, LAST),
    Row(losses.MaskedGenerative, LAST),
    Row(losses.MultiTaskFeature, LAST),
    Row(losses.VariationalInformation, STAGES),
    Row(losses.LayerAlignedVariationalInformation, STAGES, "all to all"),
    Row(
        partial(
            losses.LayerAlignedVariationalInformation, alignment="identity"
        ),
        STAGES,
        "one to one",
    ),
    Row(losses.Relation, VECTOR),
    Row(losses.RelationalDistance, VECTOR),
    Row(losses.RelationalAngle, VECTOR),
    Row(partial(losses.FlowOfSolutionProcedure, regressor="auto"), STAGES),
    Row(losses.SimilarityPreserving, LAST),
    Row(losses.SimilarityPreserving, STAGES, "three maps"),
    Row(losses.CorrelationCongruence, VECTOR),
    Row(losses.ProbabilisticTransfer, VECTOR),
    Row(losses.InterChannelCorrelation, LAST),
    Row(
        partial(losses.ContrastiveRepresentation, sample_count=50000),
        VECTOR,
        "50 000 samples",
    ),
    Row(losses.QueueSimilarity, VECTOR, "4096 in the queue"),
    Row(losses.PatchSimilarity, LAST),
    Row(losses.SoftmaxRegression, LAST),
    Row(losses.ReusedClassifier, LAST),
    Row(losses.IdealJointClassifier, LAST),
    Row(losses.SelfAttention, STAGES),
    Row(losses.EarlyExits, (*STAGES, "logits"), "two exits"),
    Row(losses.HiddenStates, BLOCKS, "four blocks", tokens=True),
    Row(losses.AttentionProbabilities, HEADS, "four blocks", tokens=True),
    Row(losses.AttentionRelation, HEADS[-1:], "one block", tokens=True),
]


def transformer(width, length):
    """Four blocks on `length` tokens."""
    return kd.models.transformer_classifier(
        1000, CLASSES, length=length, width=width
    )


class Bench:
    """Two networks, one batch, and functions that take no arguments.

    Args:
        student: A `keras.Model`.
        teacher: A `keras.Model`.
        x: A batch of inputs.
        rows: The losses between the two.
    """

    def __init__(self, student, teacher, x, rows):
        self.student, self.teacher, self.rows = student, teacher, rows
        generator = np.random.default_rng(0)
        self.x = tf.constant(x)
        self.y = tf.constant(generator.integers(0, CLASSES, len(x)))
        self.taps = [self._taken(role) for role in ("teacher", "student")]

    def _taken(self, role):
        """Name of a tap -> what the network computes there, on one batch."""
        names = []
        for row in self.rows:
            wanted = getattr(row.make(), f"{role}_layer_name")
            names += [wanted] if isinstance(wanted, str) else wanted or []
        taps = kd.taps.Taps(getattr(self, role), list(dict.fromkeys(names)))
        output, taken = taps(self.x, training=True)
        return {"": output, **taken}

    def plain_step(self):
        """Forward pass, gradient and update of the student alone."""
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
        optimizer.build(self.student.trainable_variables)
        objective = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        @tf.function(jit_compile=False, autograph=False)
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = objective(y, self.student(x, training=True))
            variables = self.student.trainable_variables
            gradients = tape.gradient(loss, variables)
            optimizer.apply_gradients(zip(gradients, variables))
            return loss

        return functools.partial(step, self.x, self.y)

    def loss_step(self, row):
        """The loss, and its gradient for taps and connectors."""
        keras.utils.set_random_seed(0)
        loss = row.make()
        loss.bind(self.teacher, self.student)
        names = loss.teacher_layer_name, loss.student_layer_name
        teacher, student = map(_chosen, self.taps, names)
        if not loss.needs_teacher:
            teacher = None
        loss.build(_shapes(teacher), _shapes(student))
        extras = {"y": self.y} if loss.needs_labels else {}
        if loss.needs_sample_index:
            extras["sample_index"] = tf.range(len(self.y))

        @tf.function(jit_compile=False, autograph=False)
        def step(teacher, student, extras):
            with tf.GradientTape() as tape:
                tape.watch(student)
                value = loss.compute_loss(teacher, student, **extras)
            sources = [student, loss.trainable_variables]
            return value, tape.gradient(value, sources)

        return functools.partial(step, teacher, student, extras)

    def functions(self):
        """Label -> function, the plain step first; each was called once."""
        made = {self.rows[0].plain_step: self.plain_step()}
        made.update({row.label: self.loss_step(row) for row in self.rows})
        for label, function in made.items():
            values = [np.mean(v) for v in tf.nest.flatten(function())[:1]]
            if not np.isfinite(values).all():
                raise ValueError(f"{label} gives {values}")
        return made


def _chosen(taps, names):
    if isinstance(names, list):
        return {name: taps[name] for name in names}
    return taps[names or ""]


def benches(rows, width, blocks, batch, length, texts):
    """The `Bench`es that rows of losses need."""
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    made = []
    if of_images := [row for row in rows if not row.tokens]:
        x = generator.normal(size=(batch, 32, 32, 3)).astype("float32")
        pair = resnet(width, blocks), resnet(2 * width, blocks)
        made.append(Bench(*pair, x, of_images))
    if of_tokens := [row for row in rows if row.tokens]:
        x = generator.integers(1, 1000, (texts, length)).astype("int32")
        pair = transformer(4 * width, length), transformer(8 * width, length)
        made.append(Bench(*pair, x, of_tokens))
    return made


def _shapes(taps):
    if taps is None:
        return None
    return keras.tree.map_structure(lambda x: tuple(x.shape), taps)


def report_rows(times, peaks, plain_steps):
    """One dict per function, with numbers; the dearest first.

    Args:
        times: Label -> seconds, see `timed`.
        peaks: Label -> peak bytes, where the system tells.
        plain_steps: Label of a loss -> label of what it is compared with.
    """
    rows = []
    for label, values in times.items():
        shares = 100 * values / times[plain_steps.get(label, label)]
        rows.append(
            {
                "loss": label,
                "ms": 1e3 * float(np.median(values[:, 0])),
                "processor_ms": 1e3 * float(np.median(values[:, 1])),
                "per_cent_by_clock": quartiles(shares[:, 0]),
                "per_cent": quartiles(shares[:, 1]),
                "peak_bytes": peaks.get(label),
            }
        )
    return sorted(rows, key=lambda row: -row["per_cent"][1])


def printed(row):
    low, middle, high = row["per_cent"]
    peak = row["peak_bytes"]
    return {
        "loss": row["loss"],
        "ms": f"{row['ms']:.1f}",
        "processor ms": f"{row['processor_ms']:.1f}",
        "% of the plain step": f"{middle:.1f}",
        "quartiles": f"{low:.1f} to {high:.1f}",
        "peak MB": "" if peak is None else f"{peak / 1e6:.1f}",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--losses", nargs="+", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--peaks-only", action="store_true", help=argparse.SUPPRESS
    )
    args = parser.parse_args()
    known = {row.loss_class for row in ROWS}
    if unknown := set(args.losses or ()) - known:
        parser.error(f"no loss {sorted(unknown)}; there are {sorted(known)}")
    rows = [r for r in ROWS if not args.losses or r.loss_class in args.losses]
    use_threads()
    size = {"width": 32, "blocks": 3, "batch": 128, "length": 128, "texts": 32}
    if args.quick:
        size = {"width": 8, "blocks": 1, "batch": 16, "length": 16, "texts": 4}
        args.rounds = 2
    made = benches(rows, **size)
    functions = {k: f for bench in made for k, f in bench.functions().items()}
    if args.peaks_only:
        print(json.dumps({k: peak_bytes(f) for k, f in functions.items()}))
        return
    times = timed(functions, args.rounds)
    numbers = report_rows(
        times,
        in_a_process(__file__, "--peaks-only", *sys.argv[1:]) or {},
        {row.label: row.plain_step for row in rows},
    )
    for bench in made:
        print(
            f"student: {bench.student.count_params():,} parameters, "
            f"{kd.cost.multiply_accumulates(bench.student):,} "
            f"multiply-accumulates a sample; batch {len(bench.x)}, {THREADS} "
            f"threads, {args.rounds} rounds\n"
        )
    print(table([printed(row) for row in numbers]))
    out = SAVED / ("benchmarks_quick" if args.quick else "benchmarks")
    out.mkdir(parents=True, exist_ok=True)
    command = ["python", "examples/benchmarks/losses.py", *sys.argv[1:]]
    report = {
        "command": " ".join(command),
        **size,
        "rounds": args.rounds,
        "threads": THREADS,
        "rows": numbers,
        "seconds": {label: v.tolist() for label, v in times.items()},
    }
    (out / "losses.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
