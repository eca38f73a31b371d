"""What a model of `kd.quantization.aware` tells its file, and asks of it."""

from keras import ops

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
    check_has_ranges(model)
    few = [layer for layer in range_layers(model) if layer.bits < 8]
    if few:
        raise ValueError(
            f"'{model.name}' has activations of {few[0].bits} bits, but TFLite "
            "computes with 8: kd.quantization.aware(student, activations=8)."
        )


def check_has_ranges(model):
    """Raises if a range was neither measured nor given."""
    ranges = range_layers(model)
    unknown = [layer.name for layer in ranges if not layer.has_range]
    if unknown:
        raise ValueError(
            f"'{model.name}' rounds to ranges that it does not have yet "
            f"({len(unknown)} of {len(ranges)}, such as '{unknown[0]}'): train "
            "it, or measure them with kd.quantization.calibrate(model, data)."
        )


def check_format(model, format):
    """Raises unless a format can hold a model of `aware`.

    Args:
        model: The model.
        format: As in `kd.export.export_model`.
    """
    if format in ("onnx", "openvino"):
        raise ValueError(
            f"'{model.name}' was made by kd.quantization.aware, for TFLite's "
            f"int8 operators, and nobody checked what '{format}' makes of it. "
            "Export the student that it was made from, or the SavedModel of "
            "this one, which other converters read."
        )
    if format == "tf_saved_model":
        check_has_ranges(model)


def input_range(model):
    """Returns [low, high], the range of a model's only input, or `None`."""
    if len(getattr(model, "inputs", None) or ()) != 1:
        return None
    first = range_layers(model)[0]
    return [
        float(ops.convert_to_numpy(variable))
        for variable in (first.minimum, first.maximum)
    ]
