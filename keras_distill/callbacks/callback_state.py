"""What training changes in callbacks, such as the patience that is left."""

import copy

import keras

from keras_distill.callbacks.plain_values import encoded

# Keras gives these to every callback. The history is kept by itself.
_OF_KERAS = ("_model", "params")


class CallbackState:
    """Follows the plain attributes of callbacks.

    Numbers, strings and arrays, and lists, tuples and dicts of them, are
    plain. Only what has changed since training began is part of the state: the
    arguments of a callback are those of the running script.

    Args:
        callbacks: The callbacks, after their `on_train_begin`.
    """

    def __init__(self, callbacks):
        self._callbacks = {}
        for callback in callbacks:
            if isinstance(callback, keras.callbacks.History):
                continue
            name = type(callback).__name__
            count = sum(key[0] == name for key in self._callbacks)
            self._callbacks[name, count] = callback
        self._before = copy.deepcopy(self._plain())

    def changes(self):
        """Returns what has changed: a dict callback -> dict of attributes."""
        changes = {}
        for key, attributes in self._plain().items():
            before = self._before[key]
            changed = {
                name: value
                for name, value in attributes.items()
                if name not in before or not _same(value, before[name])
            }
            if changed:
                changes[key] = changed
        return changes

    def restore(self, changes):
        """Puts `changes()` of another process into these callbacks."""
        for key, attributes in changes.items():
            if key in self._callbacks:
                vars(self._callbacks[key]).update(copy.deepcopy(attributes))

    def _plain(self):
        return {
            key: {
                name: value
                for name, value in vars(callback).items()
                if name not in _skipped(callback) and _is_plain(value)
            }
            for key, callback in self._callbacks.items()
        }


def _skipped(callback):
    # Keras turns the sign of this argument when it sets `monitor_op`, which is
    # not plain: every process does so itself.
    turned = ("min_delta",) if hasattr(callback, "monitor_op") else ()
    return *_OF_KERAS, *turned


def _is_plain(value):
    try:
        encoded(value, [])
    except TypeError:
        return False
    return True


def _same(one, other):
    arrays, others = [], []
    if encoded(one, arrays) != encoded(other, others):
        return False
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(arrays, others, strict=True)
    )
