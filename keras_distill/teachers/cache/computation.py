"""What a model computes with its weights, as far as its configuration says.

A fingerprint of the weights does not see another activation, another
Rescaling or other weights of an Ensemble's members.
"""

import hashlib
import json

import keras

# What differs between equal layers: Keras numbers their names, and notes what
# a layer met once it was called.
_OF_THE_PROCESS = (
    "name",
    "build_config",
    "compile_config",
    "build_input_shape",
)
# What a pass without training does not depend on, or where the class is.
_OF_TRAINING = ("trainable", "seed", "module")


def computation(model):
    """What a header says of it.

    Args:
        model: A `keras.Model`.

    Returns:
        A dict with the version of Keras, as another one may write other
        configurations, and a hash; `None` where the model has no
        configuration.
    """
    try:
        config = _of_inference(
            plain(keras.saving.serialize_keras_object(model))
        )
        text = json.dumps(config, sort_keys=True)
    except Exception:  # get_config is the user's
        return None
    return {
        "keras": keras.__version__,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def hash_here(described):
    """The hash, to compare with one of this process; `None`: not to be
    compared."""
    if not described or described["keras"] != keras.__version__:
        return None
    return described["sha256"]


def plain(config):
    """A configuration without what differs between equal objects."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return config
        if "input_layers" in config and "layers" in config:
            config = _numbered(config)
        return {
            key: plain(value)
            for key, value in config.items()
            if key not in _OF_THE_PROCESS
        }
    if isinstance(config, (list, tuple)):
        # A Sequential gets its input layer when it is first called.
        return [
            plain(item)
            for item in config
            if not isinstance(item, dict)
            or item.get("class_name") != "InputLayer"
        ]
    return config


def _numbered(config):
    """A Functional model's, its layers called by their place."""
    places = {
        layer["name"]: f"layer {place}"
        for place, layer in enumerate(config["layers"])
    }

    def renamed(item):
        if isinstance(item, dict):
            return {key: renamed(value) for key, value in item.items()}
        if not isinstance(item, (list, tuple)):
            return item
        # [layer, node, tensor] is how a tensor is told.
        if len(item) == 3 and isinstance(item[0], str) and item[0] in places:
            return [places[item[0]], *item[1:]]
        return [renamed(value) for value in item]

    layers = [
        {**layer, "inbound_nodes": renamed(layer.get("inbound_nodes"))}
        for layer in config["layers"]
    ]
    ends = ("input_layers", "output_layers")
    return {**config, "layers": layers} | {k: renamed(config[k]) for k in ends}


def _of_inference(config):
    if isinstance(config, dict):
        if config.get("class_name") == "__lambda__":
            return "__lambda__"  # Its bytes are those of one process.
        return {
            key: _of_inference(value)
            for key, value in config.items()
            if key not in _OF_TRAINING
        }
    if isinstance(config, (list, tuple)):
        return [_of_inference(item) for item in config]
    return config
