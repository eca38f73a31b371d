"""Tempered distributions and the divergences between them.

Pure functions on logits `(..., classes)`, in float32 or higher. Everything
stays in log space: a softmax that underflows to 0 keeps a finite logarithm, so
logits of +-1e4 give finite values and gradients.

A head of independent classes (sigmoid) is handled as one distribution of two
outcomes per class, on a last axis of size 2: `[on, off]`. The divergences below
then serve both kinds of head.
"""

import math

import keras
from keras import ops

from keras_distill.losses.ops.elementwise import safe_sqrt

# The smallest normal float32. Logarithms of smaller numbers are not reliable.
SMALLEST = 1.2e-38

# A probability of 1 was rounded to 1 in float32.
ROUNDED_TO_ONE = 6e-8


def log_probabilities(logits, temperature=1.0):
    """`log softmax(logits / temperature)` over the last axis."""
    return ops.log_softmax(logits / temperature, axis=-1)


def log_outcomes(logits, temperature=1.0):
    """`log [sigmoid(z), sigmoid(-z)]`, `z = logits / temperature`.

    Returns `(..., classes, 2)` for logits `(..., classes)`.
    """
    scaled = logits / temperature
    return ops.stack(
        [ops.log_sigmoid(scaled), ops.log_sigmoid(-scaled)], axis=-1
    )


def safe_log(probabilities):
    """The logarithm, finite at 0: `log max(p, 1.2e-38)`."""
    return ops.log(ops.maximum(probabilities, SMALLEST))


def logits_of_probabilities(probabilities):
    """Logits whose softmax is `probabilities`: `log p`, up to a constant.

    Dividing them by a temperature and taking the softmax gives the
    probabilities that the same logits have at that temperature:
    `softmax(log p / T) = p^(1/T) / sum p^(1/T) = softmax(logits / T)`.
    """
    return safe_log(probabilities)


def logits_of_sigmoid(probabilities):
    """Logits whose sigmoid is `probabilities`: `log p - log(1 - p)`."""
    rest = ops.maximum(1.0 - probabilities, ROUNDED_TO_ONE)
    return safe_log(probabilities) - ops.log(rest)


def standardized(logits, epsilon=1e-7):
    """`(x - mean) / (std + epsilon)` over the last axis, std unbiased.

    If all logits are equal up to rounding (a head that starts at zero), the
    formula divides noise by `epsilon`, and its gradient is 1e7, infinite in
    float16. Then std is taken as 1, which gives zeros and an ordinary gradient.
    """
    mean = ops.mean(logits, axis=-1, keepdims=True)
    centered = logits - mean
    squares = ops.sum(ops.square(centered), axis=-1, keepdims=True)
    std = safe_sqrt(squares / (logits.shape[-1] - 1))
    wide = keras.backend.standardize_dtype(logits.dtype) == "float64"
    rounding = (1e-14 if wide else 1e-6) * ops.abs(mean) + 1e-14
    std = ops.where(std <= rounding, ops.ones_like(std), std)
    return centered / (std + epsilon)


def kl_divergence(p, log_p, log_q):
    """`sum_c p_c (log p_c - log q_c)` over the last axis; `0 log 0 = 0`."""
    return ops.sum(p * (log_p - log_q), axis=-1)


def skew_divergence(p, log_p, log_q, share):
    """`KL(p || share * p + (1 - share) * q)` over the last axis.

        sum_c p_c (log p_c - log(share * p_c + (1 - share) * q_c))
        = sum_c p_c (-log(share) - softplus(log((1 - share) / share) - d_c))

    with `d = log p - log q`. The second line has no logarithm of the mixture,
    so nothing is lost where `p` and `q` are almost equal or far apart.

    Args:
        p: Probabilities.
        log_p: Their logarithms.
        log_q: The logarithms of the other probabilities.
        share: The share of `p` in the mixture, a number in [0, 1). With 0 it
            is the KL divergence.
    """
    if share == 0.0:
        return kl_divergence(p, log_p, log_q)
    odds = math.log1p(-share) - math.log(share)
    ratio = -math.log(share) - ops.softplus(odds - (log_p - log_q))
    return ops.sum(p * ratio, axis=-1)


def cross_entropy(p, log_q):
    """`-sum_c p_c log q_c` over the last axis."""
    return -ops.sum(p * log_q, axis=-1)
