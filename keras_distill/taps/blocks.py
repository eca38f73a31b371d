"""The blocks of a transformer: hidden states, and the attention in them."""

import contextlib
from typing import NamedTuple

import keras

from keras_distill._keras.attention import ATTENTION
from keras_distill._keras.attention import PROJECTIONS
from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.layers import flatten_layers
from keras_distill._keras.method_patching import intercepted
from keras_distill._keras.symbolic_pass import symbolic_pass
from keras_distill._keras.symbolic_pass import with_free_batch
from keras_distill.taps.paths import layer_paths


class Block(NamedTuple):
    """The embeddings of a transformer, or one of its blocks.

    Attributes:
        name: The tap of what it gives.
        shape: The shape of that, batch axis first.
        attention: The tap of its attention layer; `None` for embeddings.
    """

    name: str
    shape: tuple
    attention: str | None


class _Call(NamedTuple):
    """A call of a layer: when it began and ended, what it got and gave."""

    path: str
    began: int
    ended: int
    taken: object
    given: object


def blocks(model):
    """Returns the embeddings and the blocks of a transformer, in order.

    A block is the layer (or model) around an attention layer. Of a model whose
    layers lie side by side, its output is the last `keras.layers.Add` before
    the next attention.

    Args:
        model: A `keras.Model` with symbolic inputs.

    Returns:
        A list of `Block`, empty for a model without attention layers.
    """
    if not getattr(model, "inputs", None) or hasattr(model, "members"):
        return []
    paths = layer_paths(model)
    attentions = [p for p, layer in paths.items() if _attends(layer)]
    if not attentions:
        return []
    calls = _calls(model, paths)
    attended = [c for c in calls if c.path in attentions]
    parents = {c.path: c.path.rpartition("/")[0] for c in attended}
    if len(set(parents.values())) == 1 and len(attended) == len(parents):
        single = len(attended) == 1 and parents[attended[0].path] in paths
        if not single:
            return _side_by_side(calls, paths, attended)
    return _nested(calls, attended, parents)


def _nested(calls, attended, parents):
    """The blocks that hold their attention layers."""
    found, first = [], {}
    holders = [c for c in calls if c.path in set(parents.values())]
    for holder in sorted(holders, key=lambda c: c.began):
        inner = [
            c
            for c in attended
            if holder.began < c.began < holder.ended
            and parents[c.path] == holder.path
        ]
        shape = _sequence_shape(holder.given)
        if inner and shape:
            first.setdefault("call", holder)
            attention = min(inner, key=lambda c: c.began)
            found.append(
                Block(_named(holder, calls), shape, _named(attention, calls))
            )
    if not found:
        return []
    before = [c for c in calls if c.given is first["call"].taken]
    return _embeddings(before[:1], calls) + found


def _side_by_side(calls, paths, attended):
    """The blocks of a model whose layers are not grouped."""
    prefix = attended[0].path.rpartition("/")[0]
    level = [c for c in calls if c.path.rpartition("/")[0] == prefix]
    ends = [c.began for c in attended[1:]] + [float("inf")]
    found = []
    for attention, end in zip(attended, ends):
        sums = [
            c
            for c in level
            if attention.ended < c.ended < end
            and isinstance(paths[c.path], keras.layers.Add)
            and _sequence_shape(c.given)
        ]
        last = sums[-1] if sums else attention
        shape = _sequence_shape(last.given)
        if shape:
            found.append(
                Block(_named(last, calls), shape, _named(attention, calls))
            )
    if not found:
        return []
    norms = keras.layers.LayerNormalization, keras.layers.RMSNormalization
    before = [
        c
        for c in level
        if c.ended < attended[0].began
        and _sequence_shape(c.given)
        and not isinstance(paths[c.path], norms)
    ]
    return _embeddings(before[-1:], calls) + found


def _embeddings(before, calls):
    return [
        Block(_named(c, calls), _sequence_shape(c.given), None)
        for c in before
        if _sequence_shape(c.given)
    ]


def _attends(layer):
    if isinstance(layer, ATTENTION):
        return True
    inside = flatten_layers(layer, include_self=False, recursive=False)
    return set(PROJECTIONS) <= {child.name for child in inside}


def _calls(model, paths):
    """The calls of all layers inside a model, in the order of their ends."""
    names = {id(layer): path for path, layer in paths.items()}
    calls, clock = [], iter(range(10**9))

    def record(layer, method, *args, **kwargs):
        began = next(clock)
        outputs = method(*args, **kwargs)
        taken = args[0] if args else next(iter(kwargs.values()), None)
        calls.append(
            _Call(names[id(layer)], began, next(clock), taken, outputs)
        )
        return outputs

    with contextlib.ExitStack() as stack:
        for layer in paths.values():
            stack.enter_context(intercepted([layer], "call", record))
        symbolic_pass(
            lambda x: model(x, training=False),
            with_free_batch(symbolic_inputs(model)),
        )
    return calls


def _named(call, calls):
    """A call as a tap: `"block#1"` if the layer runs again."""
    several = [c.began for c in calls if c.path == call.path]
    if len(several) == 1:
        return call.path
    return f"{call.path}#{sorted(several).index(call.began)}"


def _sequence_shape(tensor):
    shape = tuple(getattr(tensor, "shape", ()))
    return shape if len(shape) == 3 else None
