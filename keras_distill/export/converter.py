"""TFLite's converter as a function of plain data, and as a process of its own.

Imports TensorFlow and nothing of this package, so that a child process can run
this file by its path: it needs neither Keras nor the user's layers, only the
SavedModel that the parent wrote.
"""

import faulthandler
import json
import pathlib
import sys
import traceback
import warnings

import numpy as np
import tensorflow as tf

REQUEST, SAMPLES = "request.json", "samples.npz"
CONVERTED, FAILURE = "converted.tflite", "failure.json"
_INT16 = "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"


def converted(saved_model, request, samples=None, progress=None):
    """A SavedModel as the bytes of a TFLite file.

    Args:
        saved_model: Path of the folder.
        request: A dict of plain values: `"signature_name"`, `"quantization"`
            (as in `kd.export.tflite`), `"input_dtype"` and `"output_dtype"`
            (names; of integer files), `"select_tf_ops"` (bool).
        samples: What to calibrate on, for integer quantization: a list of
            dicts input name -> array.
        progress: A function that is called before each sample; int16x8 goes
            through them twice.

    Raises:
        Exception: Whatever the converter raises.
    """
    sets = tf.lite.OpsSet
    quantization = request["quantization"]
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_model), signature_keys=[request["signature_name"]]
    )
    # Variables that a model writes to (a subclass that counts its calls).
    converter.experimental_enable_resource_variables = True
    allowed = {
        "int8": sets.TFLITE_BUILTINS_INT8,
        "int16x8": getattr(sets, _INT16),
    }.get(quantization, sets.TFLITE_BUILTINS)
    # Keras's own default allows operators of TensorFlow (Flex), which most
    # builds of the interpreter lack; here only builtin ones are.
    converter.target_spec.supported_ops = [allowed]
    if request["select_tf_ops"]:
        converter.target_spec.supported_ops += [sets.SELECT_TF_OPS]
    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if samples is not None:

        def calibration():
            for sample in samples:
                if progress is not None:
                    progress()
                yield sample

        converter.representative_dataset = calibration
        converter.inference_input_type = tf.as_dtype(request["input_dtype"])
        converter.inference_output_type = tf.as_dtype(request["output_dtype"])
    with warnings.catch_warnings():
        # The converter's own use of tf.lite.Interpreter while calibrating.
        warnings.filterwarnings("ignore", message=r"[\s\S]*tf\.lite\.Interpr")
        return converter.convert()


def store_samples(filepath, samples):
    """A list of dicts name -> array as one `.npz`; sizes may differ."""
    arrays = {
        f"{i}/{name}": array
        for i, sample in enumerate(samples)
        for name, array in sample.items()
    }
    np.savez(filepath, **arrays)


def stored_samples(filepath):
    """What `store_samples` stored, in its order."""
    samples = {}
    with np.load(filepath) as arrays:
        for key in arrays.files:
            index, name = key.split("/", 1)
            samples.setdefault(int(index), {})[name] = arrays[key]
    return [samples[i] for i in sorted(samples)]


def main(folder):
    """Converts what lies in `folder`; says `sample` before each one."""
    faulthandler.enable()  # a crash leaves its Python frames on stderr
    folder = pathlib.Path(folder)
    try:
        data = converted(
            folder,
            json.loads((folder / REQUEST).read_text()),
            stored_samples(folder / SAMPLES),
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
    sys.exit(main(*sys.argv[1:]))
