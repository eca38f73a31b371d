"""What a converted file must pass before it gets its name."""

import warnings

import numpy as np

from keras_distill.export.conversion import explanation
from keras_distill.export.conversion.operators import operators
from keras_distill.export.errors import ExportError
from keras_distill.export.file.lite_model import LiteModel
from keras_distill.export.file.lite_model import details
from keras_distill.export.file.lite_model import float_tensors

# Where an input leaves sizes open, the file is tried with this one.
_ANY_SIZE = 64


def check(filepath, model, sample, quantization):
    """Runs a file once.

    Args:
        filepath: The file.
        model: The `keras.Model` that it was made from.
        sample: A dict name -> array, or `None` for zeros.
        quantization: Named in the error message.

    Raises:
        ExportError: If it does not run, or draws random numbers.

    Warns:
        UserWarning: If it cannot run here, for operators of TensorFlow.
    """
    found = operators(filepath)
    foreign = [
        explanation.Part(operator.name, operator.outputs[0])
        for operator in found
        if not operator.builtin
    ]
    random = [
        explanation.Part(operator.name, operator.outputs[0])
        for operator in found
        if "RANDOM" in operator.name.upper() or operator.name == "MULTINOMIAL"
    ]
    if random:
        raise ExportError(
            "The file would draw random numbers: "
            f"{explanation.described(random, model)}. That is for training: "
            "let the layer draw them only if `training`. Nothing was written."
        )
    if foreign:
        warnings.warn(
            "The file was not run: it needs TensorFlow's Flex delegate, also "
            f"in your app, for {explanation.described(foreign, model)}.",
            stacklevel=3,
        )
        return
    try:
        LiteModel(filepath)(sample or _zeros(filepath))
    except Exception as error:
        part = explanation.unprepared(str(error), found)
        where = f"{explanation.described([part], model)}: " if part else ""
        raise ExportError(
            f"The converted file (quantization={quantization!r}) does not run: "
            f"{where}{error}. Nothing was written; choose another quantization."
        ) from error


def warn_of_float_operators(filepath, name):
    """The converter leaves what it cannot quantize in float, and is silent."""
    left = float_tensors(filepath)
    if not left:
        return
    # "tfl.dequantize" is a cast; fused operators share one long name.
    left = {n.split(";")[0]: 0 for n in left if not n.startswith("tfl.")}
    left = ", ".join(left) or "what computes its output"
    warnings.warn(
        f"'{name}' is not integer throughout: TFLite could not quantize "
        f"{left}. It runs, but not on hardware without floats.",
        stacklevel=3,
    )


def _zeros(filepath):
    """One sample of zeros, in the dtypes of a Keras model's inputs."""
    zeros = {}
    for name, detail in details(filepath)[0].items():
        batch, *shape = (int(size) for size in detail["shape_signature"])
        shape = [_ANY_SIZE if size == -1 else size for size in shape]
        zeros[name] = np.zeros([max(batch, 1), *shape], "float32")
    return zeros
