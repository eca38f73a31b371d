"""From a Keras model to a TFLite file that ships.

The file is written whole or not at all: into a temporary folder beside its
destination; it is opened and run there once, and then renamed. Here are the
checks that come before a conversion (a failed one speaks MLIR) and after it;
the conversion itself is in `conversion.py`.
"""

import re
import time

import keras

from keras_distill._arguments import checked_integer
from keras_distill._data.sources import check_model
from keras_distill.export import camera
from keras_distill.export import model_inputs
from keras_distill.export.atomic_write import written_whole
from keras_distill.export.conversion import conversion
from keras_distill.export.file import acceptance
from keras_distill.export.file import file_metadata
from keras_distill.export.file import notes
from keras_distill.export.file.lite_model import details
from keras_distill.export.network import ACTIVATIONS
from keras_distill.export.network import Network
from keras_distill.export.network import check_activation
from keras_distill.export.network import check_preprocessing
from keras_distill.export.network import check_units
from keras_distill.export.paths import checked_path

QUANTIZATIONS = (None, "float16", "dynamic", "int8", "int16x8")
INTEGER = ("int8", "int16x8")


def tflite(
    model,
    filepath,
    *,
    quantization=None,
    representative_dataset=None,
    representative_samples=500,
    integer_io=False,
    preprocessing=None,
    activation=None,
    batch_size=1,
    input_signature=None,
    signature_name="serving_default",
    metadata=None,
    allow_select_tf_ops=False,
    overwrite=False,
    verbose=True,
):
    """Writes a model as a TFLite file of builtin operators, and runs it once.

    Args:
        model: A built `keras.Model`. Layers in half precision are converted
            in float32; recurrent layers are unrolled for `"int8"` and
            `"int16x8"`, and for an open batch size. The model itself is left
            as it was.
        filepath: Where to write, ending in `.tflite`. Missing folders are
            made.
        quantization: `None`: float32. `"float16"`: weights in half precision.
            `"dynamic"`: int8 weights of large tensors, float arithmetic
            around them. `"int8"`: weights and activations in int8.
            `"int16x8"`: int16 activations, int8 weights. Defaults to `None`.
        representative_dataset: What `"int8"` and `"int16x8"` measure the
            range of activations on: inputs preprocessed as in training (raw
            ones, if `preprocessing` goes into the file), all classes mixed. A
            `tf.data.Dataset` of `x`, `(x, y)` or `(x, y, sample_weight)`
            batches, any iterable of such batches or a function that returns
            one, one array, a dict of arrays, or a tuple `(x, y)`. Not read
            for other quantizations.
        representative_samples: How many samples to use at most: the first of
            a dataset, evenly spaced ones of arrays. Defaults to 500, the upper
            end of what TensorFlow's guide to post-training quantization
            advises (100 to 500).
        integer_io: Whether inputs and outputs of `"int8"` (`"int16x8"`) are
            int8 (int16) too. Defaults to `False`: they stay float32.
        preprocessing: What goes into the file before the model, so that the
            phone passes raw data: a Keras layer or model, a function of `x`,
            or a `kd.views.Views` (its `evaluation`). `input_signature` then
            says what the phone passes, for instance a camera's image
            `[tf.TensorSpec((1, 480, 640, 3), tf.uint8, name="image")]`, or of
            any size, `(1, None, None, 3)`. uint8 is cast to float32 first; in
            an int8 file it stays uint8. Defaults to `None`.
        activation: `"softmax"` or `"sigmoid"`, put behind every output. For
            models that give logits: one that ends in a softmax or a sigmoid
            is refused. Defaults to `None`.
        batch_size: Number of samples per call; `None`: chosen at each call.
            Defaults to 1. `input_signature`, where given, decides itself.
        input_signature: As in `keras.Model.export`, such as
            `[tf.TensorSpec((1, 96, 96, 3), tf.float32, name="image")]`, for
            models that leave sizes open. Defaults to `None`: the model's own
            inputs, by name.
        signature_name: Name of the file's signature. Defaults to TensorFlow's
            own, `"serving_default"`.
        metadata: A dict of what JSON can hold, stored in the file beside what
            `kd.export.metadata` lists. `"class_names"` is checked against the
            classes (one of several outputs has to fit); `"input_range"`,
            `(low, high)`, says what the input takes where no representative
            data tells.
        allow_select_tf_ops: Whether parts that TFLite has no operator for may
            stay TensorFlow's (Flex). Such a file needs TensorFlow's Flex
            delegate in the app and cannot be run here. Defaults to `False`.
        overwrite: Whether an existing file may be replaced.
        verbose: Whether to show progress and print what was written.

    Returns:
        The `pathlib.Path` of the file.

    Raises:
        TypeError: If `model` is no `keras.Model`.
        ValueError: If the model is not built or leaves sizes open, if
            `filepath` does not end in `.tflite`, an argument is unknown or
            contradicts another, or representative data is missing, empty or
            does not fit the inputs.
        FileExistsError: If the file exists and `overwrite` is `False`.
        ExportError: If TFLite has no operator for a part of the model (the
            message names operator and layer), if its converter crashes, or if
            the converted file does not run. Nothing is left behind.

    Warns:
        UserWarning: If representative data lies in another range than the
            input is said to, or if an integer file keeps floats inside.

    Example:

    ```python
    images = np.random.uniform(size=(200, 28, 28, 1)).astype("float32")
    student = keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    path = kd.export.tflite(
        student,
        "files/student_int8.tflite",
        quantization="int8",
        representative_dataset=images,
    )
    logits = kd.export.load(path)(images)
    ```
    """
    check_model(model)
    check_preprocessing(preprocessing)
    integer = quantization in INTEGER
    filepath = checked_path(filepath, "litert", overwrite)
    _check_choices(
        quantization, integer_io, activation, batch_size, signature_name
    )
    check_activation(model, activation)
    inside = preprocessing is not None
    signature, inputs = model_inputs.input_signature(
        _source(model, preprocessing, input_signature),
        input_signature,
        batch_size,
    )
    if input_signature is None:
        _check_sizes(model, inputs)
    class_names, input_range, user = notes.checked(metadata, model)
    dtypes = {"int8": "int8", "int16x8": "int16"}
    own = dtypes[quantization] if integer_io else "float32"
    request = {
        "quantization": quantization,
        "signature_name": signature_name,
        "select_tf_ops": bool(allow_select_tf_ops),
        "input_dtype": own,
        "output_dtype": own,
    }
    is_camera = inside and camera.is_camera(inputs)
    if is_camera and integer:
        signature, inputs = camera.in_float(signature, inputs, quantization)
        request["input_dtype"] = "uint8"
    samples = None
    if integer:
        samples = model_inputs.representative_samples(
            representative_dataset, representative_samples, inputs, quantization
        )
    if is_camera and input_range is None:
        input_range = camera.RANGE
    limits = notes.input_ranges(samples, input_range, inputs)
    if is_camera and integer:
        samples = camera.with_extremes(samples)
    network = Network(model, preprocessing, activation)
    network.check_shapes(signature)

    start = time.perf_counter()
    as_floats = preprocessing if is_camera and integer else None
    with written_whole(filepath, overwrite) as temporary:
        with camera.taking_floats(as_floats):
            data = conversion.convert(
                network, signature, request, samples, verbose
            )
        temporary.write_bytes(data)
        found = details(temporary)
        shapes = [detail["shape"] for detail in found[1].values()]
        notes.check_class_names(class_names, shapes)
        for shape in shapes:
            check_units(model, activation, shape)
        if is_camera and integer:
            camera.check(found[0])
        facts = notes.notes(
            model,
            found,
            limits,
            class_names,
            user,
            quantization=quantization,
            preprocessing=inside,
            activation=activation,
            signature_name=signature_name,
            input_order=[spec.name for spec in inputs.values()],
            representative_samples=len(samples) if samples else None,
        )
        file_metadata.write(temporary, facts)
        acceptance.check(
            temporary, model, samples[0] if samples else None, quantization
        )
        if integer:
            acceptance.warn_of_float_operators(temporary, filepath.name)
    if verbose:
        kind, size = quantization or "float32", filepath.stat().st_size / 1024
        seconds = time.perf_counter() - start
        print(f"Saved '{filepath}': {kind}, {size:.1f} KiB, {seconds:.1f} s.")
    return filepath


