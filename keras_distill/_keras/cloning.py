"""New Keras objects of the configuration of given ones."""

import inspect

import keras

# In the configuration of every loss or metric, or of no importance to it.
_OF_THE_BASE = ("self", "name", "dtype", "reduction")


def clone_from_config(thing):
    """A new Keras object of the same configuration.

    What has no configuration comes back as it is.

    Raises:
        ValueError: for a class that takes arguments which `get_config` leaves
            out: the copy would have other ones.
    """
    if not hasattr(thing, "get_config"):
        return thing
    config = thing.get_config()
    lost = _lost(thing, config)
    if lost:
        kind = type(thing).__name__
        raise ValueError(
            f"A copy of {kind} is needed, and its get_config() leaves out "
            f"{lost}, which the copy would have by default. Define get_config "
            f"in {kind}: return {{**super().get_config(), '{lost[0]}': "
            f"self.{lost[0]}}}."
        )
    copy = type(thing).from_config(config)
    if isinstance(thing, keras.optimizers.Optimizer):
        _copy_exclusions(thing, copy)
    return copy


def _lost(thing, config):
    """Names of arguments that a copy by this configuration would not get."""
    parameters = inspect.signature(type(thing).__init__).parameters.values()
    missing = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind
        not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in _OF_THE_BASE
        and parameter.name not in config
    }
    if type(thing).__module__.startswith("keras."):
        # Some of Keras's own leave out what they hand to a function.
        given = getattr(thing, "_fn_kwargs", {})
        return [n for n, d in missing.items() if given.get(n, d) != d]
    return list(missing)


def _copy_exclusions(optimizer, copy):
    """What `exclude_from_weight_decay(var_names=)` was told is in no
    configuration."""
    name = "_exclude_from_weight_decay_pattern"
    if getattr(optimizer, name, None) is not None:
        setattr(copy, name, getattr(optimizer, name))
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        _copy_exclusions(inner, copy.inner_optimizer)
