"""Copies of Keras objects, made from their configuration.

Relies on, in Keras 3.12.4 and 3.15.1: `MeanMetricWrapper._fn_kwargs`,
`Optimizer._exclude_from_weight_decay_pattern`.
"""

import inspect

import keras

# Every loss and metric has these in its configuration, or does not need them.
_OF_THE_BASE = ("self", "name", "dtype", "reduction")


def clone_from_config(thing):
    """Makes a new Keras object with the same configuration.

    Args:
        thing: A loss, metric or optimizer; anything without a configuration is
            returned as it is.

    Raises:
        ValueError: If `get_config` leaves out arguments of the constructor:
            the copy would have their defaults.
    """
    if not hasattr(thing, "get_config"):
        return thing
    config = thing.get_config()
    lost = _lost(thing, config)
    if lost:
        kind = type(thing).__name__
        raise ValueError(
            f"{kind} must be copied, but its get_config() leaves out {lost}: "
            "the copy would have the defaults. Define get_config in "
            f"{kind}: return {{**super().get_config(), '{lost[0]}': "
            f"self.{lost[0]}}}."
        )
    copy = type(thing).from_config(config)
    if isinstance(thing, keras.optimizers.Optimizer):
        _copy_exclusions(thing, copy)
    return copy


def _lost(thing, config):
    """Names of the arguments that a copy would not get."""
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
        passed_on = getattr(thing, "_fn_kwargs", {})
        return [n for n, d in missing.items() if passed_on.get(n, d) != d]
    return list(missing)


def _copy_exclusions(optimizer, copy):
    """Copies what `exclude_from_weight_decay(var_names=)` set: no
    configuration holds it."""
    name = "_exclude_from_weight_decay_pattern"
    if getattr(optimizer, name, None) is not None:
        setattr(copy, name, getattr(optimizer, name))
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        _copy_exclusions(inner, copy.inner_optimizer)
