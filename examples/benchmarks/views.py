"""What a view costs, beside keras-cv's own layers.

    python examples/benchmarks/views.py            # as in examples/README
    python examples/benchmarks/views.py --quick    # seconds, coarse numbers

One batch of 128 images of 64x64 in three colours goes through inception crop,
flip and mixup. Each row is one compiled function; rounds of one call each, in
an order drawn anew, so that all see the same disturbances of the machine.
Ratios are per round, to the same round's first row: median and quartiles.
"""

import argparse
import pathlib
import random
import sys
import time

import numpy as np
import tensorflow as tf

import keras_distill as kd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from _shared.reporting import table

BATCH, SIZE, CLASSES = 128, 64, 10


def keras_cv_layers():
    import keras_cv

    crop = keras_cv.layers.RandomCropAndResize(
        (SIZE, SIZE), (0.05, 1.0), (3 / 4, 4 / 3)
    )
    mixup = keras_cv.layers.MixUp(alpha=1.0)

    @tf.function
    def step(images, labels, index, epoch):
        images = crop(images, training=True)
        mixed = mixup({"images": images, "labels": labels}, training=True)
        return mixed["images"], mixed["labels"]

    return step


def our_view(jit_compile=False, indexed=True, **options):
    views = kd.views.FunctionMatching(SIZE, **options)
    views.jit_compile = jit_compile

    @tf.function(jit_compile=jit_compile)
    def step(images, labels, index, epoch):
        index = index if indexed else None
        return views.training(images, labels, None, epoch, index)[:3]

    return step


def measured(functions, rounds, arguments):
    """Seconds of every round: a dict label -> list."""
    for function in functions.values():
        function(*arguments)
    seconds = {label: [] for label in functions}
    for number in range(rounds):
        for label in random.sample(list(functions), len(functions)):
            start = time.perf_counter()
            results = functions[label](*arguments)
            tf.nest.flatten(results)[0].numpy()
            seconds[label].append(time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=100)
    args = parser.parse_args()
    random.seed(0)
    generator = np.random.default_rng(0)
    arguments = (
        tf.constant(generator.uniform(0, 1, (BATCH, SIZE, SIZE, 3)), "float32"),
        tf.one_hot(generator.integers(0, CLASSES, BATCH), CLASSES),
        tf.range(BATCH),
        tf.constant(0),
    )
    functions = {
        "keras-cv RandomCropAndResize + MixUp": keras_cv_layers(),
        "FunctionMatching": our_view(),
        "FunctionMatching without an index": our_view(indexed=False),
        "FunctionMatching, Beta(0.2, 0.2)": our_view(mixup=kd.views.Mixup(0.2)),
        "FunctionMatching, teacher at 96x96": our_view(teacher_image_size=96),
        "FunctionMatching, jit_compile=True": our_view(jit_compile=True),
    }
    seconds = measured(functions, 10 if args.quick else args.rounds, arguments)
    first = np.array(next(iter(seconds.values())))
    rows = []
    for label, times in seconds.items():
        low, median, high = np.percentile(times / first, [25, 50, 75])
        rows.append(
            {
                "view": label,
                "ms per batch": f"{1000 * np.median(times):.1f}",
                "ratio": f"{median:.2f} ({low:.2f}-{high:.2f})",
            }
        )
    print(table(rows))


if __name__ == "__main__":
    main()
