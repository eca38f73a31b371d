"""What a file does before an aware model, with ranges as the model has."""

import keras
import numpy as np

from keras_distill.export.aware import input_range
from keras_distill.quantization.aware import aware
from keras_distill.quantization.ranges import calibrate
from keras_distill.quantization.ranges import range_layers
from keras_distill.views import Views

# Of an image whose size is open: its constant values are measured.
_ANY_SIZE = 64


def rounded_preprocessing(model, preprocessing, inputs, value_range, is_bytes):
    """Makes the int8 form of what comes before a model.

    It gives values in the range of the model's input. Bytes are read as they
    are.

    Args:
        model: A model of `kd.quantization.aware`.
        preprocessing: As in `kd.export.tflite`; `None`: nothing.
        inputs: The inputs of the graph, from `model_inputs.input_signature`.
        value_range: `(low, high)` of what the app passes, or `None`.
        is_bytes: Whether that is uint8.

    Returns:
        A Functional model.

    Raises:
        ValueError: If the preprocessing cannot be rounded.
    """
    layer = preprocessing
    if preprocessing is None:
        layer = keras.layers.Identity()
    elif isinstance(preprocessing, Views):
        layer = preprocessing.student_layer
    if not isinstance(layer, keras.layers.Layer) or len(inputs) != 1:
        raise ValueError(
            f"'{model.name}' has trained ranges, and what comes before it "
            "needs some too. So `preprocessing` must be a Keras layer or "
            "model with one input, of layers that int8 knows, such as "
            "Rescaling, Normalization and Resizing. Or put it into the "
            "student before kd.quantization.aware is called. Received: "
            f"{preprocessing!r} for {len(inputs)} input(s)"
        )
    if value_range is None:
        raise ValueError(
            f"'{model.name}' has trained ranges, and `preprocessing` needs "
            "some too. Say which values the app passes: metadata="
            '{"input_range": (low, high)}, or uint8, interface='
            "kd.export.Interface(input_signature=[tf.TensorSpec((1, 480, 640, "
            '3), tf.uint8, name="image")]).'
        )
    (spec,) = inputs.values()
    x = keras.Input(batch_shape=spec.shape, name=spec.name)
    rounded = aware(keras.Model(x, layer(x), name=layer.name))
    # Layers that scale and resize have their extremes where the input does.
    shape = (1, *[size or _ANY_SIZE for size in spec.shape[1:]])
    extremes = [np.full(shape, value, "float32") for value in value_range]
    calibrate(rounded, np.concatenate(extremes))
    first, *others = range_layers(rounded)
    if others or not is_bytes:
        last = (others or [first])[-1]
        low, high = input_range(model)
        last.minimum.assign(low)
        last.maximum.assign(high)
        return rounded
    # TFLite has no operator that only changes the range, and bytes pass this.
    return keras.Model(rounded.inputs, keras.layers.ReLU()(rounded.outputs[0]))
