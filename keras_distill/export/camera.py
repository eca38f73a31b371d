"""Files that take a camera's image as it is: uint8, any size.

A graph with uint8 inputs begins with a cast, and TFLite quantizes no cast. So
an integer file is converted from a graph with float32 inputs in [0, 255], and
the converter makes the input uint8: with scale 1 and zero point 0, which it
chooses if the representative data holds both 0 and 255.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from keras_distill.export.errors import ExportError

RANGE = (0.0, 255.0)


def is_camera(inputs):
    """Whether all inputs (from `model_inputs.input_signature`) are uint8."""
    return all(spec.dtype == tf.uint8 for spec in inputs.values())


def in_float(signature, inputs, quantization):
    """-> signature and inputs with float32 in the place of uint8."""
    if quantization != "int8":
        raise ValueError(
            f'quantization="{quantization}" has no uint8 inputs: declare the '
            "input as tf.float32 (values in [0, 255]), or choose int8, "
            "float16 or float32."
        )

    def changed(spec):
        return tf.TensorSpec(spec.shape, tf.float32, name=spec.name)

    return (
        keras.tree.map_structure(changed, signature),
        {key: changed(spec) for key, spec in inputs.items()},
    )


@contextlib.contextmanager
def taking_floats(preprocessing):
    """Inside, a model with uint8 inputs casts no float32 back to uint8.

    What comes before that cast would stay float in an integer file.

    Args:
        preprocessing: As in `kd.export.tflite`.
    """
    tensors = []
    if isinstance(preprocessing, keras.Model):
        tensors = getattr(preprocessing, "inputs", None) or []
    tensors = [tensor for tensor in tensors if tensor.dtype == "uint8"]
    # Functional models look at the tensor, Sequential ones at its layer.
    changed = [*tensors, *(t._keras_history.operation for t in tensors)]
    try:
        for one in changed:
            # Not public; a copy of the model would lose what `adapt` found.
            one._dtype = "float32"
        yield
    finally:
        for one in changed:
            one._dtype = "uint8"


def with_extremes(samples):
    """Representative samples of which the first holds a 0 and a 255.

    Two values of one image change; what lies behind the input is measured on
    the rest.
    """
    first = {}
    for name, array in samples[0].items():
        array = np.array(array)
        array.flat[0], array.flat[-1] = RANGE
        first[name] = array
    for sample in samples:
        for name, array in sample.items():
            if array.min() < RANGE[0] or array.max() > RANGE[1]:
                raise ValueError(
                    "`representative_dataset` must hold what the phone passes, "
                    f"uint8 in [0, 255]. Received for '{name}': values in "
                    f"[{array.min():.4g}, {array.max():.4g}]"
                )
    return [first, *samples[1:]]


def check(inputs):
    """Raises unless each input takes uint8 as it is.

    Args:
        inputs: Details of a file's inputs, by name.
    """
    for name, detail in inputs.items():
        scale, zero_point = detail["quantization"]
        if abs(scale - 1.0) > 1e-6 or zero_point != 0:
            raise ExportError(
                f"TFLite gave the uint8 input '{name}' the scale {scale:g} and "
                f"the zero point {zero_point}, not 1 and 0: a camera's image "
                "would need arithmetic first. Declare it as tf.float32."
            )
