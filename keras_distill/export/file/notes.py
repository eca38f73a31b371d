"""What a file notes about itself, see `flatbuffer.metadata`."""

import datetime
import json
import warnings

import keras
import numpy as np
import tensorflow as tf

import keras_distill
from keras_distill._arguments import checked_strings
from keras_distill._keras.fingerprint import fingerprint
from keras_distill.cost import count_parameters
from keras_distill.export import aware

# Two ranges belong to one kind of data if little of one is outside the other
# and most of it is used, in lengths of that range. [0, 1] differs from [-1, 1]
# (half of it) and from [0, 255]; the tails of two samples of one distribution
# do not differ.
_OUTSIDE, _USED = 0.5, 0.55


def checked_metadata(metadata, model):
    """Checks the `metadata=` of `kd.export.tflite`.

    Args:
        metadata: A dict or `None`. `"class_names"` and `"input_range"` have a
            meaning of their own.
        model: The `keras.Model`.

    Returns:
        The class names or `None`, the input range or `None`, and the rest.

    Raises:
        TypeError: If it is not a dict of what JSON can hold.
        ValueError: If the number of names is not the number of classes, or
            the range is not a range.
    """
    if not isinstance(metadata, (dict, type(None))):
        raise TypeError(
            "`metadata` must be a dict of what JSON can hold. Received: "
            f"{metadata!r} of type {type(metadata).__name__}"
        )
    rest = dict(metadata or {})
    try:
        json.dumps(rest)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`metadata` must hold only what JSON can hold: {error}."
        ) from error
    names = rest.pop("class_names", None)
    limits = rest.pop("input_range", None)
    if names is not None:
        names = checked_strings('`metadata["class_names"]`', names)
        outputs = getattr(model, "outputs", None) or []
        check_class_names(names, [output.shape for output in outputs])
    is_pair = isinstance(limits, (list, tuple)) and len(limits) == 2
    if limits is not None and not (is_pair and limits[0] < limits[1]):
        raise ValueError(
            '`metadata["input_range"]` must be (low, high) with low < high. '
            f"Received: {limits}"
        )
    return names, limits, rest


def check_class_names(names, shapes):
    """Raises unless some output has a name per class (two for one unit).

    Args:
        names: A list, or `None`.
        shapes: Shapes of all outputs; an empty list if they are unknown.
    """
    widths = [shape[-1] if len(shape) else None for shape in shapes]
    if names is None or not widths:
        return
    for width in widths:
        if width in (None, -1, len(names)) or (width == 1 and len(names) == 2):
            return
    several = len(widths) > 1
    raise ValueError(
        f'`metadata["class_names"]` has {len(names)} names for '
        f"{'outputs' if several else 'an output'} of "
        f"{', '.join(map(str, widths))} classes."
    )


def input_ranges(samples, input_range, inputs):
    """Finds the range of each input of a file.

    Args:
        samples: The representative samples, or `None`.
        input_range: `metadata["input_range"]`, or `None`.
        inputs: From `model_inputs.input_signature`.

    Returns:
        A dict name -> [low, high], or `None` if it is unknown.

    Warns:
        UserWarning: If the samples lie in another range than `input_range`.
    """
    names = [
        spec.name
        for spec in inputs.values()
        if spec.dtype.is_floating or spec.dtype == tf.uint8
    ]
    limits = dict.fromkeys(names)
    for name in names if samples is not None else ():
        limits[name] = [
            float(min(sample[name].min() for sample in samples)),
            float(max(sample[name].max() for sample in samples)),
        ]
    if input_range is None:
        return limits
    expected = [float(value) for value in input_range]
    for name, measured in limits.items():
        if measured is not None and ranges_differ(expected, measured):
            warnings.warn(
                f"The representative data of the input '{name}' lies in "
                f"{range_text(measured)}, what the app passes in "
                f"{range_text(expected)}. Were both preprocessed alike?",
                stacklevel=4,
            )
    return dict.fromkeys(names, expected)


def ranges_differ(expected, measured):
    """Whether two ranges, each [low, high], are of different kinds of data.

    A network calibrated on [0, 255] and run on [0, 1] gives nonsense without
    an error. So does a phone that passes what the training never used.
    """
    length = expected[1] - expected[0]
    if length <= 0:
        return list(expected) != list(measured)
    outside = max(expected[0] - measured[0], measured[1] - expected[1]) / length
    used = (measured[1] - measured[0]) / length
    return outside > _OUTSIDE or used < _USED


def range_text(limits):
    """Formats a range, as in "[0, 255]"."""
    return f"[{limits[0]:.4g}, {limits[1]:.4g}]"


def notes(request, inputs, outputs):
    """Collects what a file notes about itself.

    Args:
        request: The `ExportRequest`.
        inputs, outputs: `lite_model.details` of the converted file.

    Returns:
        A dict for JSON.
    """
    described = {name: _tensor(detail) for name, detail in inputs.items()}
    for name, entry in described.items():
        entry["range"] = request.input_ranges.get(name)
    return {
        "model": request.model.name,
        "class_names": request.class_names,
        "inputs": described,
        "outputs": {name: _tensor(d) for name, d in outputs.items()},
        "quantization": request.quantization,
        "preprocessing": request.has_preprocessing,
        "activation": request.interface.activation,
        "signature_name": request.interface.signature_name,
        "input_order": [spec.name for spec in request.inputs.values()],
        "representative_samples": (
            len(request.samples) if request.samples else None
        ),
        "trained_ranges": request.is_aware,
        "weight_bits": aware.weight_bits(request.model) or None,
        "parameters": count_parameters(request.model),
        "weights_sha256": fingerprint(request.model),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec="seconds"
        ),
        "versions": {
            "keras_distill": keras_distill.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
        "user": request.user_metadata,
    }


def _tensor(detail):
    shape = detail.get("shape_signature", detail["shape"])
    entry = {
        "shape": [int(size) for size in shape],
        "dtype": np.dtype(detail["dtype"]).name,
    }
    scale, zero_point = detail["quantization"]
    if scale:
        entry["scale"], entry["zero_point"] = float(scale), int(zero_point)
    return entry
