"""Names that find their layer in another process too.

Keras numbers the layers that have no name of their own: `"dense_3"` is another
layer in another process, or after `keras.backend.clear_session()`. So what is
saved of such a name is the place of its layer: the number of the layer among
the layers of the network, and so on for a layer inside of it.
"""

import re
from typing import Any

import keras

from keras_distill._keras.layers import flatten_layers

# What can be tapped of an attention layer beside the layers inside of it.
ATTENTION_PARTS = ("scores", "probabilities")


def attention_part(name, layer):
    """Returns which of `ATTENTION_PARTS` a name means.

    Args:
        name: The name of a tap.
        layer: The layer that it was found to mean.

    Returns:
        `None` if the name means the layer itself.
    """
    part = name.partition("#")[0].rpartition("/")[2]
    return part if part in ATTENTION_PARTS and part != layer.name else None


class PlacedName(str):
    """The name of a layer that is found by its place.

    As text it is the name that the layer had where it was named.

    Args:
        name: The name, as in `Taps`.
        place: The numbers of the layers on the way to the layer. For several
            networks, a dict name of a network -> numbers.
        class_name: The name of the layer's class, or a dict alike.
    """

    place: Any
    class_name: Any

    def __new__(cls, name, place, class_name):
        self = super().__new__(cls, name)
        self.place, self.class_name = place, class_name
        return self

    def __getnewargs__(self):
        return str(self), self.place, self.class_name

    def config(self):
        """Returns what a configuration holds."""
        return {
            "name": str(self),
            "place": self.place,
            "class_name": self.class_name,
        }


def for_network(name, network):
    """Returns a name, or list of names, of several networks for one of them."""
    if isinstance(name, (list, tuple)):
        return [for_network(n, network) for n in name]
    if not isinstance(name, PlacedName) or not isinstance(name.place, dict):
        return name
    if network not in name.place:
        return str(name)
    return PlacedName(name, name.place[network], name.class_name[network])


def for_networks(names):
    """Joins names, or lists of names, of one layer in several networks.

    Args:
        names: A dict name of a network -> name, as from `with_place`.
    """
    first = next(iter(names.values()))
    if isinstance(first, (list, tuple)):
        return [
            for_networks({key: names[key][i] for key in names})
            for i in range(len(first))
        ]
    placed = {k: n for k, n in names.items() if isinstance(n, PlacedName)}
    if not placed:
        return first
    return PlacedName(
        first,
        {key: name.place for key, name in placed.items()},
        {key: name.class_name for key, name in placed.items()},
    )


def from_config(name):
    """Returns the name, or list of names, that a configuration holds."""
    if isinstance(name, (list, tuple)):
        return [from_config(n) for n in name]
    if isinstance(name, dict) and set(name) == {"name", "place", "class_name"}:
        return PlacedName(**name)
    return name


def to_config(name):
    """Returns a name, or list of names, for a configuration."""
    if isinstance(name, (list, tuple)):
        return [to_config(n) for n in name]
    return name.config() if isinstance(name, PlacedName) else name


def with_place(model, name, layers):
    """Returns the name, as a `PlacedName` if Keras gave (a part of) it.

    Args:
        model: A `keras.Model`.
        name: A layer's name or path, with or without the number of a call.
        layers: The layers on the way to the layer, which is the last.
    """
    depth = name.partition("#")[0].count("/")
    depth -= attention_part(name, layers[-1]) is not None
    written = layers[-1 - depth :]
    if not any(map(_is_named_by_keras, written)):
        return name
    place = _place(model, layers[-1])
    return PlacedName(name, place, type(layers[-1]).__name__)


def way_to(model, name, role="model"):
    """Returns the layers on the way to the layer of a `PlacedName`.

    Raises:
        ValueError: If there is no layer of this kind at this place.
    """
    layers = []
    for number in name.place:
        children = _children(layers[-1] if layers else model)
        if number >= len(children):
            layers = []
            break
        layers.append(children[number])
    if not layers or type(layers[-1]).__name__ != name.class_name:
        found = f"a {type(layers[-1]).__name__}" if layers else "no layer"
        raise ValueError(
            f"'{name}' was the layer at {list(name.place)} of the {role}, a "
            f"{name.class_name}, when it was saved, but '{model.name}' has "
            f"{found} there. Load the network that was saved. Layers that you "
            "name (name=) are found in a network that has changed, too."
        )
    return layers


def _children(layer):
    # A Sequential gets its input layer when it is built.
    return [
        child
        for child in flatten_layers(layer, include_self=False, recursive=False)
        if not isinstance(child, keras.layers.InputLayer)
    ]


def _place(model, layer):
    """The numbers of the layers on the shortest way to a layer."""
    todo, seen = [(model, [])], set()
    for parent, place in todo:
        for number, child in enumerate(_children(parent)):
            if child is layer:
                return [*place, number]
            if id(child) not in seen:
                seen.add(id(child))
                todo.append((child, [*place, number]))
    raise AssertionError(f"{layer.name} is not in {model.name}.")


def _is_named_by_keras(layer):
    automatic = re.escape(_keras_snake_case(type(layer).__name__))
    # A `Bidirectional` names its two layers after the one it was given.
    pattern = rf"((forward|backward)_)?{automatic}(_\d+)?"
    return re.fullmatch(pattern, layer.name) is not None


def _keras_snake_case(name):
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
