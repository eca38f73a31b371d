"""What attention layers compute inside: scores, and which positions count.

Relies on, in Keras 3.12.4 and 3.15.1: `MultiHeadAttention._compute_attention`,
`GroupedQueryAttention._compute_attention`. They get projected queries and keys,
and the mask that joins all others.
"""

import contextlib
import inspect

import keras
from keras import ops

from keras_distill._keras.layers import flatten_layers
from keras_distill._keras.masks import mask_of
from keras_distill._keras.method_patching import intercepted

ATTENTION = keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention
PROJECTIONS = "query", "key", "value"

# Some layers add a mask to the scores themselves, as -1e9 or the like.
_MASKED_OUT = -1e4


def is_attention(layer):
    """Whether a layer is Keras's attention, or has a softmax of its own."""
    return isinstance(layer, ATTENTION) or _softmax(layer) is not None


def takes_attention_mask(layer):
    """Whether a layer is attention by the arguments of its `call`."""
    return "attention_mask" in inspect.signature(type(layer).call).parameters


def attention_recorded(layer, record):
    """A context in which `record` gets what attention computes inside.

    Args:
        layer: A layer for which `is_attention` holds.
        record: A function `(scores, probabilities, mask)` of each call.
            `scores`: `(batch, heads, queries, keys)`, products of queries and
            keys over the root of their size, before mask and softmax.
            `probabilities`: a function that returns their softmax. `mask`:
            booleans that broadcast to the scores, or `None`.
    """
    if not isinstance(layer, ATTENTION):
        return _softmax_recorded(layer, record)
    return _scores_recorded(layer, record)


def positions_recorded(layer, record):
    """A context in which `record` gets the masks of queries and of keys.

    Attention takes the masks off the tensors that it reads, so what its
    projections give has none.

    Args:
        layer: A layer whose `call` takes an `attention_mask`.
        record: A function `(query_mask, key_mask)`, called after each call.
            Both are booleans `(batch, positions)`, or `None`.
    """

    def handler(layer, method, *args, **kwargs):
        query, value, given = _arguments(layer, *args, **kwargs)
        query_mask, key_mask = mask_of(query), mask_of(value)
        if key_mask is None:
            key_mask = _attended(given.get("attention_mask"), value)
        if query_mask is None and value is query:
            query_mask = key_mask
        outputs = method(*args, **kwargs)
        record(query_mask, key_mask)
        return outputs

    return intercepted([layer], "call", handler)


@contextlib.contextmanager
def _scores_recorded(layer, record):
    signature = inspect.signature(type(layer)._compute_attention)
    self_attention = []

    def look(layer, method, *args, **kwargs):
        query, value, _ = _arguments(layer, *args, **kwargs)
        self_attention[:] = [query is value]
        return method(*args, **kwargs)

    def handler(layer, method, *args, **kwargs):
        given = signature.bind(layer, *args, **kwargs).arguments
        query, key = given["query"], given["key"]
        if len(query.shape) != 4:
            raise ValueError(
                f"The attention layer '{layer.name}' attends over "
                f"{len(query.shape) - 3} axes; its scores can be tapped where "
                "it attends over one, of inputs (batch, positions, channels)."
            )
        scale = query.shape[-1] ** -0.5
        scores = ops.einsum("btnd,bsnd->bnts", query * scale, key)
        mask = given.get("attention_mask")
        if mask is not None:
            mask = _with_heads(mask)
            if self_attention[0]:
                # A key that no query attends to is padding as a query too.
                attended = ops.any(mask, axis=2, keepdims=True)
                mask = _both(mask, ops.swapaxes(attended, 2, 3))
        if given.get("use_causal_mask"):
            mask = _both(mask, _causal(scores))
        if mask is not None:  # For each sample: batches may be cut.
            samples = ops.shape(scores)[0]
            mask = _both(mask, ops.ones((samples, 1, 1, 1), "bool"))
        record(scores, lambda: _probabilities(scores, mask), mask)
        return method(*args, **kwargs)

    with (
        intercepted([layer], "call", look),
        intercepted([layer], "_compute_attention", handler),
    ):
        yield


@contextlib.contextmanager
def _softmax_recorded(layer, record):
    def handler(softmax, method, inputs, mask=None):
        probabilities = method(inputs, mask)
        counted = inputs > _MASKED_OUT
        counted = _both(mask, counted)
        record(inputs, lambda: probabilities, counted)
        return probabilities

    with intercepted([_softmax(layer)], "call", handler):
        yield


def _softmax(layer):
    if isinstance(layer, keras.Model):
        return None
    for child in flatten_layers(layer, include_self=False, recursive=False):
        if isinstance(child, keras.layers.Softmax):
            return child
    return None


def _probabilities(scores, mask):
    scores = ops.cast(scores, "float32")
    if mask is not None:
        scores = ops.where(mask, scores, -1e9)
    return ops.softmax(scores, axis=-1)


def _arguments(layer, *args, **kwargs):
    """The tensors that queries and values are made of, and all arguments."""
    signature = inspect.signature(type(layer).call)
    given = signature.bind(layer, *args, **kwargs).arguments
    _, query, *_ = given.values()
    return query, given.get("value", query), given


def _with_heads(mask):
    """A mask `(batch, queries, keys)` with an axis for the heads."""
    mask = ops.cast(mask, "bool")
    return mask if len(mask.shape) == 4 else ops.expand_dims(mask, -3)


def _both(mask, other):
    if mask is None:
        return other
    return ops.logical_and(ops.cast(mask, "bool"), other)


def _causal(scores):
    queries, keys = ops.shape(scores)[2:]
    rows = ops.reshape(ops.arange(queries), (1, 1, -1, 1))
    return rows >= ops.reshape(ops.arange(keys), (1, 1, 1, -1))


def _attended(mask, value):
    """Which positions of `value` any query attends to: not the padding."""
    if mask is None:
        return None
    mask = ops.any(_with_heads(mask), axis=(1, 2))
    # A mask of all samples, such as a causal one, has one row.
    return ops.logical_and(mask, ops.ones(ops.shape(value)[:2], "bool"))
