"""A model in the format that a path names: TFLite, `.keras`, SavedModel."""

import dataclasses
import os
import pathlib
from typing import Any

import keras

from keras_distill._arguments import checked_boolean
from keras_distill.export import aware
from keras_distill.export import quiet
from keras_distill.export.paths import checked_path
from keras_distill.export.paths import chosen_format
from keras_distill.export.paths import written_whole
from keras_distill.export.request import Interface
from keras_distill.export.writing import tflite
from keras_distill.multitask.merging import merged


def export_model(
    model: keras.Model,
    filepath: str | os.PathLike,
    format: str | None = None,
    *,
    overwrite: bool = False,
    **options: Any,
) -> pathlib.Path:
    """Writes a model in the format that the path or `format` names.

    Args:
        model: A built `keras.Model`. One of `kd.quantization.aware` goes to
            LiteRT with `quantization="int8"`. As a SavedModel or `.keras` it
            rounds in float arithmetic; ONNX and OpenVINO refuse it.
        filepath: `*.tflite` is LiteRT, `*.keras` the Keras model, `*.onnx`
            ONNX, `*.xml` OpenVINO, a path without suffix a SavedModel folder.
        format: `"litert"` (or `"tflite"`), `"keras"`, `"tf_saved_model"`,
            `"onnx"` or `"openvino"`. Defaults to `None`: by `filepath`.
        overwrite: Whether to replace what exists. A folder is replaced only
            if it is a SavedModel or empty. Defaults to `False`.
        **options: The options of `tflite` for LiteRT, of `Model.save` for
            `"keras"`, and of `Model.export` for the other formats. Each takes
            `verbose`, whether to print what was written.

    Returns:
        The `pathlib.Path` of the file or folder.

    Raises:
        TypeError, ValueError, FileExistsError, ExportError: As in `tflite`;
            `ValueError` also if path and format contradict each other.

    Example:

    ```python
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    kd.export.export_model(student, "student.tflite", quantization="float16")
    kd.export.export_model(student, "student.keras", overwrite=True)
    kd.export.export_model(student, "student")  # SavedModel
    ```
    """
    model = merged(model)
    checked_boolean("`overwrite`", overwrite)
    format = chosen_format(filepath, format)
    if format == "litert":
        _check_options(options)
        return tflite(model, filepath, overwrite=overwrite, **options)
    if aware.is_aware(model):
        aware.check_format(model, format)
    path = checked_path(filepath, format, overwrite)
    verbose = options.pop("verbose", True)
    with (
        written_whole(path, overwrite) as temporary,
        quiet.without_python_log(),
    ):
        if format == "keras":
            model.save(temporary, **options)
        else:
            # Keras would print the temporary path.
            options["verbose"] = False
            model.export(str(temporary), format=format, **options)
    if verbose:
        print(f"Saved '{path}': {format}.")
    return path


def _check_options(options):
    """Raises for fields of `Interface`, some of which `Model.export` takes."""
    for field in dataclasses.fields(Interface):
        if field.name in options:
            raise TypeError(
                f"`{field.name}` belongs to the interface of a TFLite file: "
                f"interface=kd.export.Interface({field.name}="
                f"{options[field.name]!r})."
            )
