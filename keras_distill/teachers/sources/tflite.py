"""A TFLite file as the source of a black box."""

import keras
import numpy as np

from keras_distill.export.file.flatbuffer import operators
from keras_distill.export.file.flatbuffer import read_metadata
from keras_distill.export.file.lite_model import LiteModel
from keras_distill.export.file.lite_model import details
from keras_distill.teachers.sources.files import File

_ENDS = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}
_PASSED = ("DEQUANTIZE", "QUANTIZE", "RESHAPE", "CAST", "SQUEEZE")


@keras.saving.register_keras_serializable(package="keras_distill")
class TFLiteFile(File):
    """A TFLite file, run by LiteRT. The arguments are those of `File`."""

    def __init__(self, filepath, **options):
        super().__init__(filepath, **options)
        self._model = LiteModel(self.filepath, self.num_threads)
        inputs, outputs = details(self.filepath)
        self.inputs = {name: _described(d) for name, d in inputs.items()}
        self._output = self.choose_output(outputs)
        # The sum of int8 probabilities is too far from 1 to tell.
        self.activation = _activation(
            self.filepath, outputs[self._output]["name"]
        )
        notes = read_metadata(self.filepath)
        self.class_names = notes and notes.get("class_names")

    def __call__(self, inputs):
        outputs = self._model(inputs)
        several = isinstance(outputs, dict)
        return outputs[self._output] if several else outputs


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
