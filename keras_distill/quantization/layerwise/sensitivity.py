"""What quantizing each layer by itself costs."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_ignore_class
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_string
from keras_distill._arguments import checked_strings
from keras_distill._arguments import one_of
from keras_distill._data.sources import MappedData
from keras_distill._data.sources import weighted_batches
from keras_distill._progress import ProgressBar
from keras_distill.export import recipes
from keras_distill.export.network import check_preprocessing
from keras_distill.export.network import student_input
from keras_distill.quantization.layerwise.layers_in_file import layers_in_file
from keras_distill.quantization.layerwise.proposal import Sensitivity
from keras_distill.quantization.layerwise.trials import Trials
from keras_distill.quantization.ranges import range_layers
from keras_distill.views import Views

QUANTIZATIONS = ("int4", "int4_weights", "int8", "int8_weights", "int16x8")


def sensitivity(
    student: keras.Model,
    data: Any,
    *,
    quantizations: Sequence[str] = ("int4", "int8"),
    samples: int = 500,
    preprocessing: Views | Callable | None = None,
    output: str | None = None,
    ignore_class: int | None = None,
    verbose: bool = True,
) -> Sensitivity:
    """Measures what quantizing each layer by itself costs.

    The student is converted once. Then one layer at a time is quantized, the
    rest of the file stays float32, and the file is run on the data. For the
    outputs `z` of the student and `f` of a file:

        divergence            mean KL(softmax(z) || softmax(f)); of a head of
                              one unit, or of several labels, with the sigmoid
        agreement             share with argmax f = argmax z
        accuracy_drop_points  100 * (accuracy of z - accuracy of f), if the
                              data has labels
        bytes_saved           bytes of weights and scales that the layer saves

    A layer without weights (an addition, a pooling, an activation) is
    quantized with the layer before it. A layer whose operators have no kernel
    for a quantization (4 bits: depthwise convolutions) has no row for it.

    Damages of layers do not add, so `recipe` of the result runs the files that
    it composes. Ranges and damages are measured on the same data, and the
    recipe is chosen by them: verify the exported file on other data.

    Args:
        student: A built `keras.Model` in floats. Sizes that it leaves open are
            those of the data.
        data: Data that training has not used, all classes mixed: as for
            `dataset` of `kd.export.verify`, with labels or without.
        quantizations: What to try for each layer, of `"int4"` (4-bit weights,
            int8 activations), `"int8"`, `"int16x8"` (int8 weights, int16
            activations), `"int4_weights"` and `"int8_weights"` (float
            arithmetic). Defaults to `("int4", "int8")`.
        samples: How many samples to use at most: the first of a dataset,
            evenly spaced ones of arrays. Defaults to 500. Each layer takes
            as long as a file takes for that many samples, for each of the
            `quantizations`.
        preprocessing: What turns the data's `x` into the student's input, as
            in `kd.export.verify`. Defaults to `None`.
        output: Which output to compare, if the student has several. As in
            `kd.export.verify`.
        ignore_class: The label of positions without a class. Defaults to
            `None`.
        verbose: Whether to show progress.

    Returns:
        A `Sensitivity`: `print` it, or ask its `recipe(...)`.

    Raises:
        ImportError: If ai-edge-quantizer is not installed
            (`pip install "keras-distill[quantization]"`).
        TypeError, ValueError: If an argument or the data do not fit.
        ExportError: If TFLite cannot convert the student.

    Example:

    ```python
    images = np.random.uniform(size=(64, 12, 12, 1)).astype("float32")
    labels = np.random.randint(0, 3, 64)
    student = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            keras.layers.Conv2D(16, 3, activation="relu", name="conv1"),
            keras.layers.Conv2D(32, 3, activation="relu", name="conv2"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    result = kd.quantization.sensitivity(student, (images, labels))
    print(result)
    recipe = result.recipe(max_accuracy_drop=1.0)
    print(recipe)
    kd.export.tflite(
        student,
        "mixed.tflite",
        quantization=recipe,
        representative_dataset=images,
    )
    ```
    """
    checked_model("student", student)
    if range_layers(student):
        raise ValueError(
            f"The student '{student.name}' rounds already: pass the float "
            "student."
        )
    for name in checked_strings("`quantizations`", quantizations):
        one_of("each of `quantizations`", name, QUANTIZATIONS)
    checked_integer("`samples`", samples)
    check_preprocessing(preprocessing)
    checked_string("`output`", output, or_none=True)
    checked_ignore_class(ignore_class)
    checked_boolean("`verbose`", verbose)
    recipes.check_installed("int4")
    batches = _batches(student, data, samples, preprocessing)
    trials = Trials(student, batches, output, ignore_class, verbose)
    layers = layers_in_file(trials.operators)
    student_row = trials.run([])
    kinds = sorted(set(quantizations), key=QUANTIZATIONS[::-1].index)
    progress = ProgressBar(len(layers) * len(kinds), "file", verbose)
    rows = []
    for layer in layers:
        known = set()
        for kind in kinds:
            row = _row(trials, layer, kind, student_row)
            progress.update(progress.current + 1)
            # Depthwise convolutions get int8 from "int4".
            result = row and (row["damage"], row["weights_bytes"])
            if row is not None and result not in known:
                known.add(result)
                rows.append(row)
    return Sensitivity(trials, layers, student_row, rows, verbose)


def _row(trials, layer, quantization, student_row):
    """Quantizes one layer; `None` if that cannot be done, or not be run."""
    recipe = recipes.rules(quantization, layer.regex)
    row = trials.run(recipe) if trials.quantizes(recipe) else None
    if row is None:
        return None
    saved = student_row["weights_bytes"] - row["weights_bytes"]
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "quantization": quantization,
        "bytes_saved": saved,
        **row,
    }


def _batches(student, data, samples, preprocessing):
    """Reads up to so many samples: a list of `(x, y, sample_weight)`."""
    if preprocessing is not None:

        def view(x):
            x = student_input(student, x, preprocessing)
            return keras.tree.map_structure(np.asarray, x)

        data = MappedData(data, view)
    read, left = [], samples
    for batch in weighted_batches(data, "data", samples):
        batch = keras.tree.map_structure(
            lambda a: None if a is None else a[:left], batch
        )
        read.append(batch)
        left -= len(keras.tree.flatten(batch[0])[0])
        if left <= 0:
            break
    if not read:
        raise ValueError("`data` is empty. Was it consumed before?")
    return read
