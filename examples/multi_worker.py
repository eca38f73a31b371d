"""Distillation on several machines: here two processes on this one.

    python examples/multi_worker.py

Each process is what would run on a machine of its own, with the same program:
only `TF_CONFIG` differs. The global batch is shared among the workers; the
first one, the chief, writes the files. A run that was killed goes on from the
last epoch's backup when it is started again.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys

OUT = pathlib.Path(__file__).parent.parent / "saved_models" / "multi_worker"
BATCH_SIZE = 64


def network(layers, width, name):
    import keras

    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(width, 3, padding="same", activation="relu"),
            layers.Conv2D(2 * width, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ],
        name=name,
    )


def work(epochs):
    """What every machine runs."""
    import tensorflow as tf

    # Before anything else of TensorFlow: it connects the workers.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    import keras

    import keras_distill as kd

    keras.utils.set_random_seed(0)  # The same first weights everywhere.
    digits = kd.datasets.digits()
    train = tf.data.Dataset.from_tensor_slices((digits.x_train, digits.y_train))
    train = train.shuffle(2000, seed=0).batch(BATCH_SIZE)
    test = tf.data.Dataset.from_tensor_slices((digits.x_test, digits.y_test))
    test = test.batch(BATCH_SIZE)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    path = OUT / "teacher.weights.h5"

    with strategy.scope():
        teacher = network(keras.layers, 32, "teacher")
        teacher.load_weights(path)
        distiller = kd.Distiller(
            student=network(keras.layers, 8, "student"),
            teacher=teacher,
            distillation_losses=kd.losses.SoftTargets(temperature=2.0),
        )
        distiller.compile(
            keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"]
        )
    chief = not strategy.cluster_resolver.task_id
    distiller.fit(
        train,
        validation_data=test,
        epochs=epochs,
        verbose=2 if chief else 0,
        callbacks=[kd.callbacks.BackupAndResume(OUT / "backup")],
    )
    if chief:
        distiller.export(OUT / "student.tflite", overwrite=True)


def train_teacher(epochs):
    """One process; the workers load what it saved."""
    import keras

    import keras_distill as kd

    keras.utils.set_random_seed(0)
    digits = kd.datasets.digits()
    teacher = network(keras.layers, 32, "teacher")
    teacher.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    teacher.fit(
        digits.x_train,
        digits.y_train,
        BATCH_SIZE,
        epochs=epochs,
        verbose=2,
        validation_data=(digits.x_test, digits.y_test),
    )
    OUT.mkdir(parents=True, exist_ok=True)
    teacher.save_weights(OUT / "teacher.weights.h5")


def start(workers, epochs):
    """Starts this file once per worker, each with its own TF_CONFIG."""
    sockets = [socket.socket() for _ in range(workers)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    processes = []
    for index in range(workers):
        config = {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        command = [sys.executable, __file__, "--epochs", str(epochs)]
        processes.append(subprocess.Popen(command, env=environment))
    return [process.wait() for process in processes]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one epoch")
    args = parser.parse_args()
    epochs = 1 if args.quick else args.epochs
    if "TF_CONFIG" in os.environ:
        return work(epochs)
    train_teacher(epochs)
    codes = start(args.workers, epochs)
    if any(codes):
        raise SystemExit(f"exit codes of the workers: {codes}")


if __name__ == "__main__":
    main()
