"""From a Keras model to a TFLite file that ships.

check       `ExportRequest`: everything that can be refused beforehand
convert     `conversion.convert`: a SavedModel, then TFLite's converter
accept      `acceptance.accept`: notes, a trial run, and only then a name
"""

import os
import pathlib
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_distill._arguments import checked_boolean
from keras_distill.export.acceptance import accept
from keras_distill.export.conversion import conversion
from keras_distill.export.paths import written_whole
from keras_distill.export.request import ExportRequest
from keras_distill.export.request import Interface
from keras_distill.views import Views


def tflite(
    model: keras.Model,
    filepath: str | os.PathLike,
    *,
    quantization: str | os.PathLike | Sequence[dict] | None = None,
    representative_dataset: Any = None,
    preprocessing: Views | Callable | None = None,
    interface: Interface | None = None,
    metadata: dict[str, Any] | None = None,
    overwrite: bool = False,
    verbose: bool = True,
) -> pathlib.Path:
    """Writes a model as a TFLite file of builtin operators, and runs it once.

    Args:
        model: A built `keras.Model`. Layers in half precision are converted
            in float32. Recurrent layers are unrolled if representative data
            is used, and for an open batch size. The states of `stateful=True`
            layers stay behind: in the file, every sequence begins with zeros.
            The model itself does not change. One of `kd.quantization.aware`
            has its ranges: it needs `"int8"` and no representative data, and
            every operator of its file is integer.
        filepath: Where to write, ending in `.tflite`. Missing folders are
            created.
        quantization: What the file computes with. Defaults to `None`.

            - `None`: float32. `"float16"`: weights in half precision.
            - `"int8"`: weights and activations in int8, integer arithmetic.
              `"int16x8"`: int8 weights, int16 activations. `"int4"`: 4-bit
              weights of convolutions and `Dense`, int8 for the rest, also
              for the weights of depthwise and transposed convolutions, which
              have no 4-bit kernels.
            - `"dynamic"`: int8 weights of large tensors; activations are
              quantized at each call.
            - `"int8_weights"`, `"int4_weights"`: the weights of convolutions
              and `Dense` are stored in 8 or 4 bits (depthwise and transposed
              ones in 8) and dequantized; the arithmetic is that of float32.
            - A recipe: a list of rules of Google's ai-edge-quantizer, or the
              path of its `.json`, for other bits from layer to layer. A
              rule's `"regex"` is looked for in names that begin with the
              Keras layer's name and `";"`: `"^(conv1|conv2);"`. The last
              rule that fits counts; what none fits stays float.
              `kd.quantization.sensitivity` proposes recipes.

            `"int4"`, `"int8_weights"`, `"int4_weights"` and recipes need
            `pip install "keras-distill[quantization]"`.
        representative_dataset: Data on which `"int8"`, `"int16x8"`, `"int4"`
            and recipes with integer activations measure the range of
            activations: inputs preprocessed as in training (raw ones, if the
            file contains the `preprocessing`), all classes mixed.
            A `tf.data.Dataset` of `x`, `(x, y)` or `(x, y, sample_weight)`
            batches, any iterable of such batches or a function that returns
            one, one array, a dict of arrays, or a tuple `(x, y)`. 500 samples
            are used; `kd.export.RepresentativeDataset(data, samples=...)`
            uses another number. Other quantizations do not read it.
        preprocessing: What the file does before the model, so that the app
            passes raw data: a Keras layer or model, a function of `x`, or a
            `kd.views.Views` (its `evaluation`). Unless it is a built model,
            `interface=kd.export.Interface(input_signature=...)` must say what
            the app passes. uint8 is cast to float32 first; in an int8 file it
            stays uint8. Before a model of `kd.quantization.aware`, it must
            be a layer or model that int8 knows too (`Rescaling`,
            `Normalization`, `Resizing`, ...). Defaults to `None`.
        interface: A `kd.export.Interface`: input signature, batch size, an
            activation behind the outputs, integer inputs and outputs, ...
            Defaults to float32 inputs and outputs of the model itself, one
            sample per call.
        metadata: A dict of what JSON can hold, stored in the file beside what
            `kd.export.metadata` lists. `"class_names"` is checked against the
            number of classes (of several outputs, one has to fit).
            `"input_range"`, `(low, high)`, says which values the input takes
            if no representative data does. A model of `kd.quantization.aware`
            with `preprocessing` needs it, unless the file takes uint8.
        overwrite: Whether to replace an existing file. Defaults to `False`.
        verbose: Whether to show progress and print what was written.

    Returns:
        The `pathlib.Path` of the file.

    Raises:
        TypeError: If `model` is not a `keras.Model`, or another argument has
            the wrong type.
        ValueError: If the model is not built or leaves sizes open, if
            `filepath` does not end in `.tflite`, if an argument is unknown or
            contradicts another, or if representative data is missing, empty or
            does not fit the inputs.
        FileExistsError: If the file exists and `overwrite` is `False`.
        ImportError: If `quantization` needs ai-edge-quantizer, and it is not
            installed.
        ExportError: If TFLite has no operator for a part of the model (the
            message names operator and layer), if its converter crashes, if
            the file does not run, or if that of a model of
            `kd.quantization.aware` is not integer throughout. Nothing is left
            behind.

    Warns:
        UserWarning: If representative data lies in another range than
            `"input_range"`, or if an integer file keeps floats inside; those
            of a recipe are meant.

    Example:

    ```python
    images = np.random.uniform(size=(200, 28, 28, 1)).astype("float32")
    student = keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    path = kd.export.tflite(
        student,
        "files/student_int8.tflite",
        quantization="int8",
        representative_dataset=images,
    )
    logits = kd.export.load(path)(images)
    ```
    """
    checked_boolean("`verbose`", verbose)
    request = ExportRequest(
        model,
        filepath,
        quantization=quantization,
        representative_dataset=representative_dataset,
        preprocessing=preprocessing,
        interface=interface,
        metadata=metadata,
        overwrite=overwrite,
    )
    return write(request, verbose)


def write(request, verbose=True, in_child=True):
    """Converts, accepts and writes a file, whole or not at all.

    Args:
        request: The `ExportRequest`.
        verbose: As in `tflite`.
        in_child: As in `conversion.convert`.

    Returns:
        The `pathlib.Path` of the file.
    """
    start = time.perf_counter()
    filepath = request.filepath
    with written_whole(filepath, request.overwrite) as file:
        file.write_bytes(conversion.convert(request, verbose, in_child))
        accept(file, request)
    if verbose:
        kind = request.quantization or "float32"
        size = filepath.stat().st_size / 1024
        seconds = time.perf_counter() - start
        print(f"Saved '{filepath}': {kind}, {size:.1f} KiB, {seconds:.1f} s.")
    return filepath
