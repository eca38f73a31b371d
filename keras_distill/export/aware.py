"""What a model of `kd.quantization.aware` tells its file, and asks of it."""

import math

from keras_distill._keras.layers import flatten_layers
from keras_distill.quantization.fake_quantize import QuantizedWeights
from keras_distill.quantization.ranges import range_layers


def weight_layers(model):
    """Lists the layers of a model whose weights are rounded."""
    return [
        layer
        for layer in flatten_layers(model)
        if isinstance(layer, QuantizedWeights)
    ]


def is_aware(model):
    """Whether a model, or a part of it, comes from `aware`."""
    return bool(range_layers(model))


def weight_bits(model):
    """Lists the numbers of bits of a model's weights, each once."""
    return sorted({layer.bits for layer in weight_layers(model)})


def number_of_parameters(model):
    """Counts a model's parameters; ranges are none."""
    of_ranges = sum(
        math.prod(variable.shape)
        for layer in range_layers(model)
        for variable in layer.variables
    )
    return int(model.count_params()) - of_ranges


def check_exportable(model, quantization, representative_dataset):
    """Raises unless a file can have the ranges of a model of `aware`.

    Args:
        model: The model.
        quantization, representative_dataset: As in `kd.export.tflite`.
    """
    if quantization != "int8":
        raise ValueError(
            f"'{model.name}' was made by kd.quantization.aware, for an int8 "
            'file: give quantization="int8", or export the student that it '
            f"was made from. Received: quantization={quantization!r}"
        )
    if representative_dataset is not None:
        raise ValueError(
            f"'{model.name}' was made by kd.quantization.aware, and the file "
            "gets the ranges that it has: leave `representative_dataset` out. "
            "To measure them anew: kd.quantization.calibrate(model, data)."
        )
    unknown = [x.name for x in range_layers(model) if not x.has_range]
    if unknown:
        raise ValueError(
            f"'{model.name}' has no ranges yet, such as that of "
            f"'{unknown[0]}' ({len(unknown)} of {len(range_layers(model))}): "
            "train it, or measure them with "
            "kd.quantization.calibrate(model, data)."
        )
    few = [layer for layer in range_layers(model) if layer.bits < 8]
    if few:
        raise ValueError(
            f"'{model.name}' has activations of {few[0].bits} bits, but TFLite "
            "computes with 8: kd.quantization.aware(student, activations=8)."
        )


def input_range(model):
    """Returns [low, high], the range of a model's only input, or `None`."""
    if len(getattr(model, "inputs", None) or ()) != 1:
        return None
    first = range_layers(model)[0]
    return [float(first.minimum), float(first.maximum)]
