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
    """Returns `x` as a NumPy array, or `None` while tracing."""
    try:
        return np.asarray(x)
    except (NotImplementedError, TypeError, ValueError):
        return None


def draw_others(sample_index, count, samples, seed):
    """Draws indices to compare with: each sample itself, then others.

    Args:
        sample_index: `(batch,)` integers.
        count: Number of others per sample, drawn with repetition.
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
    """Returns sparse or one-hot labels as `(batch,)` int32."""
    y = ops.convert_to_tensor(y)
    if len(y.shape) == 2:
        y = y[:, 0] if y.shape[1] == 1 else ops.argmax(y, axis=-1)
    return ops.cast(y, "int32")


def weights_of_other_classes(labels, drawn, dtype="float32"):
    """Weights drawn samples: 0 for the same class, others keep the sum.

    Args:
        labels: `(batch,)` class indices.
        drawn: `(batch, choices)` class indices; -1 if not known yet.
        dtype: dtype of the result.

    Returns:
        `(batch, choices)`; a row of zeros if all are of the same class.
    """
    other = ops.cast(drawn != labels[:, None], dtype)
    share = ops.mean(other, axis=1, keepdims=True)
    return other / ops.maximum(share, 1.0 / drawn.shape[1])


def log_mean_exp(scores):
    """Computes log of the mean of `exp(scores)` on all replicas, a constant.

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
    """Computes inner products of each vector with its chosen stored ones.

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
    """Noise-contrastive estimation of which choice is the sample itself.

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
    """Returns the memory after a step.

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
