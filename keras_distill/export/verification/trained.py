"""Whether a file has the weights and ranges that an aware student has."""

import numpy as np
from keras import ops

from keras_distill.export import aware
from keras_distill.export.file.tensors import float_operators
from keras_distill.export.file.tensors import tensors
from keras_distill.quantization.ranges import range_layers

# Of scales: TFLite's converter computes them in another order.
_ROUNDING = 1e-5


def facts(filepath, student):
    """Compares a file with the student that it was exported from.

    Args:
        filepath: A `.tflite` file.
        student: A model of `kd.quantization.aware`.

    Returns:
        A dict: `"equal_kernels"` and `"equal_ranges"`, each how many of
        the student's the file has, and how many there are, and
        `"integer_throughout"`.
    """
    listed = tensors(filepath)
    constants = [t.values().ravel() for t in listed if t.constant is not None]
    weights = [
        _is_among(ops.convert_to_numpy(layer.quantized_kernel()), constants)
        for layer in aware.weight_layers(student)
    ]
    scales = [
        (t.scales[0], t.zero_points[0] + (t.dtype == "int8") * 128)
        for t in listed
        if len(t.scales) == 1 and t.dtype in ("int8", "uint8")
    ]
    ranges = [
        any(
            abs(scale / expected - 1.0) < _ROUNDING and zero == expected_zero
            for scale, zero in scales
        )
        for expected, expected_zero in map(_scale, range_layers(student))
    ]
    return {
        "equal_kernels": [sum(weights), len(weights)],
        "equal_ranges": [sum(ranges), len(ranges)],
        "integer_throughout": not float_operators(filepath),
    }


def output_scale(filepath, number):
    """Returns the step between two values of an output, or `None`.

    Args:
        filepath: A `.tflite` file.
        number: The number of the output's tensor.
    """
    listed = tensors(filepath)
    tensor = listed[number]
    if tensor.operator == "DEQUANTIZE":
        tensor = listed[tensor.inputs[0]]
    return float(tensor.scales[0]) if len(tensor.scales) else None


def _scale(layer):
    """Scale and zero point (of uint8) of a range."""
    low, high = map(ops.convert_to_numpy, layer.rounding_range())
    scale = (high - low) / 255
    return scale, round(float(-low / scale))


def _is_among(kernel, constants):
    """Whether one of the constants has these weights.

    TFLite has the output channels first, except of depthwise convolutions.
    """
    tolerance = _ROUNDING * np.abs(kernel).max()  # 1/127 is another integer
    layouts = kernel.ravel(), np.moveaxis(kernel, -1, 0).ravel()
    return any(
        constant.size == kernel.size
        and any(
            np.allclose(constant, layout, rtol=0.0, atol=tolerance)
            for layout in layouts
        )
        for constant in constants
    )
