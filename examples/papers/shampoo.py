"""Steps to the same agreement: Shampoo against Adam.

    python examples/papers/shampoo.py  # hours on a CPU
    python examples/papers/shampoo.py --quick  # tiny numbers
    KERAS_BACKEND=jax python examples/papers/shampoo.py --data data.npz

"A good teacher is patient and consistent" distils with Shampoo, in about four
times fewer steps than Adam. Here a depthwise student of Fashion-MNIST matches a
teacher's probabilities on blends of flipped and shifted images (temperature 1,
no labels). Each optimizer is tuned with the same budget, six learning rates at
1000 steps. Then it trains for several lengths, each with half a cosine down to
zero, with three seeds.

Agreement is that of the two networks' classes on training images which neither
has seen. TensorFlow is not needed where `--data` names a file of `x_train` and
`y_train`.
"""

import argparse
import concurrent.futures
import json
import math
import multiprocessing
import pathlib
import sys
import time

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import reporting
from _shared.small_networks import network
from _shared.small_networks import residual_block
from _shared.small_networks import separable_block

import keras_distill as kd

SAVED = pathlib.Path(__file__).parents[2] / "saved_models"
BATCH_SIZE, EPOCH, PASSES = 128, 50, 8
RATES = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003]
OPTIMIZERS = {
    "Adam": (RATES[2:], lambda: keras.optimizers.Adam()),
    "Shampoo, SGD's length": (
        RATES[:6],
        lambda: kd.optimizers.Shampoo(preconditioner_interval=10),
    ),
    "the same, merge_dims=128": (
        RATES[:6],
        lambda: kd.optimizers.Shampoo(
            preconditioner_interval=10, merge_dims=128
        ),
    ),
    "Muon": (
        RATES[2:],
        lambda: keras.optimizers.Muon(exclude_layers=["head"]),
    ),
}


def student():
    return network(separable_block, [(32, 2), (64, 2), (96, 1)])


def data(path, quick):
    """Images to train on, labels, images to judge by."""
    if path is None:
        split = kd.datasets.fashion_mnist()
        x, y = split.x_train, split.y_train
    else:
        with np.load(path) as file:
            x, y = file["x_train"], file["y_train"]
    x = x.reshape(-1, 28, 28, 1).astype("float32")
    x /= max(1.0, x.max())
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    count, judged = (2000, 500) if quick else (20_000, 10_000)
    return x[:count], y[:count], x[-judged:]


def views(x, rng):
    """Every image once: flipped, shifted, and blended with another."""
    x = np.where(rng.random((len(x), 1, 1, 1)) < 0.5, x, x[:, :, ::-1])
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    shifts = rng.integers(0, 7, (len(x), 2))
    x = np.stack(
        [p[i : i + 28, j : j + 28] for p, (i, j) in zip(padded, shifts)]
    )
    share = rng.random((len(x), 1, 1, 1), "float32")
    return share * x + (1 - share) * x[rng.permutation(len(x))]


def batches(x, y, seed):
    """Batches in a random order, without an end."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(x))
        for i in range(0, len(x) - BATCH_SIZE + 1, BATCH_SIZE):
            rows = order[i : i + BATCH_SIZE]
            yield x[rows], y[rows]


def prepare(path, args):
    """Trains the teacher; keeps its probabilities on all views."""
    keras.utils.set_random_seed(0)
    x, y, judged = data(args.data, args.quick)
    steps = 100 if args.quick else 4000
    teacher = network(residual_block, [(32, 1), (64, 2), (128, 2)])
    teacher.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(3e-3, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(batches(x, y, 0), steps_per_epoch=steps, epochs=1, verbose=0)
    rng = np.random.default_rng(1)
    seen = np.concatenate([views(x, rng) for _ in range(PASSES)])
    logits = teacher.predict(seen, batch_size=1000, verbose=0)
    classes = teacher.predict(judged, batch_size=1000, verbose=0).argmax(-1)
    np.savez(
        path,
        x=seen,
        y=np.asarray(keras.ops.softmax(logits)),
        judged=judged,
        classes=classes,
    )


def lengths(args):
    return [50, 100] if args.quick else [500, 1000, 2000, 4000]


def work(name, path, args):
    """All trainings with one optimizer: `(name, tuning, agreements, ms)`."""
    with np.load(path) as file:
        x, y = file["x"], file["y"]
        judged, classes = file["judged"], file["classes"]
    rates, optimizer = OPTIMIZERS[name]
    model = student()
    model.compile(
        optimizer(),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    model.optimizer.build(model.trainable_variables)
    fresh = [np.asarray(v) for v in model.optimizer.variables]

    seconds = []

    def agreement(rate, steps, seed):
        keras.utils.set_random_seed(1000 + seed)
        model.set_weights(student().get_weights())
        for variable, value in zip(model.optimizer.variables, fresh):
            variable.assign(value)

        def halfway_cosine(epoch):
            return rate * (1 + math.cos(math.pi * epoch * EPOCH / steps)) / 2

        began = time.perf_counter()
        model.fit(
            batches(x, y, seed),
            steps_per_epoch=EPOCH,
            epochs=steps // EPOCH,
            callbacks=[keras.callbacks.LearningRateScheduler(halfway_cosine)],
            verbose=0,
        )
        seconds.append(time.perf_counter() - began)
        logits = model.predict(judged, batch_size=1000, verbose=0)
        return float(np.mean(logits.argmax(-1) == classes))

    tuned_at = lengths(args)[1]
    tuning = {rate: agreement(rate, tuned_at, 9) for rate in rates}
    print(name, tuning, flush=True)
    best = max(tuning, key=tuning.get)
    agreements = {
        steps: [agreement(best, steps, seed) for seed in range(args.seeds)]
        for steps in lengths(args)
    }
    per_step = seconds[-1] / lengths(args)[-1]  # of the longest training
    print(name, agreements, f"{1000 * per_step:.1f} ms a step", flush=True)
    return name, tuning, agreements


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", default=str(SAVED / "shampoo"))
    args = parser.parse_args()
    if args.quick:
        args.seeds = 1
    out = pathlib.Path(args.out + "_quick" * args.quick)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "views.npz"
    spawn = multiprocessing.get_context("spawn")
    results = {}
    with concurrent.futures.ProcessPoolExecutor(
        args.processes, mp_context=spawn
    ) as pool:
        if not path.exists():
            pool.submit(prepare, path, args).result()
        jobs = [pool.submit(work, name, path, args) for name in OPTIMIZERS]
        for job in concurrent.futures.as_completed(jobs):
            name, tuning, agreements = job.result()
            results[name] = {"tuning": tuning, "agreements": agreements}
            (out / "results.json").write_text(json.dumps(results, indent=1))
    rows = []
    for name in OPTIMIZERS:
        tuning = results[name]["tuning"]
        row = {
            "optimizer": name,
            "rate": f"{max(tuning, key=tuning.get):g}",
        }
        for steps, values in results[name]["agreements"].items():
            row[f"{steps} steps"] = reporting.percent(values)
        rows.append(row)
    print(reporting.table(rows))


if __name__ == "__main__":
    main()
