"""Builds the networks of all generations, before any is trained."""

import warnings

import keras
import numpy as np

from keras_distill._arguments import checked_string
from keras_distill._arguments import checked_strings
from keras_distill._data.batch_fields import plain_batch
from keras_distill._keras.fingerprint import fingerprint
from keras_distill.taps.paths import find_layer
from keras_distill.teachers.ensemble import Ensemble

# The two uses of a seed, which see different random numbers.
WEIGHTS, TRAINING = 0, 1


def set_seeds(seed, generation, use):
    """Sets the global seeds, to a number for this generation and use alone.

    It is a hash: with `seed + generation`, generation 1 of one run would start
    like generation 0 of the run with the next seed.
    """
    hashed = np.random.SeedSequence([seed, generation, use])
    keras.utils.set_random_seed(int(hashed.generate_state(1)[0]))


def builders(build_student, generations):
    """Returns a dict generation -> function without arguments.

    Args:
        build_student: As in `kd.born_again`.
        generations: The numbers of the generations that are trained.
    """
    if isinstance(build_student, (list, tuple)):
        if len(build_student) != len(generations):
            plain = " (0 is trained from labels)" * (0 in generations)
            raise ValueError(
                f"A list build_student needs {len(generations)} functions, "
                f"for the generations {list(generations)}{plain}. Received: "
                f"{len(build_student)}."
            )
        functions = list(build_student)
    else:
        functions = [build_student] * len(generations)
    for function in functions:
        if isinstance(function, keras.Model) or not callable(function):
            raise TypeError(
                "build_student must be a function that returns a new "
                "keras.Model, or a list of such functions. Received: "
                f"{function!r}. For a network that you have, pass lambda: "
                "keras.models.clone_model(network)"
            )
    return dict(zip(generations, functions))


def built(functions, seed, teacher, first_batch):
    """Builds the networks of all generations, each from its own seeds.

    Args:
        functions: As `builders` returns them.
        seed: An integer.
        teacher: The teacher that the user gave, or `None`.
        first_batch: A function that returns a batch of the data, for networks
            that have no weights before they are called.

    Returns:
        A dict generation -> built `keras.Model`.

    Raises:
        TypeError: If a function does not return a `keras.Model`.
        ValueError: If two networks share weights.
    """
    networks, starts = {}, {}
    owners = {} if teacher is None else _owned(teacher, "the teacher")
    for generation, function in functions.items():
        set_seeds(seed, generation, WEIGHTS)
        network = function()
        if not isinstance(network, keras.Model):
            raise TypeError(
                "build_student must return a keras.Model. Received: "
                f"{network!r} of type {type(network).__name__}"
            )
        name = f"generation {generation}"
        if not network.built:
            inputs, _, _ = plain_batch(first_batch())
            network(inputs)
        shared = {owners[id(v)] for v in network.weights if id(v) in owners}
        if shared or any(network is other for other in networks.values()):
            raise ValueError(
                "build_student must build a new network in every call, but "
                f"that of {name} has weights of {sorted(shared)}. Construct "
                "its layers inside the function. (To take layers over from "
                "the teacher use shared_layers.)"
            )
        owners.update(_owned(network, name))
        start = fingerprint(network)
        if start in starts:
            warnings.warn(
                f"The network of {name} begins with the same weights as that "
                f"of {starts[start]}: build_student fixes a seed or loads "
                "weights. Born-again generations start from new weights.",
                stacklevel=3,
            )
        starts[start] = name
        networks[generation] = network
    return networks


def _owned(network, name):
    return {id(variable): name for variable in network.weights}


class SharedLayers:
    """Layers that every generation takes over from the first teacher.

    Args:
        names: As in `kd.born_again`.
    """

    def __init__(self, names):
        if isinstance(names, str):
            names = [names]
        if not isinstance(names, dict):
            names = checked_strings("shared_layers", names, or_none=True) or []
            names = {name: name for name in names}
        for name in (*names, *names.values()):
            checked_string("shared_layers", name)
        self.names = names

    def check(self, network, teacher):
        """Raises unless both networks have these layers, of equal shapes."""
        if self.names and isinstance(teacher, Ensemble):
            raise ValueError(
                "shared_layers come from a single teacher, but this one is an "
                "ensemble. Leave shared_layers out, or pass one network as "
                "teacher."
            )
        for own, other in self.names.items():
            shapes = [
                [tuple(w.shape) for w in _layer(model, name, role).weights]
                for model, name, role in (
                    (network, own, "student"),
                    (teacher, other, "teacher"),
                )
            ]
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"shared_layers: '{own}' of the student '{network.name}' "
                    f"has weights of shapes {shapes[0]}, but '{other}' of "
                    f"the teacher '{teacher.name}' has {shapes[1]}. Share "
                    "layers of the same shape."
                )

    def copy(self, network, teacher):
        """Copies the weights and freezes the layers of `network`."""
        for own, other in self.names.items():
            layer, _ = find_layer(network, own, "student")
            source, _ = find_layer(teacher, other, "teacher")
            layer.set_weights(source.get_weights())
            layer.trainable = False


def _layer(model, name, role):
    try:
        layer, _ = find_layer(model, name, role)
    except ValueError as error:
        raise ValueError(
            f"shared_layers: {error} If the networks name a layer differently, "
            "pass shared_layers={student's name: teacher's name}."
        ) from None
    if not layer.weights:
        raise ValueError(
            f"shared_layers: '{name}' of the {role} '{model.name}' has no "
            "weights to share."
        )
    return layer
