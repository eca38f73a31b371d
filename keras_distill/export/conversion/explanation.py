"""Why TFLite refused a model, in terms of Keras layers.

The converter speaks MLIR. A location such as

    loc(callsite(fused["Erf:", "net_1/backbone_1/gelu_1/Erf@__inference_...

has the operation and the name scopes of the layers around it. The quantizer
and the interpreter name an operator, or its number in the file; its output
tensor has the same scopes in its name.
"""

import collections
import re
import signal

from keras_distill._keras.layers import flatten_layers
from keras_distill.export import quiet
from keras_distill.export.conversion import converter
from keras_distill.export.file.flatbuffer import operators

# How many layers are named per operator.
_NAMED = 3
_LOCATION = re.compile(
    r'error: loc\((?:callsite\()*(?:fused\[)?"(\w+):", "([^"@]*)[^\n]*?\): '
    r"'tf\.(\w+)'"
)
_LISTED = re.compile(r"(?:Select|Flex|Custom) ops: (.+)")
_QUANTIZED = re.compile(r"supported for op: '(\w+)'")
_PREPARED = re.compile(r"Node number (\d+) \((\w+)\) failed to (\w+)")


class ExportError(RuntimeError):
    """A model could not be converted, or the converted file does not run."""


class ConverterCrash(Exception):
    """The converter's process ended without an exception."""


class ConverterFailure(Exception):
    """What the converter raised in its process."""


def explained(error, folder, model, settings):
    """Returns the `ExportError` for what the converter raised.

    Args:
        error: The exception.
        folder: The SavedModel.
        model: The `keras.Model`.
        settings: As for `converter.converted`.
    """
    quantization = settings["quantization"]
    begin = (
        f"'{model.name}' cannot be converted with quantization={quantization!r}"
    )
    if isinstance(error, ConverterCrash):
        return ExportError(
            f"{begin}: TFLite's converter crashed; {error} Loops are the usual "
            "cause (layers of your own that use keras.ops.while_loop, scan or "
            "RNN cells): write them unrolled, or choose another quantization."
        )
    text = str(error)
    parts = unsupported(text)
    if not parts:
        kind = type(error).__name__
        if isinstance(error, ConverterFailure):
            kind, text = text.split(": ", 1)
        return ExportError(f"{begin}. {kind}: {text[:500]}")
    if any(not part.path for part in parts):
        parts = located(parts, _float_operators(folder, settings))
    advice = "Write that part of the model with other operations"
    names = {part.operator for part in parts}
    if any("Random" in name for name in names):
        advice = (
            "Random numbers are for training: let the layer draw them only "
            "if `training`"
        )
    elif any(name.startswith("String") for name in names):
        return ExportError(
            f"{begin}: TFLite cannot split or hash text: "
            f"{described(parts, model)}. Turn text into ids before the network "
            "(`TextVectorization.get_vocabulary()` has them), and export the "
            "part behind that layer."
        )
    elif any(name.startswith("TensorList") for name in names):
        advice = (
            "A loop needs a fixed batch size (batch_size=1) and a fixed "
            "number of steps, or a layer with unroll=True"
        )
    return ExportError(
        f"{begin}. TFLite has no builtin operator of that kind for: "
        f"{described(parts, model)}. {advice}, or choose another quantization."
    )


def _float_operators(folder, settings):
    """Lists the operators of the same network in float: a second conversion."""
    path = folder / "float.tflite"
    try:
        with quiet.without_native_log():
            path.write_bytes(
                converter.converted(folder, {**settings, "quantization": None})
            )
        return operators(path)
    except Exception:  # it is for the message only
        return []


class Part:
    """A part of a model that stops a conversion.

    Args:
        operator: Name of the operator.
        path: TensorFlow's name scopes; `""` if unknown.
    """

    def __init__(self, operator, path=""):
        self.operator = operator
        self.path = path


