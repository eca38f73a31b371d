"""Standing between a layer and one of its methods, for a while.

Used where Keras has no hook: to take a layer's output (taps.py), to keep
stand-in samples out of batch statistics (replicas.py), and to add up gradients
before an optimizer looks at them (update.py).
"""

import contextlib
import functools
import threading


class _Handlers(threading.local):
    """A stack per thread: tf.distribute traces each replica in its own."""

    def __init__(self):
        self.stack = []


_handlers = _Handlers()
# The wrapper on a layer is shared by all threads, and counted.
_lock = threading.Lock()
_wrapped: dict = {}
_of_all_threads: dict = {}


@contextlib.contextmanager
def intercepted(layers, attribute, handler, all_threads=False):
    """Calls of `layer.<attribute>` in this thread go through `handler`.

    Args:
        layers: The layers, or other objects of Keras.
        attribute: Name of a method, such as `"call"`.
        handler: A function `(layer, method, *args, **kwargs)`; what it returns
            takes the place of `method(*args, **kwargs)`.
        all_threads: Whether calls in other threads do too. Replicas may enter
            it one after another, with the same handler; it counts once.
    """
    layers = list(layers)
    entered = []
    try:
        for layer in layers:
            _wrap(layer, attribute)
            entered.append(layer)
            if all_threads:
                _of_all_threads[id(layer), attribute] = handler
        ids = set() if all_threads else {id(x) for x in layers}
        _handlers.stack.append((ids, attribute, handler))
        try:
            yield
        finally:
            _handlers.stack.pop()
    finally:
        for layer in entered:
            _unwrap(layer, attribute)


def _wrap(layer, attribute):
    key = (id(layer), attribute)
    with _lock:
        if key in _wrapped:
            _wrapped[key][0] += 1
            return
        original = getattr(layer, attribute)

        @functools.wraps(original)
        def wrapper(*args, **kwargs):
            method = original
            shared = _of_all_threads.get(key)
            if shared is not None:
                method = functools.partial(shared, layer, method)
            for ids, name, handler in _handlers.stack:
                if name == attribute and id(layer) in ids:
                    method = functools.partial(handler, layer, method)
            return method(*args, **kwargs)

        before = layer.__dict__.get(attribute)
        # Past Keras's own __setattr__, which would track the function.
        object.__setattr__(layer, attribute, wrapper)
        _wrapped[key] = [1, before]


def _unwrap(layer, attribute):
    key = (id(layer), attribute)
    with _lock:
        _wrapped[key][0] -= 1
        if _wrapped[key][0]:
            return
        _, before = _wrapped.pop(key)
        _of_all_threads.pop(key, None)
        if before is None:
            object.__delattr__(layer, attribute)
        else:
            object.__setattr__(layer, attribute, before)
