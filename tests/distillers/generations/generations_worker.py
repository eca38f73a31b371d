"""Generations in a folder, also as a process that a test can kill."""

import signal
import sys

import keras
import numpy as np
import plain_graphs  # noqa: F401

import keras_distill as kd

layers = keras.layers
EPOCHS = 3


def build_student():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(16, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),  # its random generator has a state
            layers.Dense(3),
        ]
    )


def data(n=96):
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, n)
    x = generator.normal(size=(n, 6)) + np.eye(3, 6)[y]
    return x.astype("float32"), y.astype("int32")


def grouped(**options):
    """Arguments of `Distiller`, `compile` and `fit` -> those of born_again."""
    groups = {
        "distiller_options": (
            "alpha",
            "distillation_loss_weights",
            "distillation_losses",
        ),
        "compile_options": ("loss", "metrics", "optimizer", "run_eagerly"),
    }
    for group, names in groups.items():
        given = {n: options.pop(n) for n in names if n in options}
        options[group] = {**given, **options.get(group, {})}
    return options


def run(directory, callbacks=None, **options):
    x, y = data()
    arguments = {
        "generations": 2,
        "epochs": EPOCHS,
        "steps_per_epoch": 6,
        "optimizer": keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.02, 6 * EPOCHS)
        ),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
        "distillation_losses": (
            kd.losses.DarkKnowledgeWithPermutedPredictions()
        ),
        "alpha": 0.7,
        "validation_data": (x, y),
        "verbose": 0,
    }
    arguments.update(options)
    return kd.born_again(
        build_student,
        arguments.pop("dataset", kd.datasets.batches(x, y, 16, seed=0)),
        directory=directory,
        callbacks=callbacks,
        **grouped(**arguments),
    )


class At(keras.callbacks.Callback):
    """Does something at the beginning of an epoch, or in the middle of it."""

    def __init__(self, epoch, action, batch=None):
        super().__init__()
        self.epoch, self.action, self.batch = epoch, action, batch
        self.now = None

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch
        if self.batch is None and epoch == self.epoch:
            self.action()

    def on_train_batch_begin(self, batch, logs=None):
        if self.now == self.epoch and batch == self.batch:
            self.action()


if __name__ == "__main__":
    generation, epoch, batch = map(int, sys.argv[2:])

    def die():
        signal.raise_signal(signal.SIGKILL)

    run(
        sys.argv[1],
        lambda number: [At(epoch, die, batch)] * (number == generation),
        generations=3,
    )
