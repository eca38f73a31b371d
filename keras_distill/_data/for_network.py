"""The part of a batch that is meant for one network."""


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
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return x
    names = [tensor.name for tensor in inputs]
    if not all(name in x for name in names):
        return x
    if len(names) == 1:
        return x[names[0]]
    return {name: x[name] for name in names}
