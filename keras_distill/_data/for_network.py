"""The part of a batch that is meant for one network."""

import keras


def for_network(model, x, role):
    """The part of a batch that is meant for one network.

    Args:
        model: The network.
        x: The batch. A dict may hold `"student"` and `"teacher"`, or the
            input names of both networks; everything else goes to both.
        role: `"student"` or `"teacher"`.

    Returns:
        The network's input.
    """
    if not isinstance(x, dict):
        return x
    if "student" in x and "teacher" in x:
        return x[role]
    if getattr(model, "splits_inputs", False):
        return x
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return x
    names = [tensor.name for tensor in inputs]
    if not all(name in x for name in names):
        return x
    if len(names) == 1:
        return x[names[0]]
    return {name: x[name] for name in names}


def check_fits(network, x, role, views):
    """Raises if a network of one input takes another shape than the views
    give it."""
    expected = getattr(network, "inputs", None)
    if not expected or keras.tree.is_nested(x) or len(expected) != 1:
        return
    shape, wanted = _of_one_rank(tuple(x.shape), tuple(expected[0].shape))
    if len(shape) != len(wanted) or any(
        None not in (a, b) and a != b for a, b in zip(shape[1:], wanted[1:])
    ):
        raise ValueError(
            f"The views give the {role} inputs of shape {shape}, but "
            f"'{network.name}' takes {wanted}. Give another size or "
            f"preprocessing to {type(views).__name__}."
        )


def _of_one_rank(shape, wanted):
    """Two shapes without the last axis of size 1 that one lacks: Keras's
    models add it and leave it out by themselves."""
    if len(shape) == len(wanted) + 1 and shape[-1] == 1:
        return shape[:-1], wanted
    if len(shape) == len(wanted) - 1 and wanted[-1] == 1:
        return shape, wanted[:-1]
    return shape, wanted
