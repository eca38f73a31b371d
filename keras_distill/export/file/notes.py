"""What is noted in a file about itself; see `file_metadata.metadata`."""

import datetime
import json

import keras
import numpy as np
import tensorflow as tf

import keras_distill
from keras_distill._keras.fingerprint import fingerprint
from keras_distill.export.file import ranges


def checked(given, model):
    """The user's own notes, if they can be stored.

    Args:
        given: A dict or `None`. `"class_names"` and `"input_range"` have a
            meaning of their own.
        model: The `keras.Model`.

    Returns:
        class names (or `None`), input range (or `None`), and the rest.

    Raises:
        TypeError: If it is no dict of what JSON can hold.
        ValueError: If there are not as many names as classes, or the range is
            none.
    """
    if not isinstance(given, (dict, type(None))):
        raise TypeError(
            "`metadata` must be a dict of what JSON can hold. Received: "
            f"{given!r} of type {type(given).__name__}"
        )
    rest = dict(given or {})
    try:
        json.dumps(rest)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`metadata` must hold only what JSON can hold: {error}."
        ) from error
    names = rest.pop("class_names", None)
    limits = rest.pop("input_range", None)
    if names is not None:
        names = [str(name) for name in names]
        outputs = getattr(model, "outputs", None) or []
        check_class_names(names, [output.shape for output in outputs])
    if limits is not None and (len(limits) != 2 or limits[0] >= limits[1]):
        raise ValueError(
            '`metadata["input_range"]` must be (low, high) with low < high. '
            f"Received: {limits}"
        )
    return names, limits, rest


def check_class_names(names, shapes):
    """Raises unless some output has one name per class (two for one unit).

    Args:
        names: A list, or `None`.
        shapes: Of all outputs; of none where they are not known.
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


def input_ranges(samples, given, inputs):
    """The range of each input of a file, for its notes.

    Args:
        samples: The representative data, or `None`.
        given: `metadata["input_range"]`, or `None`.
        inputs: From `model_inputs.input_signature`.

    Returns:
        A dict name -> [low, high], or `None` where nobody told.

    Warns:
        UserWarning: If the data lies in another range than the one given.
    """
    names = [
        spec.name
        for spec in inputs.values()
        if spec.dtype.is_floating or spec.dtype == tf.uint8
    ]
    found = dict.fromkeys(names)
    if samples is not None:
        found.update(ranges.measured(samples, names))
    if given is not None:
        given = [float(value) for value in given]
        for name, seen in found.items():
            if seen is not None:
                ranges.warn_if_different(
                    given,
                    seen,
                    name,
                    "representative data",
                    "what the phone passes",
                    stacklevel=4,
                )
            found[name] = given
    return found


def notes(model, file, limits, class_names, user, **facts):
    """Everything that is noted in a file.

    Args:
        model: The `keras.Model`.
        file: `lite_model.details` of the converted file: inputs and outputs.
        limits: From `input_ranges`.
        class_names, user: From `checked`.
        **facts: What else is known of the conversion.

    Returns:
        A dict for JSON.
    """
    inputs, outputs = file
    described = {name: _tensor(detail) for name, detail in inputs.items()}
    for name, entry in described.items():
        entry["range"] = limits.get(name)
    return {
        "model": model.name,
        "class_names": class_names,
        "inputs": described,
        "outputs": {name: _tensor(d) for name, d in outputs.items()},
        **facts,
        "parameters": int(model.count_params()),
        "weights_sha256": fingerprint(model),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec="seconds"
        ),
        "versions": {
            "keras_distill": keras_distill.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
        "user": user,
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