def _check_choices(quantization, integer_io, activation, batch_size, name):
    if quantization not in QUANTIZATIONS:
        raise ValueError(
            f"`quantization` must be one of {list(QUANTIZATIONS)}. Received: "
            f"{quantization!r}"
        )
    if integer_io and quantization not in INTEGER:
        raise ValueError(
            '`integer_io=True` needs quantization="int8" or "int16x8". '
            f"Received: quantization={quantization!r}"
        )
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"`activation` must be one of {list(ACTIVATIONS)}. Received: "
            f"{activation!r}"
        )
    checked_integer("`batch_size`", batch_size, or_none=True)
    if not re.fullmatch(r"[A-Za-z]\w*", str(name)):
        raise ValueError(
            "`signature_name` must consist of letters, digits and underscores "
            f"and begin with a letter. Received: {name!r}"
        )


def _source(model, preprocessing, signature):
    """The model whose inputs are those of the file."""
    if preprocessing is None or signature is not None:
        return model
    if isinstance(preprocessing, keras.Model) and preprocessing.built:
        return preprocessing
    raise ValueError(
        "With `preprocessing`, `input_signature` must say what the phone "
        'passes: [tf.TensorSpec((1, 480, 640, 3), tf.uint8, name="image")], '
        "or (1, None, None, 3) for any size."
    )


def _check_sizes(model, inputs):
    for key, spec in inputs.items():
        if None in tuple(spec.shape)[1:]:
            raise ValueError(
                f"The input '{key}' of '{model.name}' leaves sizes open: "
                f"{tuple(spec.shape)}. A TFLite file needs them: "
                "`input_signature=[tf.TensorSpec((1, ...), tf.float32, "
                f'name="{spec.name}")]`.'
            )
