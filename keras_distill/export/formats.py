"""A model in the format that a path names: TFLite, `.keras`, SavedModel."""

from keras_distill._data.sources import check_model
from keras_distill.export.atomic_write import written_whole
from keras_distill.export.paths import checked_path
from keras_distill.export.paths import chosen_format


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
    check_model(model)
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
