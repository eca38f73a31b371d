"""A model in the format that a path names: TFLite, `.keras`, SavedModel."""

import pathlib

from keras_distill.export import model_inputs
from keras_distill.export.atomic_write import check_free
from keras_distill.export.atomic_write import written_whole

# Format of `Model.export` (and "keras") -> how its path ends.
_SUFFIXES = {
    "litert": ".tflite",
    "keras": ".keras",
    "onnx": ".onnx",
    "openvino": ".xml",
    "tf_saved_model": "",
}


def export_model(model, filepath, format=None, *, overwrite=False, **options):
    """Writes a model in the format that the path or `format` names.

    Args:
        model: A built `keras.Model`.
        filepath: `*.tflite` is LiteRT, `*.keras` the Keras model, `*.onnx`
            ONNX, `*.xml` OpenVINO, a path without suffix a SavedModel folder.
        format: `"litert"` (or `"tflite"`), `"keras"`, `"tf_saved_model"`,
            `"onnx"` or `"openvino"`. Defaults to `None`: by `filepath`.
        overwrite: Whether what exists may be replaced. A folder is replaced
            only if it holds a SavedModel or nothing.
        **options: For LiteRT those of `tflite`, for `"keras"` those of
            `Model.save`, else those of `Model.export`.

    Returns:
        The `pathlib.Path` of the file or folder.

    Raises:
        TypeError, ValueError, FileExistsError, ExportError: As `tflite`;
            `ValueError` also if path and format contradict each other.

    Example:

    ```python
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    kd.export.export_model(student, "student.tflite", quantization="float16")
    kd.export.export_model(student, "student.keras", overwrite=True)
    kd.export.export_model(student, "student")  # SavedModel
    ```
    """
    model_inputs.check_model(model)
    format = chosen_format(filepath, format)
    if format == "litert":
        from keras_distill.export.writing import tflite

        return tflite(model, filepath, overwrite=overwrite, **options)
    filepath = checked_path(filepath, format, overwrite)
    with written_whole(filepath, overwrite) as temporary:
        if format == "keras":
            model.save(temporary, **options)
        else:
            model.export(str(temporary), format=format, **options)
    return filepath


def chosen_format(filepath, format):
    """-> the name of the format that a path or `format` asks for."""
    suffix = pathlib.Path(filepath).suffix
    if format is None:
        found = [f for f, ending in _SUFFIXES.items() if ending == suffix]
        if not found:
            known = [ending for ending in _SUFFIXES.values() if ending]
            raise ValueError(
                f"The path '{filepath}' does not say its format: its suffix "
                f"'{suffix}' is none of {known}. "
                f"Give `format=`, one of {list(_SUFFIXES)}."
            )
        return found[0]
    format = "litert" if format == "tflite" else format
    if format not in _SUFFIXES:
        raise ValueError(
            f"`format` must be one of {list(_SUFFIXES)}, or None. Received: "
            f"{format!r}"
        )
    return format


def checked_path(filepath, format, overwrite):
    """-> `pathlib.Path`, if it may be written to."""
    filepath = pathlib.Path(filepath)
    suffix = _SUFFIXES[format]
    foreign = filepath.suffix in set(_SUFFIXES.values()) - {""}
    if filepath.suffix != suffix if suffix else foreign:
        rule = f"end in '{suffix}'" if suffix else "be a folder's"
        raise ValueError(
            f"A path for the format '{format}' must {rule}. Received: "
            f"'{filepath}'"
        )
    check_free(filepath, overwrite, folder=not suffix)
    return filepath
