"""One tap or several: their names, their order, their shapes."""

from keras_distill._arguments import checked_numbers
from keras_distill.taps import places


def as_list(structure):
    """Returns one tensor, or a dict or list of tensors, as a list."""
    if isinstance(structure, dict):
        return list(structure.values())
    if isinstance(structure, (list, tuple)):
        return list(structure)
    return [structure]


def in_order(structure, names):
    """Returns the tensors (or shapes) of taps in the order of `names`.

    Several taps arrive as a dict, and `tf.nest` and JSON readers may sort its
    keys.
    """
    if isinstance(structure, dict) and isinstance(names, (list, tuple)):
        return [structure[name] for name in names]
    return as_list(structure)


def validated_taps(names, argument):
    """Checks a layer name, a list of them, or `None`."""
    names = places.from_config(names)
    if names is None or (isinstance(names, str) and names):
        return names
    if isinstance(names, (list, tuple)) and names:
        names = list(names)
        if all(isinstance(n, str) and n for n in names):
            if len(set(names)) != len(names):
                raise ValueError(
                    f"{argument} lists a layer twice. Received: {names}"
                )
            return names
    raise ValueError(
        f"{argument} must be a layer name, a list of layer names or None (the "
        f"model's output). Received: {names!r}"
    )


def checked_weights(weights, count, unit):
    """Checks `layer_weights`: one number for each of `count`, or `None`.

    Args:
        weights: A number, a list of numbers, or `None`.
        count: How many weights are needed.
        unit: What has a weight, such as `"pair of layers"`.
    """
    if weights is None:
        return None
    if not isinstance(weights, (list, tuple, str, dict)):
        weights = [weights]
    weights = list(checked_numbers("layer_weights", weights, "[0, inf)"))
    if len(weights) != count:
        raise ValueError(
            f"layer_weights needs one weight per {unit} ({count}). Received: "
            f"{weights}"
        )
    return weights


def shapes_of(outputs):
    """The static shapes of one tensor, or of a dict of tensors."""
    if isinstance(outputs, dict):
        return {name: tuple(x.shape) for name, x in outputs.items()}
    return tuple(outputs.shape)


def several_outputs(shape):
    """Whether this is a structure of shapes and not one shape."""
    return isinstance(shape, dict) or any(
        isinstance(x, (dict, list, tuple)) for x in shape or ()
    )


def shape_list(shape, names, role):
    """The shape of one tap, or of each of several, in the order of `names`."""
    if isinstance(names, list) and isinstance(shape, dict):
        return [tuple(s) for s in in_order(shape, names)]
    if several_outputs(shape):
        raise ValueError(
            f"The {role}'s output is several tensors: {shape}. Expected one. "
            f'Name the layer to compare: {role}_layer_name="...".'
        )
    return [tuple(shape)]


def plain(value):
    """Unwraps the lists that Keras wraps in a layer, for a configuration."""
    return list(value) if isinstance(value, (list, tuple)) else value
