"""Throughput on two logical devices of one CPU against one.

    python examples/benchmarks/replicas.py

The same global batch on one device and shared by two, each in a process of
its own, in turn: samples per second of the student's own step (Model.fit) and
of the distillation step, networks of residual blocks on 32x32 images. Two
devices of one CPU share its cores: what is to be seen here is what replicas
cost, not what they bring.

Rounds are epochs of one fit over one iterator: when an iterator is deleted,
tf.data's autotuner can wait for its next turn, as long as the iterator has
lived (the iterators that tf.distribute makes do not let it be switched off).
"""

import argparse
import os
import subprocess
import sys
import time

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

STEPS = 8


def measure(devices, batch_size, rounds):
    """Prints samples per second of each round: plain, distillation."""
    import keras
    import tensorflow as tf

    import keras_distill as kd

    class Rounds(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            if epoch:  # The first one traces.
                took = time.perf_counter() - self.began
                print(STEPS * batch_size / took, end=" ")

    # As many threads for each: the cores of this machine.
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, logical)
    strategy = tf.distribute.get_strategy()
    if devices > 1:
        strategy = tf.distribute.MirroredStrategy(
            [f"CPU:{i}" for i in range(devices)]
        )
    keras.utils.set_random_seed(0)
    x = np.random.uniform(size=(4 * batch_size, 32, 32, 3)).astype("float32")
    y = np.random.randint(0, 10, len(x)).astype("int32")
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
    options = tf.data.Options()
    options.autotune.enabled = False
    data = data.cache().repeat().with_options(options)
    with strategy.scope():
        student = kd.models.cifar_resnet(8)
        distiller = kd.Distiller(
            student=kd.models.cifar_resnet(8),
            teacher=kd.models.cifar_resnet(14),
            distillation_losses=kd.losses.SoftTargets(),
        )
        for model in (student, distiller):
            model.compile(
                keras.optimizers.SGD(0.01),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                jit_compile=False,
            )
    for model in (student, distiller):
        model.fit(
            data,
            steps_per_epoch=STEPS,
            epochs=rounds + 1,
            verbose=0,
            callbacks=[Rounds()],
        )
        print()


def rates(devices, options):
    command = [sys.executable, __file__, "--devices", str(devices)]
    for name in ("batch_size", "rounds"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return [np.median([float(v) for v in line.split()]) for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=5, help="of each")
    parser.add_argument("--devices", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.devices:
        measure(options.devices, options.batch_size, options.rounds)
        return
    if options.quick:
        options.batch_size, options.rounds, options.processes = 8, 2, 1
    found = np.array(
        [
            [rates(devices, options) for devices in (1, 2)]
            for _ in range(options.processes)
        ]
    )
    print("| step | devices | samples per second, median of processes |")
    print("|---|---|---|")
    steps = ("plain student", "kd.Distiller")
    for k, name in enumerate(steps):
        for i in range(2):
            print(f"| {name} | {i + 1} | {np.median(found[:, i, k]):.0f} |")
    for k, name in enumerate(steps):
        low, middle, high = np.percentile(
            found[:, 1, k] / found[:, 0, k], [25, 50, 75]
        )
        print(
            f"\n{name}, 2 against 1: {middle:.2f} ({low:.2f} to {high:.2f}), "
            f"{options.processes} pairs of processes"
        )


if __name__ == "__main__":
    main()
