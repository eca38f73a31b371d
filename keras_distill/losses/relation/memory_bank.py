"""Contrast of a vector with stored vectors of other samples."""

import math

import keras
import numpy as np
from keras import ops

from keras_distill.losses.ops.gathering import draw_per_sample
from keras_distill.losses.ops.gathering import gather_replicas
from keras_distill.losses.ops.norms import over_norm


def all_inside(index, samples):
    """Whether all indices lie in [0, samples)."""
    return ops.logical_and(ops.min(index) >= 0, ops.max(index) < samples)


def concrete(x):
    """A NumPy array of `x`; `None` while tracing: there are no numbers yet."""
    try:
        return np.asarray(x)
    except (NotImplementedError, TypeError, ValueError):
        return None


def draw_others(sample_index, count, samples, seed):
    """Indices to compare with: each sample itself, then any others.

    Args:
        sample_index: `(batch,)` integers.
        count: How many others per sample; with repetitions.
        samples: Indices are drawn from 0 to `samples - 1`.
        seed: A `keras.random.SeedGenerator`.

    Returns:
        `(batch, 1 + count)`, the dtype of `sample_index`.
    """
    drawn = draw_per_sample(
        lambda rows: keras.random.randint(
            (rows, count), 0, samples - 1, seed=seed
        ),
        sample_index,
    )
    drawn = ops.cast(drawn, sample_index.dtype)
    own = sample_index[:, None]
    # One index is skipped: the sample's own.
    drawn = drawn + ops.cast(drawn >= own, drawn.dtype)
    return ops.concatenate([own, drawn], axis=1)


def class_indices(y):
    """`(batch,)`, `(batch, 1)` or one-hot labels -> `(batch,)` int32."""
    y = ops.convert_to_tensor(y)
    if len(y.shape) == 2:
        y = y[:, 0] if y.shape[1] == 1 else ops.argmax(y, axis=-1)
    return ops.cast(y, "int32")


def weights_of_other_classes(own, drawn, dtype="float32"):
    """0 for a drawn sample of the own class; the sum stays what it was.

    Args:
        own: `(batch,)` class indices.
        drawn: `(batch, choices)` class indices; -1: not known yet.
        dtype: Of the result.

    Returns:
        `(batch, choices)`; a row of zeros where all are of the own class.
    """
    other = ops.cast(drawn != own[:, None], dtype)
    share = ops.mean(other, axis=1, keepdims=True)
    return other / ops.maximum(share, 1.0 / drawn.shape[1])


def log_mean_exp(scores):
    """Logarithm of the mean of `exp(scores)` on all replicas, a constant.

    Args:
        scores: `(batch, choices)`.

    Returns:
        A scalar through which no gradient flows.
    """
    per_sample = ops.logsumexp(ops.stop_gradient(scores), axis=1)
    per_sample = gather_replicas(per_sample)
    count = ops.cast(ops.size(per_sample), scores.dtype) * scores.shape[1]
    return ops.logsumexp(per_sample) - ops.log(count)


def contrast_scores(vectors, memory, indices):
    """Inner products of each vector with its own choice of stored ones.

    Args:
        vectors: `(batch, width)`.
        memory: `(samples, width)`.
        indices: `(batch, choices)`, rows of `memory`.

    Returns:
        `(batch, choices)`.
    """
    samples, width = memory.shape
    if samples <= indices.shape[1] * width:
        # The products with all rows are fewer numbers than the chosen rows.
        scores = ops.matmul(vectors, ops.transpose(memory))
        return ops.take_along_axis(scores, indices, axis=1)
    chosen = ops.take(memory, indices, axis=0)
    return ops.squeeze(ops.matmul(chosen, vectors[:, :, None]), axis=-1)


def noise_contrastive(
    scores, log_normalizer, samples, epsilon=1e-7, weights=None
):
    """Noise-contrastive estimation: which of the choices is the sample's own.

        x = exp(score - log_normalizer),  m = K / samples  (K negatives)
        l = -log(x_0 / (x_0 + m + epsilon))
            - sum_{k=1..K} weight_k log(m / (x_k + m + epsilon))

    Args:
        scores: `(batch, 1 + K)`, the positive one first.
        log_normalizer: A scalar.
        samples: Number of samples of the noise, a Python integer.
        epsilon: Added to the denominators.
        weights: `(batch, K)`, or `None` for 1 each.

    Returns:
        `(batch,)`. Computed from the scores themselves: no exponential
        overflows, however small the temperature in them.
    """
    noise = (scores.shape[1] - 1) / samples
    logits = scores - log_normalizer - math.log(noise + epsilon)
    negative = ops.log_sigmoid(-logits[:, 1:])
    negative = negative + math.log(noise / (noise + epsilon))
    if weights is not None:
        negative = negative * weights
    return -ops.log_sigmoid(logits[:, 0]) - ops.sum(negative, axis=1)


def moved_rows(memory, indices, vectors, momentum):
    """The memory after a step.

        row_i <- u / ||u||_2,  u = momentum * row_i + (1 - momentum) * vector_i

    Args:
        memory: `(samples, width)`.
        indices: `(batch,)`, the rows that move.
        vectors: `(batch, width)`, what they move to.
        momentum: How much of a row stays.

    Returns:
        `(samples, width)`.
    """
    rows = ops.take(memory, indices, axis=0)
    rows = over_norm(momentum * rows + (1.0 - momentum) * vectors)
    return ops.scatter_update(memory, indices[:, None], rows)
