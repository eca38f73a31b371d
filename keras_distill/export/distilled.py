"""What a Distiller exports: the deployable student, seen as in evaluation."""

import keras
import numpy as np
import tensorflow as tf

from keras_distill._data.sources import MappedData
from keras_distill.export.formats import export_model
from keras_distill.export.network import student_input
from keras_distill.export.paths import chosen_format


def export_distilled(distiller, filepath, format=None, **options):
    """`export_model` of a Distiller's deployable student.

    A layer that its views put between the data and the student
    (`student_preprocess=`, `kd.views.Preprocessing(student=)`) ships with it:
    what was exported takes what `evaluate` and `predict` take. So does the
    representative data.

    Args:
        distiller: A `kd.Distiller`.
        filepath, format, **options: As for `export_model`. `preprocessing`
            defaults to the views, where they have such a layer, and
            `input_signature` then to the student's own inputs, where the layer
            keeps their shape. `preprocessing=None`: the student alone; the
            representative data still passes the views' `evaluation`.

    Raises:
        ValueError: if such a layer changes shapes and nothing says what the
            file takes.
    """
    model, views = distiller.deployable_student(), distiller.views
    layer = views.student_layer
    ships = layer is not None and "preprocessing" not in options
    if chosen_format(filepath, format) == "litert":
        if ships:
            options["preprocessing"] = views
            if options.get("input_signature") is None:
                options["input_signature"] = _own_signature(
                    model, layer, options.get("batch_size", 1)
                )
    elif ships:
        model = with_layer(model, layer)
    elif options.get("preprocessing") is None:
        options.pop("preprocessing", None)  # Other formats do not know it.
    data = options.get("representative_dataset")
    if data is not None and options.get("preprocessing") is None:

        def seen(x):
            x = student_input(model, x, views)
            return keras.tree.map_structure(np.asarray, x)

        options["representative_dataset"] = MappedData(data, seen)
    return export_model(model, filepath, format=format, **options)


def with_layer(model, layer):
    """The layer and the model as one functional model.

    Args:
        model: A model with one input.
        layer: What comes before it.
    """
    tensor = _only_input(model, layer)
    shape = raw_shape(model, layer)
    inputs = keras.Input(shape[1:], shape[0], tensor.dtype, name=tensor.name)
    return keras.Model(inputs, model(layer(inputs)), name=model.name)


def raw_shape(model, layer):
    """What the layer takes to give what the model takes, `None`: any size.

    A layer that resizes takes any size; one that keeps shapes takes the
    model's.
    """
    tensor = _only_input(model, layer)
    shape = tuple(tensor.shape)
    any_size = (shape[0], *[None] * (len(shape) - 2), shape[-1])
    for tried in (any_size, shape):
        given = keras.KerasTensor(tried, tensor.dtype)
        found = tuple(layer.compute_output_spec(given).shape)
        if found == shape:
            return tried
    raise ValueError(
        f"The views' layer '{layer.name}' goes before the student. It makes "
        f"{found} of {tried}; '{model.name}' takes {shape}. Give "
        "`input_signature=` of what the file takes (TFLite), or "
        "preprocessing=None to export the student alone."
    )


def _own_signature(model, layer, batch_size):
    """The model's inputs, if the layer keeps their shape."""
    shape = raw_shape(model, layer)
    if None in shape[1:]:
        raise ValueError(
            f"The views' layer '{layer.name}' goes into the file, which then "
            "takes images of any size: say which the phone passes, "
            "input_signature=[tf.TensorSpec((1, 480, 640, 3), tf.uint8, "
            'name="image")], or export the student alone with '
            "preprocessing=None."
        )
    tensor = _only_input(model, layer)
    shape = (batch_size, *shape[1:])
    return [tf.TensorSpec(shape, tensor.dtype, name=tensor.name)]


def _only_input(model, layer):
    inputs = getattr(model, "inputs", None)
    if not inputs or len(inputs) > 1:
        raise ValueError(
            f"'{layer.name}' of the views cannot be put before the inputs of "
            f"'{model.name}': it has {len(inputs or ())} symbolic inputs, not "
            "one. Give preprocessing=None to export the student alone."
        )
    return inputs[0]
