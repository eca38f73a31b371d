"""Why TFLite refused a model, in words of Keras.

The converter speaks MLIR: a location such as

    loc(callsite(fused["Erf:", "net_1/backbone_1/gelu_1/Erf@__inference_...

holds the operation and the name scopes of the layers around it. The quantizer
and the interpreter name an operator, or its number in the file, whose output
tensor carries the same scopes.
"""

import collections
import re
import signal

# How many layers are named per operator.
_NAMED = 3
_LOCATION = re.compile(
    r'error: loc\((?:callsite\()*(?:fused\[)?"(\w+):", "([^"@]*)[^\n]*?\): '
    r"'tf\.(\w+)'"
)
_LISTED = re.compile(r"(?:Select|Flex|Custom) ops: (.+)")
_QUANTIZED = re.compile(r"supported for op: '(\w+)'")
_PREPARED = re.compile(r"Node number (\d+) \((\w+)\) failed to (\w+)")


class Part:
    """A part of a model that stops a conversion.

    Args:
        operator: Name of the operator.
        path: Name scopes, as TensorFlow has them; `""` if not known.
    """

    def __init__(self, operator, path=""):
        self.operator = operator
        self.path = path


def unsupported(text):
    """The parts that a converter's error text names, each once.

    Args:
        text: The text of the exception.

    Returns:
        A list of `Part`, those with a path first.
    """
    found = {}
    for operator, path, named in _LOCATION.findall(text):
        found.setdefault((named, path), Part(named, path))
    known = {part.operator for part in found.values()}
    listed = [name for names in _LISTED.findall(text) for name in _split(names)]
    for operator in listed + _QUANTIZED.findall(text):
        if operator not in known:
            found.setdefault((operator, ""), Part(operator))
    return list(found.values())


def located(parts, operators):
    """Gives parts without a path those of the operators of that name.

    Args:
        parts: A list of `Part`.
        operators: Of a file that holds the same network.

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
    """The part whose number an interpreter's error text gives, or `None`."""
    match = _PREPARED.search(text)
    if match is None:
        return None
    number, name = int(match[1]), match[2]
    path = ""
    if number < len(operators) and operators[number].name == name:
        path = operators[number].outputs[0]
    return Part(name, path)


def described(parts, model):
    """-> "Erf in layer 'gelu' (Activation), Sin" for a list of `Part`."""
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
        where = ", ".join(places[:_NAMED])
        where += f" and {more} more" if more > 0 else ""
        texts.append(f"{operator} in {where}" if places else operator)
    return "; ".join(texts)


def layer_of(path, model):
    """The innermost Keras layer of a TensorFlow name.

    Args:
        path: `"net_1/backbone_1/conv_1/Relu;net_1/..."`; of fused operators
            the first name counts.
        model: The `keras.Model` that was traced.

    Returns:
        `"layer 'backbone/conv' (Conv2D)"`, or `None` if none is in the path.
    """
    # There is no public walk through the layers inside of layers.
    layers = {layer.name: layer for layer in model._flatten_layers()}
    names = path.split(";")[0].split("/")
    numbered = _numbered(path, model)
    found = []
    for name in names:
        stem = re.sub(r"_\d+$", "", name)
        order = (stem, name) if numbered else (name, stem)
        known = [n for n in order if n in layers and layers[n] is not model]
        found += known[:1]
    if not found:
        return None
    # An operation is often named as its layer: "relu/Relu" but "relu/relu".
    found = list(dict.fromkeys(found))
    return f"layer '{'/'.join(found)}' ({type(layers[found[-1]]).__name__})"


def _numbered(path, model):
    """Whether TensorFlow numbered the scopes of a path; `None`: no path.

    It numbers a scope that was opened before: "net" is "net_1" the second
    time, and then so is everything in it.
    """
    names = path.split(";")[0].split("/")
    if model.name in names:
        return False
    stems = [re.sub(r"_\d+$", "", name) for name in names]
    return True if model.name in stems else None


def crash(returncode):
    """-> "was ended by SIGSEGV (signal 11)" for a process's return code."""
    if returncode >= 0:
        return f"ended with exit status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "a signal"
    return f"was ended by {name} (signal {-returncode})"


def _split(names):
    return [name.strip() for name in names.split(",")]
