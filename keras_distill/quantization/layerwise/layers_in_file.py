"""The layers that are quantized, and the recipe that quantizes them."""

import collections
import re
from typing import NamedTuple

from keras_distill.export import recipes


class LayerInFile(NamedTuple):
    """A layer with weights, and the layers without weights behind it.

    Attributes:
        name: Its name.
        kind: Its class.
        members: The names of all of them.
    """

    name: str
    kind: str
    members: tuple

    @property
    def regex(self):
        """What finds their operators."""
        return regex([self])


def layers_in_file(operators):
    """Lists the layers of a file that have weights, in order.

    Args:
        operators: A list of `LayerOperator`.
    """
    kinds = {o.layer: o.kind for o in operators if o.weights}
    if not kinds:
        raise ValueError(
            "The student has no layer with weights that a file could hold in "
            "fewer bits."
        )
    members = {name: [name] for name in kinds}
    # What comes before the first of them goes with it.
    current, placed = next(iter(kinds)), set(kinds)
    for operator in operators:
        if operator.layer in kinds:
            current = operator.layer
        elif operator.layer not in placed:
            placed.add(operator.layer)
            members[current].append(operator.layer)
    return [
        LayerInFile(name, kind, tuple(members[name]))
        for name, kind in kinds.items()
    ]


def regex(layers):
    """A regular expression that finds the operators of layers."""
    names = [re.escape(name) for layer in layers for name in layer.members]
    return f"^({'|'.join(names)});"


def composed(layers, quantizations):
    """Returns the rules that give each layer its quantization.

    Args:
        layers: All layers of a file.
        quantizations: A dict name of a layer -> quantization; `"float32"`, or
            missing, stays float.
    """
    groups = collections.defaultdict(list)
    for layer in layers:
        groups[quantizations.get(layer.name, "float32")].append(layer)
    # The most frequent one is the rule, the others are exceptions.
    (most, _), *others = sorted(
        groups.items(), key=lambda item: len(item[1]), reverse=True
    )
    rules = [] if most == "float32" and others else recipes.rules(most)
    for quantization, group in others:
        rules += recipes.rules(quantization, regex(group))
    return rules
