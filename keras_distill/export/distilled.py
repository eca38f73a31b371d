"""What a Distiller exports: the deployable student, as `evaluate` sees it."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from keras_distill._data.sources import MappedData
from keras_distill.export.formats import export_model
from keras_distill.export.network import student_input
from keras_distill.export.paths import chosen_format
from keras_distill.export.request import Interface
from keras_distill.export.request import RepresentativeDataset


def export_distilled(distiller, filepath, format=None, **options):
    """Calls `export_model` for a Distiller's deployable student.

    If the views have a layer between the data and the student
    (`student_preprocess=`, `kd.views.Preprocessing(student=)`), it ships with
    the student: the exported file takes what `evaluate` and `predict` take.
    So does the representative data.

    Args:
        distiller: A `kd.Distiller`.
        filepath, format, **options: As for `export_model`. `preprocessing`
            defaults to the views if they have such a layer, and the
            `input_signature` of `interface` then to the student's own inputs
            if the layer keeps their shape. `preprocessing=None` exports the
            student alone; the representative data still passes the views'
            `evaluation`.

    Raises:
        ValueError: If such a layer changes shapes and no `input_signature`
            says what the file takes.
    """
    model, views = distiller.deployable_student(), distiller.views
    layer = views.student_layer
    ships = layer is not None and "preprocessing" not in options
    if chosen_format(filepath, format) == "litert":
        if ships:
            options["preprocessing"] = views
            options["interface"] = _with_signature(
                options.get("interface") or Interface(), model, layer
            )
    elif ships:
        model = with_layer(model, layer)
    elif options.get("preprocessing") is None:
        options.pop("preprocessing", None)  # Other formats do not know it.
    data = options.get("representative_dataset")
    if data is not None and options.get("preprocessing") is None:
        options["representative_dataset"] = _viewed(data, model, views)
    return export_model(model, filepath, format=format, **options)


def _viewed(data, model, views):
    """The representative data as the student sees it in evaluation."""

    def view(x):
        x = student_input(model, x, views)
        return keras.tree.map_structure(np.asarray, x)

    if isinstance(data, RepresentativeDataset):
        return dataclasses.replace(data, dataset=MappedData(data.dataset, view))
    return MappedData(data, view)


def with_layer(model, layer):
    """Joins the layer and the model to one functional model.

    Args:
        model: A model with one input.
        layer: The layer before it.
    """
    tensor = _only_input(model, layer)
    shape = raw_shape(model, layer)
    inputs = keras.Input(shape[1:], shape[0], tensor.dtype, name=tensor.name)
    return keras.Model(inputs, model(layer(inputs)), name=model.name)


def raw_shape(model, layer):
    """Returns the shape that the layer takes, with `None` for any size.

    A layer that resizes takes any size; one that keeps shapes takes the
    model's.
    """
    tensor = _only_input(model, layer)
    shape = tuple(tensor.shape)
    any_size = (shape[0], *[None] * (len(shape) - 2), shape[-1])
    for tried in (any_size, shape):
        inputs = keras.KerasTensor(tried, tensor.dtype)
        result = tuple(layer.compute_output_spec(inputs).shape)
        if result == shape:
            return tried
    raise ValueError(
        f"The views' layer '{layer.name}' goes before the student. It turns "
        f"{tried} into {result}, but '{model.name}' takes {shape}. Say what "
        "the file takes, interface=kd.export.Interface(input_signature=...) "
        "(TFLite), or export the student alone with preprocessing=None."
    )


def _with_signature(interface, model, layer):
    """Fills in the model's inputs if the layer keeps their shape."""
    if interface.input_signature is not None:
        return interface
    shape = raw_shape(model, layer)
    if None in shape[1:]:
        raise ValueError(
            f"The views' layer '{layer.name}' goes into the file, which then "
            "takes images of any size. Say which size the app passes, "
            "interface=kd.export.Interface(input_signature=[tf.TensorSpec((1, "
            '480, 640, 3), tf.uint8, name="image")]), or export the student '
            "alone with preprocessing=None."
        )
    tensor = _only_input(model, layer)
    shape = (interface.batch_size, *shape[1:])
    signature = [tf.TensorSpec(shape, tensor.dtype, name=tensor.name)]
    return dataclasses.replace(interface, input_signature=signature)


def _only_input(model, layer):
    inputs = getattr(model, "inputs", None)
    if not inputs or len(inputs) > 1:
        raise ValueError(
            f"'{layer.name}' of the views cannot be put before the inputs of "
            f"'{model.name}': it has {len(inputs or ())} symbolic inputs, not "
            "one. Give preprocessing=None to export the student alone."
        )
    return inputs[0]
