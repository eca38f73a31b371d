"""What a converted file must pass before it gets its name."""

import warnings

import numpy as np

from keras_distill.export import quiet
from keras_distill.export.conversion import explanation
from keras_distill.export.conversion.explanation import ExportError
from keras_distill.export.file import flatbuffer
from keras_distill.export.file import notes
from keras_distill.export.file.lite_model import LiteModel
from keras_distill.export.file.lite_model import details
from keras_distill.export.file.lite_model import float_tensors
from keras_distill.export.file.tensors import float_operators
from keras_distill.export.network import check_units

# The sizes of trial inputs if the file leaves it open: some networks need more
# pixels, some take no more positions.
_ANY_SIZES = 64, 256


def accept(file, request):
    """Checks a converted file, puts its metadata into it and runs it once.

    Args:
        file: Path of the file, in a temporary folder.
        request: The `ExportRequest`.

    Raises:
        ValueError: If its outputs do not fit the class names or activation.
        ExportError: If it does not run, draws random numbers, or is not
            integer throughout although its ranges were trained.

    Warns:
        UserWarning: If it cannot run here because of TensorFlow operators, or
            if it should be integer throughout and is not.
    """
    inputs, outputs = details(file)
    shapes = [detail["shape"] for detail in outputs.values()]
    notes.check_class_names(request.class_names, shapes)
    for shape in shapes:
        check_units(request.model, request.interface.activation, shape)
    request.file_inputs.check(inputs)
    flatbuffer.write_metadata(file, notes.notes(request, inputs, outputs))
    _check_it_runs(file, request)
    if request.is_aware:
        _check_no_floats(file, request.model)
    elif request.is_integer:
        _warn_of_float_operators(file)


def _check_it_runs(file, request):
    operators = flatbuffer.operators(file)
    model = request.model
    random = [
        operator
        for operator in operators
        if "RANDOM" in operator.name.upper() or operator.name == "MULTINOMIAL"
    ]
    if random:
        raise ExportError(
            f"The file would draw random numbers: {_described(random, model)}. "
            "They are for training: let the layer draw them only if "
            "`training`. Nothing was written."
        )
    foreign = [operator for operator in operators if not operator.builtin]
    if foreign:
        warnings.warn(
            "The file was not run: it needs TensorFlow's Flex delegate, also "
            f"in your app, for {_described(foreign, model)}.",
            stacklevel=5,
        )
        return
    try:
        _run(file, request)
    except Exception as error:
        part = explanation.unprepared(str(error), operators)
        place = f"{explanation.described([part], model)}: " if part else ""
        raise ExportError(
            "The converted file (quantization="
            f"{request.quantization!r}) does not run: {place}{error}. Nothing "
            "was written; choose another quantization."
        ) from error


def _run(file, request):
    """Runs the file once; raises what the first trial raised."""
    if request.samples:
        samples = [request.samples[0]]
    else:
        samples = [_zeros(file, size) for size in _ANY_SIZES]
    errors = []
    with quiet.without_native_log():
        for sample in samples:
            try:
                LiteModel(file)(sample)
                return
            except Exception as error:
                errors.append(error)
    raise errors[0]


def _described(operators, model):
    parts = [explanation.Part(o.name, o.outputs[0]) for o in operators]
    return explanation.described(parts, model)


def _warn_of_float_operators(file):
    """The converter leaves in float what it cannot quantize, silently."""
    names = float_tensors(file)
    if not names:
        return
    # "tfl.dequantize" is a cast; fused operators share one long name.
    names = {n.split(";")[0]: 0 for n in names if not n.startswith("tfl.")}
    names = ", ".join(names) or "what computes its output"
    warnings.warn(
        f"'{file.name}' is not integer throughout: TFLite could not quantize "
        f"{names}. It runs, but not on hardware without floats.",
        stacklevel=5,
    )


def _check_no_floats(file, model):
    parts = [
        explanation.Part(operator, path)
        for operator, path in float_operators(file)
    ]
    if parts:
        raise ExportError(
            f"The file of '{model.name}' would not be integer throughout, as "
            "parts of it have no range: "
            f"{explanation.described(parts, model)}. What comes before or "
            "behind the student has to be in it when kd.quantization.aware is "
            "called. A rule of your own (kd.quantization.rule) must call "
            "quantizer.activations() behind each operator. Nothing was "
            "written."
        )


def _zeros(file, size):
    """A sample of zeros; what is open has this size."""
    zeros = {}
    for name, detail in details(file)[0].items():
        batch, *shape = map(int, detail["shape_signature"])
        shape = [size if n == -1 else n for n in shape]
        zeros[name] = np.zeros([max(batch, 1), *shape], "float32")
    return zeros
