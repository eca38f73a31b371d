"""Trains, is killed, and trains again; test_kills.py says when.

    python kill_worker.py FOLDER SEED...

For each seed: the training is started and killed at random moments until it
has ended. Prints `SEED KILLS DIGEST` for each, and `-1 0 DIGEST` of a training
that was not killed. Processes are forked, so that tensorflow is imported once;
the one that forks never uses it.
"""

import hashlib
import os
import pathlib
import random
import shutil
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import keras
import numpy as np
import plain_graphs  # noqa: F401

import keras_distill as kd

EPOCHS, STEPS = 5, 6
KILLS = 4


class Slow(keras.callbacks.Callback):
    """Says that training has begun, and gives the killer time."""

    def __init__(self, begun):
        super().__init__()
        self.begun = begun

    def on_train_batch_end(self, batch, logs=None):
        os.write(self.begun, b".")
        time.sleep(0.005)


def network(units, drop=0.0):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(units, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(drop),
            layers.Dense(3),
        ]
    )


def train(folder, begun):
    keras.utils.set_random_seed(0)
    x = np.random.normal(size=(75, 6)).astype("float32")
    y = np.random.randint(0, 3, 75)
    student = network(8, drop=0.3)
    distiller = kd.Distiller(
        student=student,
        teacher=network(16),
        distillation_losses=[
            kd.losses.SoftTargets(),
            kd.losses.Hint(
                teacher_layer_name="dense_2", student_layer_name="dense"
            ),
        ],
    )
    distiller.compile(
        keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=7),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = distiller.fit(
        kd.datasets.batches(x, y, 16, seed=0),
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        validation_data=(x, y),
        verbose=0,
        callbacks=[
            kd.callbacks.BackupAndResume(folder, save_freq=2),
            keras.callbacks.EarlyStopping(
                patience=3, restore_best_weights=True
            ),
            Slow(begun),
        ],
    )
    digest = hashlib.sha256(repr((history.epoch, history.history)).encode())
    for variable in [*distiller.variables, *distiller.optimizer.variables]:
        digest.update(np.asarray(variable).tobytes())
    return digest.hexdigest()


def started(folder):
    """Forks a training: its process, and a pipe of beginnings and the end."""
    ours, theirs = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.write(theirs, b"\n" + train(folder, theirs).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    return process, ours


def digest_of(process, pipe):
    with os.fdopen(pipe, "rb") as stream:
        digest = stream.read().rpartition(b"\n")[2].decode()
    os.waitpid(process, 0)
    return digest


def main(folder, seeds):
    folder = pathlib.Path(folder)
    print(-1, 0, digest_of(*started(folder / "whole")), flush=True)
    for seed in seeds:
        moments = random.Random(seed)
        for _ in range(KILLS):
            process, pipe = started(folder / str(seed))
            os.read(pipe, 1)
            time.sleep(moments.uniform(0.0, 0.2))
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(pipe)
        digest = digest_of(*started(folder / str(seed)))
        print(seed, KILLS, digest, flush=True)
        shutil.rmtree(folder / str(seed), ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], [int(seed) for seed in sys.argv[2:]])
