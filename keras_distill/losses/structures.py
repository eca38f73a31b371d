"""One tap or several: their names, their order, their shapes."""


def as_list(structure):
    """One tensor, a dict or a list of tensors -> a list, order kept."""
    if isinstance(structure, dict):
        return list(structure.values())
    if isinstance(structure, (list, tuple)):
        return list(structure)
    return [structure]


def in_order(structure, names):
    """The tensors (or shapes) of the taps `names`, in the order of `names`.

    Several taps arrive as a dict, whose order is not to be trusted: `tf.nest`
    and JSON readers are free to sort the keys.
    """
    if isinstance(structure, dict) and isinstance(names, (list, tuple)):
        return [structure[name] for name in names]
    return as_list(structure)


def validated_taps(names, argument):
    """A layer name, a list of them or `None`; anything else is an error."""
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
    """Keras wraps the lists held by a layer; a config holds plain ones."""
    return list(value) if isinstance(value, (list, tuple)) else value
