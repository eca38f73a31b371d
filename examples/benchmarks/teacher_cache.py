"""What a step from a teacher cache costs, and when a cache pays.

    python examples/benchmarks/teacher_cache.py

Images of 32x32 pixels under function matching (crop, flip, mixup), the same
views everywhere: a plain supervised step, a step from the cache, a step with a
live teacher. Rounds of one pass over the data are interleaved, so that what
else the machine does falls on all alike; ratios are of the same round, the
interval is the middle 95 % of 10000 bootstrap medians.
"""

import argparse
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_distill as kd
from keras_distill._data.batch_fields import unpacked

CLASSES, SIZE = 100, 32


def network(width, depth, name):
    layers = keras.layers
    inputs = keras.Input((SIZE, SIZE, 3))
    x = inputs
    for stage in range(3):
        for block in range(depth):
            strides = 2 if stage and not block else 1
            x = layers.Conv2D(
                width * 2**stage, 3, strides, padding="same", use_bias=False
            )(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x), name=name)


class Supervised(keras.Model):
    """The plain step, on the views of a Distiller."""

    def __init__(self, student, views):
        super().__init__()
        self.student, self.views = student, views
        self.built = True

    def train_step(self, data):
        x, y = data
        sample = unpacked(x)
        view = self.views.training(
            sample.inputs,
            y,
            epoch=sample.epoch,
            sample_index=sample.sample_index,
        )
        with tf.GradientTape() as tape:
            output = self.student(view.student, training=True)
            loss = self.compute_loss(y=view.y, y_pred=output)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.compute_metrics(None, view.y, output)


class Trainer:
    """A model with its endless data, to be timed in rounds."""

    def __init__(self, model, dataset, steps):
        self.model, self.steps = model, steps
        model.fit(dataset, steps_per_epoch=2, verbose=0)
        model.make_train_function()
        self.iterator = iter(dataset)
        self.round()

    def round(self):
        """Seconds per step, over one pass."""
        began = time.perf_counter()
        for _ in range(self.steps):
            logs = self.model.train_function(self.iterator)
        float(logs["loss"])
        return (time.perf_counter() - began) / self.steps


def compiled(model):
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    return model


def distiller(views, teacher=None):
    return compiled(
        kd.Distiller(
            student=network(32, 1, "student"),
            teacher=teacher,
            distillation_losses=kd.losses.SoftTargets(),
            views=views,
        )
    )


def with_interval(values):
    """Median, and where it would be if other rounds had been drawn."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(values, (10000, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return f"{statistics.median(values):.3f} ({low:.3f} to {high:.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=2, help="cached")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    x = np.random.uniform(size=(options.samples, SIZE, SIZE, 3))
    x = x.astype("float32")
    y = np.random.randint(0, CLASSES, options.samples).astype("int32")
    views = kd.views.FunctionMatching(
        SIZE, mixup=kd.views.Mixup(num_classes=CLASSES)
    )
    steps = options.samples // options.batch_size

    def batches():  # without tf.data's autotuner
        return kd.datasets.batches(
            x, y, options.batch_size, seed=0, indexed=True, group_size=16
        )

    def build(teacher, folder, **kwargs):
        began = time.perf_counter()
        cache = kd.TeacherCache.build(
            teacher,
            x,
            folder,
            views=views,
            epochs=options.epochs,
            verbose=False,
            **kwargs,
        )
        return cache, time.perf_counter() - began

    teachers = {
        "small teacher": network(32, 1, "small"),
        "large teacher": network(48, 2, "large"),
    }
    ten_logits = kd.teachers.StoredOutputs(top_k=10)
    with tempfile.TemporaryDirectory() as folder:
        caches = {
            f"{name}, {kept}": build(
                teacher, f"{folder}/{number}{kept}", **arguments
            )
            for number, (name, teacher) in enumerate(teachers.items())
            for kept, arguments in (
                ("all 100 logits", {}),
                ("10 logits", {"outputs": ten_logits}),
            )
        }
        trainers = {
            "supervised": Trainer(
                compiled(Supervised(network(32, 1, "student"), views)),
                batches(),
                steps,
            )
        }
        for name, (cache, _) in caches.items():
            trainers[f"cached: {name}"] = Trainer(
                distiller(views), cache.join(batches()), steps
            )
        for name, teacher in teachers.items():
            trainers[f"live: {name}"] = Trainer(
                distiller(views, teacher), batches(), steps
            )
        seconds = {name: [] for name in trainers}
        for _ in range(options.rounds):
            for name, trainer in trainers.items():
                seconds[name].append(trainer.round())

        print(
            f"\n{options.rounds} interleaved rounds of {steps} steps, batch "
            f"{options.batch_size}, {SIZE}x{SIZE}\n"
        )
        print("| step | median ms | ratio to supervised | bytes per view |")
        print("|---|---|---|---|")
        for name, times in seconds.items():
            ratios = [a / b for a, b in zip(times, seconds["supervised"])]
            cache = caches.get(name.removeprefix("cached: "))
            size = cache[0].bytes_per_view if cache else ""
            print(
                f"| {name} | {1e3 * statistics.median(times):.1f} | "
                f"{with_interval(ratios)} | {size} |"
            )

        print(
            f"\nseconds in all, for students of {options.epochs} epochs of "
            f"{options.samples} samples each (median step times; cached: with "
            "the time to build)\n"
        )
        print("| students | 1 | 2 | 3 | 4 | 5 |")
        print("|---|---|---|---|---|---|")
        for name in teachers:
            cache = f"{name}, all 100 logits"
            for kind, start in (
                (f"live: {name}", 0.0),
                (f"cached: {cache}", caches[cache][1]),
            ):
                each = options.epochs * steps * statistics.median(seconds[kind])
                row = [f"{start + n * each:.1f}" for n in range(1, 6)]
                print(f"| {kind} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
