"""A short training of a copy of the student, from its present weights."""

import contextlib
import math
import random
import time
from typing import NamedTuple

import keras
import numpy as np

from keras_distill._keras.layers import batch_normalizations
from keras_distill._keras.layers import call_model
from keras_distill._keras.loss_scaling import computes_in_float16
from keras_distill._keras.loss_scaling import with_loss_scaling
from keras_distill._progress import ProgressBar
from keras_distill.diagnosis.variables import assign
from keras_distill.diagnosis.variables import values_of

# Tried in turn, half a decade apart. The choice matters: on Fashion-MNIST a
# student of 2 894 parameters is at 74 % after 1000 steps of 64 images at 0.002,
# near Adam's default, and at 80 % at 0.02. There is no 0.03: it often wins the
# trials and loses the training. On 14 x 14 pixels, dense students of 1 045 and
# 3 322 parameters are right on 69 % and 80 % after 2000 steps of 128 at 0.03,
# on 78 % and 82 % at 0.01 (2 000 images, two seeds): the headroom would be too
# large by that.
LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
TRIAL_STEPS = 50
# Moving statistics must follow weights that move fast and for a short time;
# keras.applications' MobileNets have 0.999, of which 37 % would still be the
# initial values after 1000 steps.
LARGEST_MOMENTUM = 0.9
# The part of the time that all trials together may take.
PART_OF_TRIALS = 0.2


class ShortTraining(NamedTuple):
    """How it went.

    Attributes:
        steps: The steps of the training itself, without the trials.
        steps_wanted: What was asked for; more only if time was up.
        batch_size: The number of samples in the largest batch.
        samples: The samples drawn in these steps.
        learning_rate: The chosen rate, from which a cosine goes down to 0.
        trial_steps: The steps of the trials of all learning rates together.
        seconds: The wall time, with the trials.
    """

    steps: int
    steps_wanted: int
    batch_size: int
    samples: int
    learning_rate: float
    trial_steps: int
    seconds: float


@contextlib.contextmanager
def stand_in(model, x):
    """Gives a network like `model` that may be changed.

    It is a clone with the same weights. A model that cannot be cloned is given
    itself and restored at the end: weights, batch statistics, states of random
    generators.

    Args:
        model: A `keras.Model`.
        x: A batch for it.

    Raises:
        ValueError: If the model is not built and cannot be cloned.
    """
    # Layers draw the seeds of their initializers and generators here.
    state = random.getstate()
    random.seed(0)
    try:
        clone = _clone(model, x)
        if clone is not None:
            for layer in batch_normalizations(clone):
                layer.momentum = min(layer.momentum, LARGEST_MOMENTUM)
            yield clone
            return
        with _put_back(model):
            yield model
    finally:
        random.setstate(state)


def train(model, see, batches, loss, steps, seconds, verbose):
    """Trains a network on its task alone, for a short time.

    The learning rate is the one, of `LEARNING_RATES`, that brings the loss
    down most in its first 50 steps (fewer if steps are slow).

    Args:
        model: A built `keras.Model`, which is changed.
        see: A function from the `x` of a batch to the inputs of the model.
        batches: An endless iterator of `(x, y, sample_weight)`.
        loss: A Keras loss.
        steps: The steps after the trials; fewer if time does not allow them.
        seconds: The wall time from which on there are fewer steps. If the
            trials take more than half of it, the training after them still
            gets half.
        verbose: Whether to show Keras's progress bar.

    Returns:
        A `ShortTraining`.
    """
    start = time.perf_counter()
    with model.distribute_strategy.scope():
        alone = _Alone(model, see)
        optimizer = keras.optimizers.Adam(1e-3)
        if computes_in_float16(model):
            optimizer = with_loss_scaling(optimizer)
        alone.compile(optimizer, loss, auto_scale_loss=False)
        optimizer.build(alone.trainable_variables)
    variables = [*model.variables, *optimizer.variables]
    beginning = values_of(variables)
    trials = TRIAL_STEPS * len(LEARNING_RATES)
    bar = ProgressBar(trials + steps, verbose=verbose)

    times = []

    def step(learning_rate):
        begin = time.perf_counter()
        x, y, sample_weight = next(batches)
        optimizer.learning_rate = learning_rate
        alone.reset_metrics()  # Keras 3.12 gives the mean since.
        loss = float(alone.train_on_batch(x, y, sample_weight))
        bar.add(1, [("loss", loss)])
        times.append(time.perf_counter() - begin)
        return loss, len(keras.tree.flatten(x)[0])

    for _ in range(3):
        step(LEARNING_RATES[0])
    trials = _within(seconds * PART_OF_TRIALS, times, trials)
    trial = max(5, trials // len(LEARNING_RATES))
    scores = {}
    for rate in LEARNING_RATES:
        assign(variables, beginning)
        losses = [step(rate)[0] for _ in range(trial)]
        score = float(np.mean(losses[-trial // 3 :]))
        scores[rate] = score if math.isfinite(score) else math.inf
    rate = min(scores, key=scores.get)
    left = max(seconds / 2, seconds - (time.perf_counter() - start))
    steps_wanted, steps = steps, _within(left, times, steps)
    trial_steps = len(times)
    # The bar ends where the training does.
    bar.target = trial_steps + steps
    assign(variables, beginning)
    sizes = []
    for index in range(steps):
        cosine = 0.5 * (1 + math.cos(math.pi * index / steps))
        sizes.append(step(rate * cosine)[1])
    return ShortTraining(
        steps=steps,
        steps_wanted=steps_wanted,
        batch_size=max(sizes),
        samples=sum(sizes),
        learning_rate=rate,
        trial_steps=trial_steps,
        seconds=time.perf_counter() - start,
    )


def _within(seconds, times, steps):
    """Returns how many of the steps fit into the time; at least one."""
    # The median: the first step traces, and the machine may be busy.
    return max(1, min(steps, int(seconds / np.median(times))))


class _Alone(keras.Model):
    """The network inside a model of its own: that one is compiled."""

    def __init__(self, model, see):
        super().__init__(name="alone", dtype="float32", autocast=False)
        self.model = model
        self.see = see
        self.built = True

    def call(self, x, training=None):
        return call_model(self.model, self.see(x), training)


def _clone(model, x):
    """Returns a copy with the same weights, `None` if that is impossible."""
    with model.distribute_strategy.scope():
        try:
            if isinstance(model, keras.Sequential) or _is_functional(model):
                clone = keras.models.clone_model(model)
            else:
                clone = type(model).from_config(model.get_config())
            first = keras.tree.map_structure(lambda a: a[:4], x)
            clone(first)  # builds it
            if not model.built:
                return clone
            clone.set_weights(model.get_weights())
            # A configuration that leaves something out gives another network.
            pairs = zip(
                keras.tree.flatten(clone(first)),
                keras.tree.flatten(model(first)),
                strict=True,
            )
            same = all(np.allclose(a, b, 1e-2, 1e-3) for a, b in pairs)
            return clone if same else None
        except Exception as error:
            # from_config is the user's code and may fail in any way.
            if model.built:
                return None
            raise ValueError(
                f"The model '{model.name}' is not built, and a copy of it "
                f"cannot be made ({error}). Call it on a batch first."
            ) from error


def _is_functional(model):
    return bool(getattr(model, "inputs", None)) and hasattr(model, "operations")


@contextlib.contextmanager
def _put_back(model):
    layers = batch_normalizations(model)
    momenta = [layer.momentum for layer in layers]
    values = values_of(model.variables)
    try:
        for layer in layers:
            layer.momentum = min(layer.momentum, LARGEST_MOMENTUM)
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        assign(model.variables, values)
