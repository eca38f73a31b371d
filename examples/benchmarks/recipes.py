"""Files of 8 and 4 bits, and the recipe that `sensitivity` proposes.

    python examples/benchmarks/recipes.py            # 3 seeds
    python examples/benchmarks/recipes.py --quick    # one seed, few steps

A network of depthwise convolutions learns Fashion-MNIST. 2 000 training images
that it does not see give the ranges, and choose the recipe. The files run on
10 000 test images with LiteRT's default kernels (XNNPACK), and on 1 000 of them
with its reference kernels, which are those of microcontrollers.
"""

import argparse
import pathlib
import sys
import tempfile

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from _shared.reporting import interval
from _shared.reporting import percent
from _shared.reporting import table
from _shared.small_networks import network
from _shared.small_networks import separable_block

import keras_distill as kd

WIDTHS = [(24, 1), (32, 2), (32, 1), (64, 2), (64, 1)]
KINDS = (None, "int8", "int8_weights", "int4", "int4_weights")
HELD_OUT, ON_REFERENCE = 2000, 1000
# Percentage points.
DROP = 0.5


def trained(x, y, seed, epochs):
    keras.utils.set_random_seed(seed)
    student = network(separable_block, WIDTHS, name="student")
    steps = epochs * len(x) // 128
    student.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(4e-3, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    student.fit(x, y, batch_size=128, epochs=epochs, verbose=2)
    return student


def on_reference_kernels(path, images):
    """The classes that the kernels of microcontrollers give."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = Interpreter(
        str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    sink = interpreter.get_output_details()[0]["index"]
    classes = []
    for image in images:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        classes.append(interpreter.get_tensor(sink)[0].argmax())
    return np.array(classes)


def measured(path, data):
    """Size, and accuracy on both kinds of kernels."""
    classes = kd.export.load(path)(data.x_test).argmax(axis=-1)
    part = slice(0, ON_REFERENCE)
    reference = on_reference_kernels(path, data.x_test[part])
    return {
        "kib": path.stat().st_size / 1024,
        "accuracy": np.mean(classes == data.y_test),
        "reference": np.mean(reference == data.y_test[part]),
        "same": np.mean(reference == classes[part]),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    data = kd.datasets.fashion_mnist()
    held_out = data.x_train[:HELD_OUT], data.y_train[:HELD_OUT]
    x, y = data.x_train[HELD_OUT:], data.y_train[HELD_OUT:]
    epochs, seeds = (1, 1) if args.quick else (3, args.seeds)
    results = {}
    for seed in range(seeds):
        student = trained(x, y, seed, epochs)
        sensitivity = kd.quantization.sensitivity(
            student, held_out, samples=HELD_OUT
        )
        recipe = sensitivity.recipe(max_accuracy_drop=DROP)
        print(sensitivity, recipe, sep="\n\n")
        kinds = {str(kind or "float32"): kind for kind in KINDS}
        kinds[f"recipe, at most {DROP} points less"] = recipe
        for name, kind in kinds.items():
            with tempfile.TemporaryDirectory() as folder:
                path = kd.export.tflite(
                    student,
                    f"{folder}/student.tflite",
                    quantization=kind,
                    representative_dataset=held_out[0],
                    verbose=False,
                )
                results.setdefault(name, []).append(measured(path, data))
    rows = []
    for name, runs in results.items():
        column = {key: [run[key] for run in runs] for key in runs[0]}
        lost = np.subtract(
            [run["accuracy"] for run in results["float32"]], column["accuracy"]
        )
        rows.append(
            {
                "file": name,
                "KiB": f"{interval(column['kib'])[0]:.1f}",
                "accuracy %": percent(column["accuracy"]),
                "lost points": percent(lost, "+"),
                "reference kernels %": percent(column["reference"]),
                "same class on both %": percent(column["same"]),
            }
        )
    print(f"\n{student.count_params():,} parameters, {seeds} seed(s)\n")
    print(table(rows))


if __name__ == "__main__":
    main()
