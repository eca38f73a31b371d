"""TFLite's converter as a function of plain data, and as a process of its own.

This file imports TensorFlow and nothing of this package, so that a child
process can run it by its path. The child needs neither Keras nor the user's
layers, only the SavedModel that the parent wrote.
"""

import faulthandler
import itertools
import json
import pathlib
import sys
import traceback
import warnings

import numpy as np
import tensorflow as tf

SETTINGS, SAMPLES = "settings.json", "samples.npz"
CONVERTED, FAILURE = "converted.tflite", "failure.json"
_INT16 = "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"


def converted(saved_model, settings, samples=None, progress=None):
    """Converts a SavedModel to the bytes of a TFLite file.

    Args:
        saved_model: Path of the folder.
        settings: A dict of plain values: `"signature_name"`, `"quantization"`
            (as in `kd.export.tflite`), `"select_tf_ops"` (bool),
            `"has_ranges"` (whether the SavedModel rounds to the ranges of an
            int8 file itself), and for integer files `"input_dtype"` and
            `"output_dtype"` (names), `"calibration_dtypes"`, a dict input name
            -> name of the dtype that the SavedModel takes, and
            `"calibration_batch"`, the number of samples per call.
        samples: What to calibrate on, for integer quantization without
            ranges: an iterable of dicts input name -> array `(1, ...)`.
            int16x8 reads it twice.
        progress: A function that is called before each sample is used;
            required with samples.

    Raises:
        Exception: Whatever the converter raises.
    """
    sets = tf.lite.OpsSet
    quantization = settings["quantization"]
    # TFLITE_BUILTINS_INT8 demands representative data.
    builtins = (
        sets.TFLITE_BUILTINS
        if settings["has_ranges"]
        else sets.TFLITE_BUILTINS_INT8
    )
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_model), signature_keys=[settings["signature_name"]]
    )
    # Variables that a model writes to (a subclass that counts its calls).
    converter.experimental_enable_resource_variables = True
    allowed = {
        "int8": builtins,
        "int16x8": getattr(sets, _INT16),
    }.get(quantization, sets.TFLITE_BUILTINS)
    # Keras's default allows operators of TensorFlow (Flex), which most builds
    # of the interpreter lack.
    converter.target_spec.supported_ops = [allowed]
    if settings["select_tf_ops"]:
        converter.target_spec.supported_ops += [sets.SELECT_TF_OPS]
    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if samples is not None:

        def calibration():
            return calibration_batches(samples, settings, progress)

        converter.representative_dataset = calibration
    if quantization in ("int8", "int16x8"):
        converter.inference_input_type = tf.as_dtype(settings["input_dtype"])
        converter.inference_output_type = tf.as_dtype(settings["output_dtype"])
    with warnings.catch_warnings():
        # The converter's own use of tf.lite.Interpreter while calibrating.
        warnings.filterwarnings("ignore", message=r"[\s\S]*tf\.lite\.Interpr")
        return converter.convert()


def calibration_batches(samples, settings, progress):
    """Yields the samples in batches of the size that the network takes.

    Args:
        samples, settings, progress: As for `converted`.
    """
    for group in _groups(samples, settings["calibration_batch"]):
        for _ in group:
            progress()
        yield _batch(group, settings)


def store_samples(filepath, samples):
    """Stores a list of dicts name -> array as one `.npz`; sizes may differ."""
    arrays = {
        f"{i}/{name}": array
        for i, sample in enumerate(samples)
        for name, array in sample.items()
    }
    np.savez(filepath, **arrays)


class StoredSamples:
    """Reads what `store_samples` stored, in its order, one sample at a time."""

    def __init__(self, filepath):
        self._filepath = filepath

    def __iter__(self):
        with np.load(self._filepath) as arrays:
            parts = (key.split("/", 1) for key in arrays.files)
            for index, keys in itertools.groupby(parts, lambda part: part[0]):
                yield {name: arrays[f"{index}/{name}"] for _, name in keys}


def _groups(samples, size):
    """Yields lists of up to `size` successive samples whose arrays stack."""
    group = []
    for sample in samples:
        if group and _sizes(sample) != _sizes(group[0]):
            yield group
            group = []
        group.append(sample)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _sizes(sample):
    return {name: array.shape for name, array in sample.items()}


def _batch(group, settings):
    """Stacks a group to one batch, and repeats the last sample to fill it.

    A model of fixed batch size may contain that size (in a `Reshape`), so it
    runs on whole batches only.
    """
    group = group + group[-1:] * (settings["calibration_batch"] - len(group))
    return {
        name: np.concatenate([sample[name] for sample in group]).astype(
            dtype, copy=False
        )
        for name, dtype in settings["calibration_dtypes"].items()
    }


def main(folder):
    """Converts the contents of `folder`; prints `sample` before each one."""
    folder = pathlib.Path(folder)
    try:
        data = converted(
            folder,
            json.loads((folder / SETTINGS).read_text()),
            StoredSamples(folder / SAMPLES),
            progress=lambda: print("sample", flush=True),
        )
    except Exception as error:
        failure = {"type": type(error).__name__, "text": str(error)}
        (folder / FAILURE).write_text(json.dumps(failure))
        traceback.print_exc()
        return 1
    (folder / CONVERTED).write_bytes(data)
    return 0


if __name__ == "__main__":
    faulthandler.enable()  # a crash leaves its Python frames on stderr
    sys.exit(main(*sys.argv[1:]))
