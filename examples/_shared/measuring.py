"""What the benchmarks share: a network, times and memory."""

import collections
import json
import os
import pathlib
import random
import subprocess
import sys
import time

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
THREADS = 2
CLASSES = 100


def use_threads():
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)


def resnet(width, blocks):
    """A ResNet of `6 * blocks + 2` layers for 32x32 images, with its taps."""
    inputs = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for stage in (1, 2, 3):
        channels = width * 2 ** (stage - 1)
        for block in range(1, blocks + 1):
            strides = 2 if block == 1 and stage > 1 else 1
            # What follows the last block of a stage is tapped.
            name = stage if block == blocks else f"{stage}_block{block}"
            y = layers.Conv2D(
                channels, 3, strides, padding="same", use_bias=False
            )(x)
            y = layers.ReLU()(layers.BatchNormalization()(y))
            y = layers.Conv2D(channels, 3, padding="same", use_bias=False)(y)
            y = layers.BatchNormalization(name=f"norm{name}")(y)
            if x.shape[1:] != y.shape[1:]:
                x = layers.Conv2D(channels, 1, strides, use_bias=False)(x)
                x = layers.BatchNormalization()(x)
            x = layers.Add(name=f"add{name}")([x, y])
            x = layers.ReLU(name=f"stage{name}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x))


def timed_call(function, at_least=0.02):
    """Seconds of one call, by the clock and of all processors together.

    Short functions are called until it is measurable.
    """
    calls, clock, processors = 0, time.perf_counter(), time.process_time()
    while True:
        function()
        calls += 1
        elapsed = time.perf_counter() - clock
        if elapsed >= at_least:
            used = time.process_time() - processors
            return elapsed / calls, used / calls


def timed(functions, rounds):
    """Label -> `(rounds, 2)` seconds of one call, see `timed_call`."""
    times = collections.defaultdict(list)
    generator = random.Random(0)
    for _ in range(rounds):
        order = list(functions)
        generator.shuffle(order)
        for label in order:
            times[label].append(timed_call(functions[label]))
    return {label: np.array(times[label]) for label in functions}


def quartiles(values):
    return np.percentile(values, (25, 50, 75)).tolist()


def resident(field):
    """`"VmRSS"` (now) or `"VmHWM"` (the highest) of this process, in bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def peak_bytes(function, calls=5):
    """How far the resident set rises while `function` runs: the median."""
    rises = []
    for _ in range(calls):
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # Resets VmHWM.
        before = resident("VmRSS")
        function()
        rises.append(resident("VmHWM") - before)
    return int(np.median(rises))


def in_a_process(script, *arguments):
    """Runs a script where freed memory goes back to the system at once.

    Returns what it prints last, read as JSON; `None` where it fails.
    """
    # Every tensor of a page or more is mapped on its own, and unmapped again.
    environment = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "4096",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    }
    done = subprocess.run(
        [sys.executable, script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(f"No memory: {done.stderr.strip().splitlines()[-1]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])
