"""The flatbuffer of a TFLite file: its operators and our metadata.

A TFLite file has room for named buffers that no interpreter reads. Ours is
called `keras_distill` and holds JSON. Rewriting a file of 23 MB takes 0.2 s,
one of 400 MB 2 s (2 CPU cores).
"""

import collections
import contextlib
import json
import mmap
import os
import pathlib
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_distill._arguments import as_path

NAME = b"keras_distill"
# The TFLite format requires it: kernels read weights in place.
_ALIGNMENT = 16


def metadata(filepath: str | os.PathLike) -> dict[str, Any]:
    """Reads what `kd.export.tflite` noted in a file.

    Args:
        filepath: A `.tflite` file.

    Returns:
        A dict with these keys:

        - `"inputs"` and `"outputs"`: dicts name -> `"shape"` (-1 for an open
          size) and `"dtype"`; for integers also `"scale"` and `"zero_point"`.
          Each input has a `"range"`: the smallest and the largest expected
          value, from the representative data or as given to `tflite`, or
          `None` if it is unknown.
        - `"input_order"`: the inputs in the order of the model's call (TFLite
          sorts them by name). Files of earlier versions lack it.
        - `"class_names"`, `"quantization"` (`"recipe"` for a recipe),
          `"activation"`, `"signature_name"`.
        - `"preprocessing"`: whether the file contains the preprocessing.
        - `"trained_ranges"`: whether the file has the ranges of a model of
          `kd.quantization.aware`; `"weight_bits"`: the numbers of bits of its
          rounded weights, such as `[8]`, or `None`.
        - `"representative_samples"`, `"model"`, `"parameters"`,
          `"weights_sha256"`, `"created"`, `"versions"`.
        - `"user"`: the rest of the dict that you passed as `metadata=`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a TFLite file, is damaged, or has no metadata
            of keras_distill.

    Example:

    ```python
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    path = kd.export.tflite(
        student,
        "student.tflite",
        metadata={"class_names": ["cat", "dog"], "licence": "Apache-2.0"},
    )
    print(kd.export.metadata(path)["class_names"])
    ```
    """
    check_tflite(as_path("`filepath`", filepath))
    notes = read_metadata(filepath)
    if notes is None:
        raise ValueError(
            f"'{filepath}' has no metadata of keras_distill: another program "
            "wrote it, or rewrote it and dropped the metadata."
        )
    return notes


def check_tflite(filepath):
    """Raises unless the file exists and begins like a TFLite file."""
    filepath = pathlib.Path(filepath)
    if not filepath.is_file():
        raise FileNotFoundError(f"There is no file '{filepath}'.")
    with open(filepath, "rb") as file:
        if file.read(8)[4:] != b"TFL3":
            raise ValueError(
                f"'{filepath}' is not a TFLite file: it lacks the identifier "
                "TFL3 at byte 4."
            )


def read_metadata(filepath):
    """Returns our metadata of a TFLite file, or `None` if it has none."""
    from ai_edge_litert import schema_py_generated as schema

    try:
        with mapped(filepath) as data:
            model = schema.Model.GetRootAs(data, 0)
            for i in range(model.MetadataLength()):
                entry = model.Metadata(i)
                if entry.Name() == NAME:
                    buffer = model.Buffers(entry.Buffer())
                    text = bytes(
                        buffer.Data(j) for j in range(buffer.DataLength())
                    )
                    return json.loads(text)
    except Exception as error:  # flatbuffers raises anything past the end
        raise ValueError(
            f"'{filepath}' is truncated or damaged: {error}. Export or copy it "
            "again."
        ) from error
    return None


def write_metadata(filepath, notes):
    """Puts a dict into a TFLite file and replaces an earlier one of ours."""
    from ai_edge_litert import schema_py_generated as schema

    model = unpacked(pathlib.Path(filepath).read_bytes())
    text = json.dumps(notes, ensure_ascii=False).encode()
    buffer = schema.BufferT(data=np.frombuffer(text, dtype="uint8"))
    entries = [e for e in model.metadata or [] if e.name != NAME]
    entries.append(
        schema.MetadataT(name=NAME.decode(), buffer=len(model.buffers))
    )
    model.buffers.append(buffer)
    model.metadata = entries
    pathlib.Path(filepath).write_bytes(packed(model))


