"""How the inputs of a file differ from those of the graph it is made from.

A file usually takes what the graph takes (`FileInputs`). A camera's image is
uint8, of any size. A graph with uint8 inputs begins with a cast, and TFLite
does not quantize a cast. So an integer file for a camera is converted from a
graph with float32 inputs in [0, 255], and the converter makes the input uint8
(`QuantizedCameraInputs`). It chooses scale 1 and zero point 0 if the
representative data holds both 0 and 255.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from keras_distill._keras.input_dtype import inputs_as_float32
from keras_distill._keras.layers import flatten_layers
from keras_distill.export.conversion.explanation import ExportError

_BYTES = (0.0, 255.0)


def choose_file_inputs(
    inputs, model, preprocessing, quantization, dtype, is_aware=False
):
    """Chooses how a file takes its inputs.

    Args:
        inputs: From `model_inputs.input_signature`.
        model, preprocessing: As in `kd.export.tflite`.
        quantization: As in `kd.export.tflite`.
        dtype: What the converter makes of the inputs of an integer file that
            is not for a camera.
        is_aware: Whether the model comes from `kd.quantization.aware`.

    Returns:
        A `FileInputs`.
    """
    is_camera = all(
        spec.dtype == tf.uint8
        and (preprocessing is not None or is_aware or len(spec.shape) == 4)
        for spec in inputs.values()
    )
    if quantization == "int16x8" and is_camera:
        raise ValueError(
            'quantization="int16x8" has no uint8 inputs: declare the input as '
            "tf.float32 (values in [0, 255]), or choose int8, float16 or "
            "float32."
        )
    if not is_camera:
        return FileInputs(dtype)
    if quantization in ("int8", "int4"):
        return QuantizedCameraInputs(model, preprocessing)
    return FileInputs(dtype, _BYTES)


class FileInputs:
    """The file takes what the graph takes, or the integers it computes with.

    Args:
        dtype: What the converter makes of the inputs of an integer file.
        range: The values to expect, (low, high), or `None` if unknown.
    """

    def __init__(self, dtype, range=None):
        self.dtype = dtype
        self.range = range

    def of_graph(self, inputs):
        """The `tf.TensorSpec`s of the graph: a structure like `inputs`."""
        return inputs

    def calibration(self, samples):
        """The representative samples that the converter gets."""
        return samples

    def tracing(self):
        """A context in which the graph is traced."""
        return contextlib.nullcontext()

    def check(self, details):
        """Checks the inputs of the converted file (`lite_model.details`)."""


class QuantizedCameraInputs(FileInputs):
    """A camera's bytes, which the file takes as quantized values.

    Args:
        model, preprocessing: As in `kd.export.tflite`.
    """

    def __init__(self, model, preprocessing):
        super().__init__("uint8", _BYTES)
        self._parts = [model, preprocessing]

    def of_graph(self, inputs):
        if isinstance(inputs, dict):
            return {key: self.of_graph(value) for key, value in inputs.items()}
        if isinstance(inputs, (list, tuple)):
            return [self.of_graph(value) for value in inputs]
        return tf.TensorSpec(inputs.shape, tf.float32, name=inputs.name)

    def calibration(self, samples):
        """The samples, with a 0 and a 255 in the first one.

        Two values of one image change. What comes after the input is measured
        on the rest.
        """
        first = {}
        for name, array in samples[0].items():
            array = np.array(array)
            array.flat[0], array.flat[-1] = _BYTES
            first[name] = array
        for sample in samples:
            for name, array in sample.items():
                if array.min() < _BYTES[0] or array.max() > _BYTES[1]:
                    raise ValueError(
                        "`representative_dataset` must hold what the app "
                        "passes, uint8 in [0, 255]. Received for "
                        f"'{name}': values in "
                        f"[{array.min():.4g}, {array.max():.4g}]"
                    )
        return [first, *samples[1:]]

    @contextlib.contextmanager
    def tracing(self):
        """A context in which no model casts back to uint8.

        What comes before such a cast would stay float in an integer file.
        """
        parts = [x for x in self._parts if isinstance(x, keras.layers.Layer)]
        models = {
            id(layer): layer
            for part in parts
            for layer in flatten_layers(part)
            if isinstance(layer, keras.Model)
        }
        with contextlib.ExitStack() as stack:
            for model in models.values():
                stack.enter_context(inputs_as_float32(model, "uint8"))
            yield

    def check(self, details):
        for name, detail in details.items():
            scale, zero_point = detail["quantization"]
            if abs(scale - 1.0) > 1e-6 or zero_point != 0:
                raise ExportError(
                    f"TFLite gave the uint8 input '{name}' the scale "
                    f"{scale:g} and the zero point {zero_point}, not 1 and 0: "
                    "a camera's image would need arithmetic first. Declare "
                    "the input as tf.float32."
                )