def unsupported(text):
    """Finds the parts that a converter's error text names, each once.

    Args:
        text: The text of the exception.

    Returns:
        A list of `Part`, those with a path first.
    """
    parts = {}
    for _, path, operator in _LOCATION.findall(text):
        parts.setdefault((operator, path), Part(operator, path))
    known = {part.operator for part in parts.values()}
    listed = [name for names in _LISTED.findall(text) for name in _split(names)]
    for operator in listed + _QUANTIZED.findall(text):
        if operator not in known:
            parts.setdefault((operator, ""), Part(operator))
    return list(parts.values())


def located(parts, operators):
    """Gives parts without a path the paths of the operators of that name.

    Args:
        parts: A list of `Part`.
        operators: The operators of a file with the same network.

    Returns:
        A new list of `Part`.
    """
    paths = collections.defaultdict(list)
    for operator in operators:
        paths[operator.name].append(operator.outputs[0])
    return [
        Part(part.operator, path)
        for part in parts
        for path in ([part.path] if part.path else paths[part.operator] or [""])
    ]


def unprepared(text, operators):
    """Finds the part whose number is in an interpreter's error text, if any."""
    match = _PREPARED.search(text)
    if match is None:
        return None
    number, name = int(match[1]), match[2]
    path = ""
    if number < len(operators) and operators[number].name == name:
        path = operators[number].outputs[0]
    return Part(name, path)


def described(parts, model):
    """Names parts, as in "Erf in layer 'gelu' (Activation); Sin"."""
    layers = {}
    for part in parts:
        places = layers.setdefault(part.operator, [])
        place = layer_of(part.path, model)
        if place is None and _numbered(part.path, model) is not None:
            place = f"'{model.name}', outside of its layers"
        if place is not None and place not in places:
            places.append(place)
    texts = []
    for operator, places in layers.items():
        more = len(places) - _NAMED
        listed = ", ".join(places[:_NAMED])
        listed += f" and {more} more" if more > 0 else ""
        texts.append(f"{operator} in {listed}" if places else operator)
    return "; ".join(texts)


def layer_of(path, model):
    """Finds the innermost Keras layer of a TensorFlow name.

    Args:
        path: `"net_1/backbone_1/conv_1/Relu;net_1/..."`; the first name of
            fused operators counts.
        model: The `keras.Model` that was traced.

    Returns:
        `"layer 'backbone/conv' (Conv2D)"`, or `None` if the path has none.
    """
    nested = nested_layers(path.split(";")[0], model)
    if not nested:
        return None
    names = "/".join(layer.name for layer in nested)
    return f"layer '{names}' ({type(nested[-1]).__name__})"


def nested_layers(path, model):
    """Finds the Keras layers of one TensorFlow name, the outermost first.

    Args:
        path: `"net_1/backbone_1/conv_1/Relu"`.
        model: The `keras.Model` that was traced.
    """
    layers = {layer.name: layer for layer in flatten_layers(model)}
    numbered = _numbered(path, model)
    nested = []
    for name in path.split("/"):
        stem = re.sub(r"_\d+$", "", name)
        order = (stem, name) if numbered else (name, stem)
        known = [n for n in order if n in layers and layers[n] is not model]
        nested += known[:1]
    # An operation is often named after its layer: "relu/Relu" or "relu/relu".
    return [layers[name] for name in dict.fromkeys(nested)]


def _numbered(path, model):
    """Whether TensorFlow numbered the scopes of a path; `None`: no path.

    It numbers a scope that was opened before: "net" becomes "net_1" the second
    time, and so does everything in it.
    """
    names = path.split(";")[0].split("/")
    if model.name in names:
        return False
    stems = [re.sub(r"_\d+$", "", name) for name in names]
    return True if model.name in stems else None


def crash(returncode):
    """Describes a return code, as in "was ended by SIGSEGV (signal 11)"."""
    if returncode >= 0:
        return f"ended with exit status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "a signal"
    return f"was ended by {name} (signal {-returncode})"


def _split(names):
    return [name.strip() for name in names.split(",")]