def unpacked(data):
    """Returns the objects of a file's bytes, to be changed."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:  # Constants may stand behind the flatbuffer.
            buffer.data = np.frombuffer(
                data, "uint8", buffer.size, buffer.offset
            )
        buffer.offset = buffer.size = 0
    return model


def packed(model):
    """Returns the bytes of a file of what `unpacked` returned."""
    import flatbuffers

    class Builder(flatbuffers.Builder):
        def StartVector(self, size, count, alignment):
            if size == 1:  # the contents of a buffer
                alignment = max(alignment, _ALIGNMENT)
            return super().StartVector(size, count, alignment)

    constants = (b.data for b in model.buffers if b.data is not None)
    builder = Builder(sum(map(len, constants)) + 65536)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class Operator(NamedTuple):
    """An operator of a file.

    Attributes:
        name: Such as `"CONV_2D"`; a custom operator has its own name, such as
            `"FlexErf"`.
        builtin: Whether every interpreter has it.
        outputs: Names of the tensors it computes. The converter puts the name
            scopes of the Keras layers there.
    """

    name: str
    builtin: bool
    outputs: tuple


def operators(filepath):
    """Lists the operators of a file in order, then those of its subgraphs.

    Args:
        filepath: A `.tflite` file.

    Returns:
        A list of `Operator`.
    """
    from ai_edge_litert import schema_py_generated as schema

    names = operator_names()
    listed = []
    with mapped(filepath) as data:
        model = schema.Model.GetRootAs(data, 0)
        for i in range(model.SubgraphsLength()):
            graph = model.Subgraphs(i)
            for j in range(graph.OperatorsLength()):
                operator = graph.Operators(j)
                code = model.OperatorCodes(operator.OpcodeIndex())
                # Numbers below 127 are in the older of the two fields.
                number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
                builtin = number != schema.BuiltinOperator.CUSTOM
                name = names.get(number, str(number))
                if not builtin:
                    name = (code.CustomCode() or b"CUSTOM").decode()
                outputs = tuple(
                    (graph.Tensors(operator.Outputs(k)).Name() or b"").decode()
                    for k in range(operator.OutputsLength())
                )
                listed.append(Operator(name, builtin, outputs))
    return listed


def operator_names():
    """Returns a dict number of a builtin operator -> its name."""
    from ai_edge_litert import schema_py_generated as schema

    return {
        number: name
        for name, number in vars(schema.BuiltinOperator).items()
        if isinstance(number, int)
    }


def operator_counts(operators):
    """Counts operators: a dict name -> how many, the most frequent first."""
    return dict(
        collections.Counter(
            operator.name for operator in operators
        ).most_common()
    )


def size_parts(filepath):
    """Measures what the bytes of a file are for.

    Args:
        filepath: A `.tflite` file.

    Returns:
        A dict of bytes that sum to the size of the file: `"weights"` (all
        constants), `"scales"` (scales and zero points, of each channel if the
        file is quantized so), `"metadata"`, and `"graph"` (operators, names
        of tensors, alignment).
    """
    from ai_edge_litert import schema_py_generated as schema

    parts = dict.fromkeys(("weights", "scales", "metadata"), 0)
    with mapped(filepath) as data:
        model = schema.Model.GetRootAs(data, 0)
        buffers = set()
        for i in range(model.SubgraphsLength()):
            graph = model.Subgraphs(i)
            for j in range(graph.TensorsLength()):
                tensor = graph.Tensors(j)
                buffers.add(tensor.Buffer())
                scales = tensor.Quantization()
                if scales is not None:
                    parts["scales"] += 8 * scales.ZeroPointLength() + 4 * (
                        scales.ScaleLength()
                        + scales.MinLength()
                        + scales.MaxLength()
                    )
        for i in range(model.BuffersLength()):
            kind = "weights" if i in buffers else "metadata"
            parts[kind] += model.Buffers(i).DataLength()
        parts["graph"] = len(data) - sum(parts.values())
    return parts


@contextlib.contextmanager
def mapped(filepath):
    """Maps a file into memory, so that only what is looked at is read."""
    with open(filepath, "rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
