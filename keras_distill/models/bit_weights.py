"""The published weights of BiT networks."""

import os
import re
import zipfile

import keras
import ml_dtypes
import numpy as np

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_model


def load_bit_weights(
    model: keras.Model, path: str | os.PathLike, *, head: bool = True
) -> None:
    """Loads weights of a published BiT file into a network.

    It reads the `.npz` files of BiT-S and BiT-M (`BiT-M-R50x1.npz` knows the
    21 843 classes of ImageNet-21k) and those of big_vision, such as the
    distilled `R50x1_224.npz`. The first kind was trained with
    `stem_padding="zeros"`.

    Args:
        model: What `kd.models.bit_resnet` returned, of the file's depth and
            width.
        path: The file.
        head: Whether the last layer is loaded too. `False` keeps that of the
            network, which may have another number of classes. Defaults to
            `True`.

    Raises:
        ValueError: If the file is no `.npz` file; if an array is missing, has
            another shape, holds other than finite numbers, or belongs to no
            layer or to that of another array: the message names it. The
            network is as it was then.

    Example:

    ```python
    teacher = kd.models.bit_resnet(50, 1, classes=37, stem_padding="zeros")
    kd.models.load_bit_weights(teacher, "BiT-M-R50x1.npz", head=False)
    ```

    Reference: Kolesnikov et al., "Big Transfer (BiT): General Visual
    Representation Learning", 2020; its code, google-research/big_transfer.
    """
    checked_model("model", model)
    checked_boolean("head", head)
    path = as_path("path", path)
    expected = dict(_expected(model))
    with _opened(path) as file:
        names = _names(path, file.files)
        if not head:
            for name in ("kernel", "bias"):
                names.pop(f"resnet/head/conv2d/{name}", None)
                expected.pop(f"resnet/head/conv2d/{name}", None)
        missing = sorted(set(expected) - set(names))
        extra = sorted(set(names) - set(expected))
        if missing or extra:
            raise ValueError(
                f"{path} does not fit '{model.name}'. Missing in the file: "
                f"{_few(missing)}. Without a layer in the network: "
                f"{_few(extra)}. Build the network with the file's depth."
            )
        arrays = {name: _floats(path, file, names[name]) for name in expected}
    for name, variable in expected.items():
        array, shape = arrays[name], tuple(variable.shape)
        squeezed = np.squeeze(array)
        if squeezed.shape != tuple(size for size in shape if size != 1):
            raise ValueError(
                f"{path}: '{name}' is {array.shape}, but the weight of "
                f"'{model.name}' is {shape}. Build the network with the file's "
                "width and classes, or keep its own head with head=False."
            )
        arrays[name] = squeezed.reshape(shape)
    for name, variable in expected.items():
        variable.assign(arrays[name])


def _opened(path):
    try:
        file = np.load(path)
    except (EOFError, ValueError, zipfile.BadZipFile):
        file = None
    if not hasattr(file, "files"):
        raise ValueError(f"{path} is no .npz file of weights.")
    return file


def _names(path, names):
    """A dict published name -> the name in the file."""
    result = {}
    for name in names:
        published = _published_name(name)
        if published in result:
            raise ValueError(
                f"{path}: '{result[published]}' and '{name}' are both "
                f"'{published}'. Pass a file with one of them."
            )
        if published is not None:
            result[published] = name
    return result


def _floats(path, file, name):
    """An array of a file in float32."""
    try:
        array = np.asarray(file[name])
    except ValueError as error:  # Objects.
        raise ValueError(f"{path}: '{name}' cannot be read: {error}") from error
    if array.dtype == "V2":  # So NumPy stores bfloat16.
        array = array.view(ml_dtypes.bfloat16)
    elif array.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: '{name}' must be an array of numbers. Received: dtype "
            f"{array.dtype}"
        )
    with np.errstate(over="ignore"):
        array = array.astype("float32")
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: '{name}' is not finite in float32.")
    return array


def _expected(model):
    """Pairs of a published name and a variable."""
    for layer in model.layers:
        prefix = _prefix(layer.name)
        for variable in layer.weights if prefix else ():
            yield f"{prefix}/{variable.name}", variable


def _prefix(layer):
    """The published name of a layer of `bit_resnet`, `None` without weights."""
    fixed = {
        "stem_conv": "resnet/root_block/standardized_conv2d",
        "head_norm": "resnet/group_norm",
        "logits": "resnet/head/conv2d",
    }
    unit = re.fullmatch(r"stage(\d)_unit(\d+)_([a-z]+)(\d?)", layer)
    if unit is None:
        return fixed.get(layer)
    stage, number, part, place = unit.groups()
    prefix = f"resnet/block{stage}/unit{int(number):02d}"
    if part == "shortcut":
        return f"{prefix}/a/proj/standardized_conv2d"
    kinds = {"conv": "standardized_conv2d", "norm": "group_norm"}
    if part not in kinds:
        return None
    return f"{prefix}/{'abc'[int(place) - 1]}/{kinds[part]}"


# Names of big_vision, `models/bit_paper.py`.
_BIG_VISION = (
    (r"root_block/conv_root/(\w+)", r"root_block/standardized_conv2d/\1"),
    (r"norm-pre-head/(\w+)", r"group_norm/\1"),
    (r"head/(\w+)", r"head/conv2d/\1"),
    (r"(.*)/conv_proj/(\w+)", r"\1/a/proj/standardized_conv2d/\2"),
    (r"(.*)/conv1/(\w+)", r"\1/a/standardized_conv2d/\2"),
    (r"(.*)/conv2/(\w+)", r"\1/b/standardized_conv2d/\2"),
    (r"(.*)/conv3/(\w+)", r"\1/c/standardized_conv2d/\2"),
    (r"(.*)/gn1/(\w+)", r"\1/a/group_norm/\2"),
    (r"(.*)/gn2/(\w+)", r"\1/b/group_norm/\2"),
    (r"(.*)/gn3/(\w+)", r"\1/c/group_norm/\2"),
)


def _published_name(name):
    """The name of an array in the first published layout.

    `None` for what no network holds, such as the state of an optimizer.
    """
    if name.startswith("resnet/"):
        # Some files number the layers: standardized_conv2d_7.
        return re.sub(
            r"(standardized_conv2d|group_norm|conv2d)_\d+", r"\1", name
        )
    if name.startswith("opt/") and not name.startswith("opt/target/"):
        return None
    name = re.sub(r"^(params|opt/target)/", "", name)
    for pattern, published in _BIG_VISION:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, published, name)
            break
    if "group_norm" in name:
        name = name.replace("/scale", "/gamma").replace("/bias", "/beta")
    return f"resnet/{name}"


def _few(names):
    shown = ", ".join(names[:5]) or "none"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
