"""`load_teacher`: from a file, a name or a function."""

import difflib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras

from keras_distill.teachers.applications import application
from keras_distill.teachers.applications import application_names
from keras_distill.teachers.black_box import BlackBox


def load_teacher(
    source: str | os.PathLike | Callable | keras.Model, **options: Any
) -> keras.Model:
    """Loads a teacher from a file, by name, or makes it of a function.

    - A `.keras` or `.h5` file gives its model, and the file of a
      `kd.Distiller` what that ships. Options are those of
      `keras.saving.load_model`; `compile` defaults to `False`.
    - A name in keras.applications, such as `"MobileNetV2"`, gives that network
      behind its own preprocessing: it takes images in [0, 255], whatever the
      family, and gives logits. Options are those of the function in
      keras.applications. `weights` defaults to `"imagenet"`, a download; a
      path to a file of weights needs none.
    - A `.tflite` file gives a `kd.BlackBox` that LiteRT runs, in the batch
      size of the file. Integer inputs and outputs are quantized and
      dequantized with the scales of the file. Names of the classes come from
      what `kd.export.tflite` noted.
    - An `.onnx` file gives a `kd.BlackBox` that onnxruntime runs (`pip install
      onnxruntime`). Images are channels last here, as everywhere in Keras; a
      file that takes channels first gets them so.
    - A Python function gives `kd.BlackBox(function, **options)`.
    - A `keras.Model` is a teacher already.

    What a teacher takes is its own matter. Files carry their preprocessing or
    do not: `kd.teachers.best_input_scale` finds out by labelled images.

    Args:
        source: A path, a name in keras.applications, or a function from a
            NumPy array `(batch, ...)` to one `(batch, ..., classes)`.
        **options: See above. Of a `.tflite` or `.onnx` file: `num_threads`
            (defaults to all cores), `output` (the name of one, if there are
            several), `data_format` (of an `.onnx` file whose shapes do not
            tell: `"channels_first"` or `"channels_last"`), and `input_shape`
            (if sizes are free), `activation`, `class_names` and `name` of
            `kd.BlackBox`.

    Returns:
        A `keras.Model`.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If onnxruntime is needed and not installed.
        OSError: If weights could not be downloaded.
        TypeError, ValueError: If `source` is nothing of the above, or a file
            cannot be read. Of a Keras file it is what Keras says.

    Example:

    ```python
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    kd.export.tflite(student, "teacher.tflite")
    teacher = kd.load_teacher("teacher.tflite")
    logits = teacher(np.ones((5, 6), "float32"))  # (5, 3)
    ```
    """
    if isinstance(source, keras.Model) and not options:
        return source
    if isinstance(source, keras.layers.Layer) or not (
        callable(source) or (isinstance(source, (str, os.PathLike)) and source)
    ):
        raise TypeError(
            "source must be a path, a name in keras.applications, a Python "
            f"function or a keras.Model. Received: {source!r} of type "
            f"{type(source).__name__}"
        )
    if not isinstance(source, (str, os.PathLike)):
        return BlackBox(source, **options)
    path = pathlib.Path(source)
    if path.suffix == ".tflite":
        from keras_distill.teachers.sources.tflite import TFLiteFile

        return _of_file(TFLiteFile, path, options)
    if path.suffix == ".onnx":
        from keras_distill.teachers.sources.onnx import ONNXFile

        return _of_file(ONNXFile, path, options)
    if path.exists():
        return _of_keras(path, options)
    names = application_names()
    if source in names:
        return application(str(source), **options)
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"There is no file '{source}'.")
    nearest = difflib.get_close_matches(str(source), names, n=3, cutoff=0.4)
    raise ValueError(
        "source must be a file that exists (.keras, .h5, .tflite, .onnx), a "
        f"name in keras.applications or a Python function. Received: "
        f"{source!r}. The nearest names are {nearest or names}."
    )


def _of_file(kind, path, options):
    """Returns the black box of a file."""
    of_box = ("input_shape", "activation", "class_names", "name")
    box = {key: options.pop(key) for key in of_box if key in options}
    return BlackBox(kind(path, **options), **{"name": path.stem, **box})


def _of_keras(path, options):
    from keras_distill.distillers.base import BaseDistiller

    model = keras.saving.load_model(path, **{"compile": False, **options})
    if not isinstance(model, BaseDistiller):
        return model
    deployable = getattr(model, "deployable_student", None)
    return model.student if deployable is None else deployable()
