"""From a Keras model to a file that ships: TFLite, `.keras`, SavedModel.

Every file is written whole or not at all: into a temporary folder beside its
destination, a TFLite file is opened and run there once, and then renamed.
Conversion itself is Keras's `Model.export`; here are the settings for each
quantization, the checks that come before it (a failed conversion speaks
MLIR), and the two changes that networks trained in half precision, or with
recurrent layers, need to become a file at all.
"""

import contextlib
import pathlib
import re
import time
import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_distill.export import model_inputs
from keras_distill.export.atomic_write import check_free
from keras_distill.export.atomic_write import written_whole
from keras_distill.export.lite_model import LiteModel
from keras_distill.export.lite_model import float_tensors

QUANTIZATIONS = (None, "float16", "dynamic", "int8", "int16x8")
# Format of `Model.export` (and "keras") -> how its path ends.
_SUFFIXES = {
    "litert": ".tflite",
    "keras": ".keras",
    "onnx": ".onnx",
    "openvino": ".xml",
    "tf_saved_model": "",
}


class ExportError(RuntimeError):
    """A model could not be converted, or what came out does not run."""


def tflite(
    model,
    filepath,
    *,
    quantization=None,
    representative_dataset=None,
    representative_samples=500,
    integer_io=False,
    input_signature=None,
    overwrite=False,
    verbose=True,
):
    """Writes a model as a TFLite file of builtin operators, and runs it once.

    Args:
        model: A built `keras.Model`. Layers in half precision are converted
            in float32; recurrent layers are unrolled for `"int8"` and
            `"int16x8"`. The model itself is left as it was.
        filepath: Where to write, ending in `.tflite`. Missing folders are
            made.
        quantization: `None`: float32. `"float16"`: weights in half precision.
            `"dynamic"`: int8 weights of large tensors, float arithmetic
            around them. `"int8"`: weights and activations in int8.
            `"int16x8"`: int16 activations, int8 weights. Defaults to `None`.
        representative_dataset: What `"int8"` and `"int16x8"` measure the
            range of activations on: inputs preprocessed as in training, all
            classes mixed. A `tf.data.Dataset` of `x`, `(x, y)` or
            `(x, y, sample_weight)` batches, any iterable of such batches or a
            function that returns one, one array, a dict of arrays, or a tuple
            `(x, y)`. Not read for other quantizations.
        representative_samples: How many samples to use at most: the first of
            a dataset, evenly spaced ones of arrays. Defaults to 500, the upper
            end of what TensorFlow's guide to post-training quantization
            advises (100 to 500).
        integer_io: Whether inputs and outputs of `"int8"` (`"int16x8"`) are
            int8 (int16) too. Defaults to `False`: they stay float32.
        input_signature: As in `keras.Model.export`, such as
            `[tf.TensorSpec((1, 96, 96, 3), tf.float32, name="image")]`, for
            models that leave sizes open. Defaults to `None`: the model's own
            inputs, by name, with batch size 1.
        overwrite: Whether an existing file may be replaced.
        verbose: Whether to show progress and print what was written.

    Returns:
        The `pathlib.Path` of the file.

    Raises:
        TypeError: If `model` is no `keras.Model`.
        ValueError: If the model is not built or leaves sizes open, if
            `filepath` does not end in `.tflite`, `quantization` is unknown, or
            representative data is missing, empty or does not fit the inputs.
        FileExistsError: If the file exists and `overwrite` is `False`.
        ExportError: If TFLite has no operator for a part of the model, or the
            converted file does not run. Nothing is left behind.

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
    signature, inputs = model_inputs.input_signature(model, input_signature)
    filepath = _checked_path(filepath, "litert", overwrite)
    if quantization not in QUANTIZATIONS:
        raise ValueError(
            f"`quantization` must be one of {list(QUANTIZATIONS)}. Received: "
            f"{quantization!r}"
        )
    integer = quantization in ("int8", "int16x8")
    if integer_io and not integer:
        raise ValueError(
            '`integer_io=True` needs quantization="int8" or "int16x8". '
            f"Received: quantization={quantization!r}"
        )
    for key, spec in inputs.items():
        if None in tuple(spec.shape)[1:]:
            raise ValueError(
                f"The input '{key}' of '{model.name}' leaves sizes open: "
                f"{tuple(spec.shape)}. A TFLite file needs them: "
                "`input_signature=[tf.TensorSpec((1, ...), tf.float32, "
                f'name="{spec.name}")]`.'
            )
    samples = None
    if integer:
        samples = model_inputs.representative_samples(
            representative_dataset, representative_samples, inputs, quantization
        )
    options = _converter_options(quantization, integer_io, samples, verbose)
    start = time.perf_counter()
    with written_whole(filepath, overwrite) as temporary:
        with _convertible(model, unroll=integer):
            _convert(model, temporary, signature, quantization, options)
        _run_once(
            temporary, samples[0] if samples else _zeros(inputs), quantization
        )
        if integer:
            _warn_of_float_operators(temporary, filepath.name)
    if verbose:
        kind, size = quantization or "float32", filepath.stat().st_size / 1024
        seconds = time.perf_counter() - start
        print(f"Saved '{filepath}': {kind}, {size:.1f} KiB, {seconds:.1f} s.")
    return filepath


def export_model(model, filepath, format=None, *, overwrite=False, **options):
    """Writes a model in the format that the path or `format` names.

    Args:
        model: A built `keras.Model`.
        filepath: `*.tflite` is LiteRT, `*.keras` the Keras model, `*.onnx`
            ONNX, `*.xml` OpenVINO, a path without suffix a SavedModel folder.
        format: `"litert"` (or `"tflite"`), `"keras"`, `"tf_saved_model"`,
            `"onnx"` or `"openvino"`. Defaults to `None`: by `filepath`.
        overwrite: Whether what exists may be replaced. A folder is replaced
            only if it holds a SavedModel or nothing.
        **options: For LiteRT those of `tflite`, for `"keras"` those of
            `Model.save`, else those of `Model.export`.

    Returns:
        The `pathlib.Path` of the file or folder.

    Raises:
        TypeError, ValueError, FileExistsError, ExportError: As `tflite`;
            `ValueError` also if path and format contradict each other.

    Example:

    ```python
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    kd.export.export_model(student, "student.tflite", quantization="float16")
    kd.export.export_model(student, "student.keras", overwrite=True)
    kd.export.export_model(student, "student")  # SavedModel
    ```
    """
    model_inputs.check_model(model)
    format = _chosen_format(filepath, format)
    if format == "litert":
        return tflite(model, filepath, overwrite=overwrite, **options)
    filepath = _checked_path(filepath, format, overwrite)
    with written_whole(filepath, overwrite) as temporary:
        if format == "keras":
            model.save(temporary, **options)
        else:
            model.export(str(temporary), format=format, **options)
    return filepath


def _chosen_format(filepath, format):
    suffix = pathlib.Path(filepath).suffix
    if format is None:
        found = [f for f, ending in _SUFFIXES.items() if ending == suffix]
        if not found:
            known = [ending for ending in _SUFFIXES.values() if ending]
            raise ValueError(
                f"The path '{filepath}' does not say its format: its suffix "
                f"'{suffix}' is none of {known}. "
                f"Give `format=`, one of {list(_SUFFIXES)}."
            )
        return found[0]
    format = "litert" if format == "tflite" else format
    if format not in _SUFFIXES:
        raise ValueError(
            f"`format` must be one of {list(_SUFFIXES)}, or None. Received: "
            f"{format!r}"
        )
    return format


def _checked_path(filepath, format, overwrite):
    """-> `pathlib.Path`, if it may be written to."""
    filepath = pathlib.Path(filepath)
    suffix = _SUFFIXES[format]
    foreign = filepath.suffix in set(_SUFFIXES.values()) - {""}
    if filepath.suffix != suffix if suffix else foreign:
        rule = f"end in '{suffix}'" if suffix else "be a folder's"
        raise ValueError(
            f"A path for the format '{format}' must {rule}. Received: "
            f"'{filepath}'"
        )
    check_free(filepath, overwrite, folder=not suffix)
    return filepath


def _converter_options(quantization, integer_io, samples, verbose):
    """-> attributes of `tf.lite.TFLiteConverter`, as Keras hands them on.

    Keras's own default allows operators of TensorFlow (Flex), which most
    builds of the interpreter lack; here only builtin ones are.
    """
    sets = tf.lite.OpsSet
    spec = {"supported_ops": [sets.TFLITE_BUILTINS]}
    options = {"target_spec": spec}
    if quantization is None:
        return options
    options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        spec["supported_types"] = [tf.float16]
    if samples is None:
        return options
    allowed, dtype = sets.TFLITE_BUILTINS_INT8, tf.int8
    if quantization == "int16x8":
        name = "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"
        allowed, dtype = getattr(sets, name), tf.int16
    spec["supported_ops"] = [allowed]
    if integer_io:
        options["inference_input_type"] = dtype
        options["inference_output_type"] = dtype

    def calibration():
        progress = keras.utils.Progbar(
            len(samples), verbose=int(bool(verbose)), unit_name="sample"
        )
        for sample in samples:
            yield sample
            progress.add(1)

    return {**options, "representative_dataset": calibration}


@contextlib.contextmanager
def _convertible(model, unroll):
    """The model as TFLite can take it; put back at the end.

    TFLite has no half-precision arithmetic of its own, so layers compute in
    float32 from the weights they have. Calibrating a recurrent layer that is a
    loop crashes the process, so loops are unrolled where `unroll`.
    """
    changed = []
    try:
        # No public walk reaches wrapped layers (Bidirectional, cells).
        for layer in model._flatten_layers():
            if layer.compute_dtype in ("float16", "bfloat16", "float64"):
                changed.append((layer, "dtype_policy", layer.dtype_policy))
                layer.dtype_policy = keras.DTypePolicy("float32")
            if unroll and isinstance(layer, keras.layers.RNN):
                changed.append((layer, "unroll", layer.unroll))
                layer.unroll = True
        yield
    finally:
        for layer, name, value in reversed(changed):
            setattr(layer, name, value)


def _convert(model, filepath, signature, quantization, options):
    with warnings.catch_warnings():
        # The converter's own use of tf.lite.Interpreter while calibrating.
        warnings.filterwarnings("ignore", message=r"[\s\S]*tf\.lite\.Interpr")
        try:
            model.export(
                str(filepath),
                format="litert",
                verbose=False,
                input_signature=signature,
                **options,
            )
        except Exception as error:
            text = str(error)
            found = re.findall(r"(?:Select|Flex|Custom) ops: (.+)", text)
            found += re.findall(r"supported for op: '(\w+)'", text)
            operators = ", ".join(dict.fromkeys(found))
            raise ExportError(
                f"'{model.name}' cannot be converted with quantization="
                f"{quantization!r}. "
                + (
                    "TFLite has no builtin operator of that kind for: "
                    f"{operators}. Write that part of the model with other "
                    "operations, or choose another quantization."
                    if operators
                    else f"{type(error).__name__}: {text[:500]}"
                )
            ) from error


def _zeros(inputs):
    return {
        spec.name: np.zeros(
            [size or 1 for size in spec.shape], spec.dtype.as_numpy_dtype
        )
        for spec in inputs.values()
    }


def _run_once(filepath, sample, quantization):
    try:
        LiteModel(filepath)(sample)
    except Exception as error:
        raise ExportError(
            f"The converted file (quantization={quantization!r}) does not run: "
            f"{error}. Nothing was written; choose another quantization."
        ) from error


def _warn_of_float_operators(filepath, name):
    """The converter leaves what it cannot quantize in float, and is silent."""
    left = float_tensors(filepath)
    if not left:
        return
    # "tfl.dequantize" is a cast; fused operators share one long name.
    left = {n.split(";")[0]: 0 for n in left if not n.startswith("tfl.")}
    left = ", ".join(left) or "what computes its output"
    warnings.warn(
        f"'{name}' is not integer throughout: TFLite could not quantize "
        f"{left}. It runs, but not on hardware without floats.",
        stacklevel=3,
    )
