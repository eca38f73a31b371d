"""Everything on which the rest of a training depends."""

import hashlib
import random

import numpy as np
import tensorflow as tf

from keras_distill._distribute.local_values import local_parts
from keras_distill._keras.global_seed import global_seed_state
from keras_distill._keras.global_seed import set_global_seed_state
from keras_distill._keras.layers import recurrent_states
from keras_distill.teachers.teacher_fingerprint import teacher_fingerprint


class TrainingState:
    """The variables of a training, its random numbers and its first batch.

    These are the variables of the model (weights, connectors, states of
    recurrent layers, of random generators and of a moving teacher), of its
    optimizer and of its metrics, and the recurrent states of a fixed teacher.

    Args:
        model: A compiled model that is built, and its optimizer too.
    """

    def __init__(self, model):
        self._model = model
        teacher = _teacher(model)
        states = [] if teacher is None else recurrent_states(teacher)
        variables = [*model._training_variables(), *states]
        variables = list({id(v): v for v in variables}.values())
        # Gradients and the optimizer's steps are the same on all replicas.
        same = [*model.trainable_variables, *model.optimizer.variables]
        same = {id(variable) for variable in same}
        parts = [
            (v, None if id(v) in same else local_parts(v)) for v in variables
        ]
        self._shared = [v.value for v, local in parts if local is None]
        self._local = [part for _, local in parts for part in local or ()]

    def shared(self):
        """Returns what all processes have in common, as plain values."""
        return {
            "variables": [v.numpy() for v in self._shared],
            "teacher": _fingerprint_of_teacher(self._model),
            "logged": _logged(self._model),
        }

    def local(self):
        """Returns what only this process has, as plain values."""
        seed = global_seed_state()
        return {
            "variables": [v.numpy() for v in self._local],
            "keras_random": None if seed is None else seed.value.numpy(),
            "random": random.getstate(),
            "numpy_random": np.random.get_state(),
            "first_batch": _digest_of_first_batch(self._model),
        }

    def differences(self, shared, local):
        """Returns what does not fit: a list of words."""
        words = []
        for variables, values in (
            (self._shared, shared["variables"]),
            (self._local, local["variables"]),
        ):
            here = [(tuple(v.shape), v.dtype.name) for v in variables]
            there = [(value.shape, value.dtype.name) for value in values]
            if here != there:
                words.append("networks, losses or optimizer")
                break
        if shared["teacher"] != _fingerprint_of_teacher(self._model):
            words.append("teacher")
        return words

    def has_other_data(self, local):
        """Whether the data begin with another batch than they did."""
        before, now = local["first_batch"], _digest_of_first_batch(self._model)
        return None not in (before, now) and before != now

    def restore(self, shared, local):
        """Puts back what `shared` and `local` returned."""
        for variable, value in zip(
            [*self._shared, *self._local],
            [*shared["variables"], *local["variables"]],
            strict=True,
        ):
            variable.assign(value)
        if local["keras_random"] is not None:
            set_global_seed_state(local["keras_random"])
        random.setstate(local["random"])
        np.random.set_state(local["numpy_random"])
        if shared["logged"] is not None:
            self._model._current_logs().training.recorded = shared["logged"]


def _teacher(model):
    networks = getattr(model, "_networks", None)
    return None if networks is None else networks().teacher


def _fingerprint_of_teacher(model):
    return None if _teacher(model) is None else teacher_fingerprint(model)


def _logged(model):
    """The names of the terms that training logs."""
    logs = getattr(model, "_current_logs", lambda: None)()
    return None if logs is None else list(logs.training.recorded)


def _digest_of_first_batch(model):
    first = getattr(model, "_first_batch", None)
    if first is None or first.value.batch is None:
        return None
    digest = hashlib.sha256()
    for value in tf.nest.flatten(first.value.batch, expand_composites=True):
        array = np.asarray(value)
        content = array.tobytes()
        if array.dtype.hasobject:  # strings
            content = repr(array.tolist()).encode()
        digest.update(f"{array.shape} {array.dtype}".encode() + content)
    return digest.hexdigest()
