"""Random budgets: does what `kd.models.mobile_within` returns keep to them?

    python examples/benchmarks/budgets.py

For each budget the returned student gets new random weights, as a training
would give it, and is exported and measured again: other weights, other images,
another time. Budgets that no student meets are counted apart. The last line
says how many were violated, and the program fails if any was.
"""

import argparse
import pathlib
import sys
import tempfile

import keras
import numpy as np

import keras_distill as kd

SHAPES = {
    (8, 8, 1): 10,
    (28, 28, 1): 10,
    (32, 32, 3): 100,
    (64, 64, 3): 10,
}
# The ranges that budgets are drawn from, evenly in their logarithm.
RANGES = {"kib": (8, 300), "ms": (0.02, 2), "macs": (5e4, 2e7)}


def draw(rng):
    """Draws an image shape and a budget of one to three costs."""
    shape = list(SHAPES)[rng.integers(len(SHAPES))]
    keys = rng.permutation(list(RANGES))[: rng.integers(1, 4)]
    return shape, {
        str(key): float(f"{np.exp(rng.uniform(*np.log(RANGES[key]))):.3g}")
        for key in keys
    }


def measured_again(student, path, rng):
    """What the student costs with other weights."""
    for weight in student.weights:
        new = rng.normal(0.0, 0.05, weight.shape)
        weight.assign(keras.ops.abs(weight + new))
    images = rng.uniform(size=(64, *student.input_shape[1:]))
    kd.export.tflite(
        student,
        path,
        quantization="int8",
        representative_dataset=images.astype("float32"),
        overwrite=True,
        verbose=False,
    )
    file = kd.export.load(path, num_threads=1)
    return {
        "kib": file.size_in_bytes / 1024,
        "ms": float(np.median(file.measure_latency(images, runs=200))),
        "macs": kd.cost.multiply_accumulates(student),
    }


def text(costs):
    return ", ".join(
        f"{costs[key]:,.10g} {key}"
        if key == "macs"
        else f"{costs[key]:.3g} {key}"
        for key in RANGES
        if key in costs
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budgets", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    met = refused = violated = 0
    print("| image | budget | student | measured again | |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        while met < arguments.budgets:
            shape, budget = draw(rng)
            image = "x".join(map(str, shape))
            try:
                found = kd.models.mobile_within(
                    budget, shape, SHAPES[shape], verbose=False
                )
            except ValueError:
                refused += 1
                print(f"| {image} | {text(budget)} | none |  |  |", flush=True)
                continue
            met += 1
            path = pathlib.Path(folder) / "student.tflite"
            costs = measured_again(found.model, path, rng)
            over = [key for key in budget if costs[key] > budget[key]]
            violated += bool(over)
            options = found.options
            verdict = f"violated: {', '.join(over)}" if over else "kept"
            print(
                f"| {image} | {text(budget)} | width {options['width']}, "
                f"depth {options['depth']} | {text(costs)} | {verdict} |",
                flush=True,
            )
    print(
        f"\n{met} budgets, {violated} violated; {refused} more that no student "
        "meets."
    )
    return violated


if __name__ == "__main__":
    sys.exit(main())
