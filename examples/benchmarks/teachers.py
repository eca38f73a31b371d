"""What several teachers cost in a step, beside their parts.

    python examples/benchmarks/teachers.py            # three minutes
    python examples/benchmarks/teachers.py --quick    # numbers mean nothing

A residual student for 32x32 images and two larger teachers. All rows have the
same data (one batch, again and again, tf.data's autotuner off), optimizer and
losses; jit_compile=False, which is what "auto" is on a CPU. The parts are the
plain student's step (Model.fit's train function) and each teacher's forward
pass in inference mode.

Rounds of one call each (as many calls as take 20 ms), in an order drawn anew.
Ratios are per round, to the same round's denominator: medians over the rounds,
with quartiles, by the clock; beside it the median ratio of processor time,
which other programs on the machine disturb less.
"""

import argparse
import functools
import os
import pathlib
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from _shared.measuring import CLASSES
from _shared.measuring import THREADS
from _shared.measuring import quartiles
from _shared.measuring import resnet
from _shared.measuring import timed
from _shared.measuring import use_threads
from _shared.reporting import table

PLAIN, FIRST, SECOND = "plain student step", "first forward", "second forward"
ONE, TWO, LIST = "one teacher", "two by name", "two as a list (kd.Ensemble)"
UNUSED, SAMPLED = "two by name, one unused", "two by name, sampled"

# What is compared with the sum of what, with the share of each.
RATIOS = {
    f"{ONE} / its parts": (ONE, {PLAIN: 1, FIRST: 1}),
    f"{TWO} / their parts": (TWO, {PLAIN: 1, FIRST: 1, SECOND: 1}),
    f"{TWO} / {LIST}": (TWO, {LIST: 1}),
    f"{UNUSED} / {ONE}": (UNUSED, {ONE: 1}),
    f"{SAMPLED} / their mean parts": (
        SAMPLED,
        {PLAIN: 1, FIRST: 0.5, SECOND: 0.5},
    ),
}


def data(batch):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(batch, 32, 32, 3)).astype("float32")
    y = generator.integers(0, CLASSES, batch)
    dataset = tf.data.Dataset.from_tensors((x, y)).cache().repeat()
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def functions(width, blocks, batch):
    """Label -> function without arguments; each was called."""
    keras.utils.set_random_seed(0)
    first, second = resnet(2 * width, blocks), resnet(3 * width, blocks)

    def fitted(model):
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
        batches = data(batch)
        model.fit(batches, steps_per_epoch=2, verbose=0)
        return functools.partial(model.train_function, iter(batches))

    def distilled(teacher, name=None):
        keras.utils.set_random_seed(0)
        return fitted(
            kd.Distiller(
                student=resnet(width, blocks),
                teacher=teacher,
                distillation_losses=kd.losses.SoftTargets(
                    teacher_layer_name=name
                ),
            )
        )

    def forward(teacher):
        @tf.function(jit_compile=False, autograph=False)
        def run(iterator):
            x, _ = iterator.get_next()
            return teacher(x, training=False)

        batches = iter(data(batch))
        run(batches)
        return functools.partial(run, batches)

    names = ["first", "second"]
    members = {"first": first, "second": second}
    sampled = kd.teachers.Combination(names, rule="sample")
    both = kd.Teachers(members, combinations={"both": names, "any": sampled})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "teacher: no loss reads")
        return {
            PLAIN: fitted(resnet(width, blocks)),
            FIRST: forward(first),
            SECOND: forward(second),
            ONE: distilled(first),
            TWO: distilled(both, "both"),
            LIST: distilled([first, second]),
            UNUSED: distilled(members, "first"),
            SAMPLED: distilled(both, "any"),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    size = {"width": 16, "blocks": 1, "batch": 64}
    if arguments.quick:
        size, arguments.rounds = {"width": 4, "blocks": 1, "batch": 8}, 2
    use_threads()
    seconds = timed(functions(**size), arguments.rounds)
    print(
        f"ResNet-8 of {size['width']} channels, teachers of "
        f"{2 * size['width']} and {3 * size['width']}; batch {size['batch']}, "
        f"{THREADS} threads, {arguments.rounds} rounds."
    )
    rows = [
        {
            "row": label,
            "ms": f"{1e3 * np.median(times[:, 0]):.1f}",
            "processor ms": f"{1e3 * np.median(times[:, 1]):.1f}",
        }
        for label, times in seconds.items()
    ]
    print(table(rows))
    rows = []
    for label, (of, parts) in RATIOS.items():
        floor = sum(share * seconds[part] for part, share in parts.items())
        low, middle, high = quartiles(seconds[of][:, 0] / floor[:, 0])
        processor = np.median(seconds[of][:, 1] / floor[:, 1])
        rows.append(
            {
                "ratio": label,
                "clock": f"{middle:.3f}",
                "quartiles": f"{low:.3f} to {high:.3f}",
                "processor": f"{processor:.3f}",
            }
        )
    print(table(rows))


if __name__ == "__main__":
    main()
