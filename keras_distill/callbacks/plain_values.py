"""Plain Python values and arrays as bytes, with a checksum.

Not a pickle: reading a file runs no code.
"""

import hashlib
import io
import json
from typing import Any

import numpy as np

_TITLE = b"keras_distill backup 1\n"
_VALUES = "values"


def to_bytes(value) -> bytes:
    """Packs a plain value, see `encoded`."""
    arrays: list[np.ndarray] = []
    text = json.dumps(encoded(value, arrays))
    stream = io.BytesIO()
    named: dict[str, Any] = {str(i): a for i, a in enumerate(arrays)}
    named[_VALUES] = text
    np.savez(stream, **named)
    content = stream.getvalue()
    return _TITLE + hashlib.sha256(content).digest() + content


def from_bytes(content: bytes):
    """Unpacks what `to_bytes` packed.

    Raises:
        ValueError: If a bit has changed.
    """
    start = len(_TITLE) + hashlib.sha256().digest_size
    checksum, packed = content[len(_TITLE) : start], content[start:]
    if not content.startswith(_TITLE) or (
        hashlib.sha256(packed).digest() != checksum
    ):
        raise ValueError("its checksum is not that of its content")
    with np.load(io.BytesIO(packed)) as arrays:
        return _decoded(json.loads(str(arrays[_VALUES])), arrays)


def encoded(value, arrays):
    """Returns a value as JSON, and appends its arrays to a list.

    Args:
        value: `None`, numbers, strings, arrays; lists, tuples and dicts of
            them.
        arrays: The list.

    Raises:
        TypeError: If it is something else.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError("An array of objects is not plain.")
        name = array.dtype.name
        # NumPy cannot write the types of others, such as bfloat16.
        if array.dtype.kind == "V":
            array = array.view(f"u{array.dtype.itemsize}")
        arrays.append(array)
        is_number = isinstance(value, np.generic)
        return {"array": [len(arrays) - 1, name, is_number]}
    if isinstance(value, dict):
        pairs = [[k, v] for k, v in value.items()]
        return {"dict": encoded(pairs, arrays)}
    if isinstance(value, (list, tuple)):
        items = [encoded(item, arrays) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    raise TypeError(f"{type(value).__name__} is not plain.")


def _decoded(value, arrays):
    if isinstance(value, list):
        return [_decoded(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        number, name, is_number = content
        array = arrays[str(number)]
        if array.dtype.name != name:
            array = array.view(np.dtype(name))
        return array[()] if is_number else array
    content = _decoded(content, arrays)
    return dict(content) if kind == "dict" else tuple(content)
