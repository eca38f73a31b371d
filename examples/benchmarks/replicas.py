"""Throughput on two logical devices of one CPU against one.

    python examples/benchmarks/replicas.py

The same global batch on one device and shared by two, each in a process of
its own, in turn: samples per second of the distillation step, networks of
residual blocks on 32x32 images. Two devices of one CPU share its cores: what
is to be seen here is what replicas cost, not what they bring.
"""

import argparse
import os
import subprocess
import sys
import time

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def measure(devices, batch_size, rounds):
    """Prints samples per second of each round."""
    import keras
    import tensorflow as tf

    import keras_distill as kd

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
    with strategy.scope():
        distiller = kd.Distiller(
            student=kd.models.cifar_resnet(8),
            teacher=kd.models.cifar_resnet(14),
            distillation_losses=kd.losses.SoftTargets(),
        )
        distiller.compile(
            keras.optimizers.SGD(0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
    options = tf.data.Options()
    options.autotune.enabled = False
    data = data.cache().repeat().with_options(options)
    for number in range(rounds + 1):
        began = time.perf_counter()
        steps = 8 if number else 2
        distiller.fit(data, steps_per_epoch=steps, verbose=0)
        if number:
            print(steps * batch_size / (time.perf_counter() - began))


def rates(devices, options):
    command = [sys.executable, __file__, "--devices", str(devices)]
    for name in ("batch_size", "rounds"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


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
    found = {1: [], 2: []}
    for _ in range(options.processes):
        for devices in found:
            found[devices].append(np.median(rates(devices, options)))
    ratios = np.array(found[2]) / np.array(found[1])
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    print("| devices | samples per second, median of processes |")
    print("|---|---|")
    for devices, values in found.items():
        print(f"| {devices} | {np.median(values):.0f} |")
    print(
        f"\n2 against 1: {middle:.2f} ({low:.2f} to {high:.2f}), "
        f"{options.processes} pairs of processes"
    )


if __name__ == "__main__":
    main()
