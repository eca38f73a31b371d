"""A TFLite file as the source of a black box."""

import keras
import numpy as np

from keras_distill.export.file.flatbuffer import check_tflite
from keras_distill.export.file.flatbuffer import operators
from keras_distill.export.file.flatbuffer import read_metadata
from keras_distill.export.file.lite_model import LiteModel
from keras_distill.export.file.lite_model import details
from keras_distill.teachers.sources.files import File

_BATCH = 32
_ENDS = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}
_PASSED = ("DEQUANTIZE", "QUANTIZE", "RESHAPE", "CAST", "SQUEEZE")


@keras.saving.register_keras_serializable(package="keras_distill")
class TFLiteFile(File):
    """A TFLite file, run by LiteRT. The arguments are those of `File`."""

    def __init__(self, filepath, **options):
        super().__init__(filepath, **options)
        check_tflite(self.filepath)
        inputs, outputs = details(self.filepath)
        self.inputs = {name: _described(d) for name, d in inputs.items()}
        self._output = self.choose_output(outputs)
        # The sum of int8 probabilities is too far from 1 to tell.
        self.activation = _activation(
            self.filepath, outputs[self._output]["name"]
        )
        self._model = _with_batches(self.filepath, self.num_threads, inputs)
        notes = read_metadata(self.filepath)
        self.class_names = notes and notes.get("class_names")

    def __call__(self, inputs):
        several = isinstance(inputs, dict)
        count = len(next(iter(inputs.values())) if several else inputs)
        parts = []
        for start in range(0, count, _BATCH):
            part = slice(start, start + _BATCH)
            parts.append(
                self._model(
                    {name: x[part] for name, x in inputs.items()}
                    if several
                    else inputs[part]
                )
            )
        if isinstance(parts[0], dict):
            parts = [part[self._output] for part in parts]
        return np.concatenate(parts)


def _with_batches(filepath, num_threads, inputs):
    """Opens a file, to run batches if that gives the same numbers.

    Files mostly take one sample, as on a device. Batches of 32 made a
    MobileNetV2 six times as fast (2 CPU cores).
    """
    one, many = (LiteModel(filepath, num_threads) for _ in range(2))
    many.free_batch()
    draw = np.random.default_rng(0)
    samples = {
        name: draw.uniform(size=(2, *(n or 1 for n in shape))).astype(dtype)
        for name, (shape, dtype) in (
            (name, _described(detail)) for name, detail in inputs.items()
        )
    }
    try:
        expected, found = one(samples), many(samples)
        if not isinstance(expected, dict):
            expected, found = {"": expected}, {"": found}
        for name, values in expected.items():
            np.testing.assert_allclose(
                found[name], values, rtol=1e-4, atol=1e-4 * abs(values).max()
            )
    except (AssertionError, RuntimeError, ValueError):
        return one
    return many


def _described(detail):
    shape = detail.get("shape_signature", detail["shape"])[1:]
    dtype = np.dtype(detail["dtype"])
    real = dtype.kind == "f" or detail["quantization"][0]
    return (
        tuple(None if size == -1 else int(size) for size in shape),
        "float32" if real else dtype.name,
    )


def _activation(filepath, tensor):
    """Returns the softmax or sigmoid that makes a tensor, or `None`."""
    listed = operators(filepath)
    made = [i for i, op in enumerate(listed) if tensor in op.outputs]
    # An operator usually follows the one whose output it reads.
    for operator in reversed(listed[: made[0] + 1] if made else []):
        if operator.name not in _PASSED:
            return _ENDS.get(operator.name)
    return None
