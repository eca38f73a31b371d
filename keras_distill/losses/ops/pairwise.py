"""Relations between the samples of a batch, from features `(batch, width)`.

Everything is made of one product `X X^T`, so that no tensor has more axes than
its definition needs. The mean of the samples is subtracted first, which changes
no distance and no angle but keeps the digits of both.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_distill.losses.ops.elementwise import safe_sqrt
from keras_distill.losses.ops.norms import over_norm


def flat(x):
    """Reshapes `(batch, ...)` to `(batch, width)`."""
    width = x.shape[1:]
    width = -1 if None in width else math.prod(width)
    return ops.reshape(x, (ops.shape(x)[0], width))


def gram(x):
    """Inner products of the samples, `X X^T`."""
    return ops.matmul(x, ops.transpose(x))


def similarity(x):
    """`X X^T` with each row over its L2 norm (Tung, Mori 2019)."""
    return over_norm(gram(x))


def cosine(x):
    """Cosines of the angles that the samples make at the origin."""
    return gram(over_norm(x))


def distances(x):
    """Euclidean distances.

    Args:
        x: `(batch, width)`.

    Returns:
        `(batch, batch)`. Samples that are equal up to rounding have distance
        0 and no gradient.
    """
    distance, _, _ = _distances_and_products(x)
    return distance


def relative_distances(x):
    """Euclidean distances over their mean (Park et al. 2019).

        D_ij = ||x_i - x_j||_2 / mu,  mu = mean of ||x_i - x_j|| over i != j

    Returns:
        `(batch, batch)`; zeros if all samples are equal.
    """
    distance = distances(x)
    count = ops.cast(ops.shape(x)[0], x.dtype)
    pairs = ops.maximum(count * (count - 1.0), 1.0)
    return distance / ops.maximum(ops.sum(distance) / pairs, 1e-12)


def angles(x):
    """Cosines of the angles between triples of samples (Park et al. 2019).

        A_ijk = e_ij . e_ik,  e_ij = (x_j - x_i) / ||x_j - x_i||_2

    Returns:
        `(batch, batch, batch)`, axis 0 the corner of the angle; 0 if two of
        the three samples are equal.
    """
    distance, product, apart = _distances_and_products(x)
    one = ops.ones_like(distance)
    inverse = ops.where(apart, one / ops.where(apart, distance, one), 0.0)
    square = ops.diagonal(product)
    # (x_j - x_i) . (x_k - x_i), from inner products alone.
    product = (
        product[None, :, :]
        - product[:, :, None]
        - product[:, None, :]
        + square[:, None, None]
    )
    return product * (inverse[:, :, None] * inverse[:, None, :])


def taylor_gaussian(x, gamma=0.4, order=2):
    """Gaussian kernel by its Taylor expansion (Peng et al. 2019).

        K_ij = exp(-2 gamma) sum_{p=0}^{order} (2 gamma)^p / p! (x_i . x_j)^p

    For unit vectors this tends to `exp(-gamma ||x_i - x_j||^2)`.
    """
    product = 2.0 * gamma * gram(x)
    total = ops.ones_like(product)
    for p in range(order, 0, -1):  # Horner's scheme.
        total = 1.0 + total * product / p
    return math.exp(-2.0 * gamma) * total


def neighbour_probabilities(x, with_self=False, epsilon=1e-7):
    """Probabilities that a sample picks another (Passalis, Tefas 2018).

        K_ij = (cos(x_i, x_j) + 1) / 2      P_ij = K_ij / sum_k K_ik

    Args:
        x: `(batch, width)`.
        with_self: Whether a sample counts among its neighbours. If not,
            `K_ii = 0`.
        epsilon: Added to the norms.

    Returns:
        `(batch, batch)`; rows sum to 1, or to 0 without any neighbour.
    """
    norm = safe_sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True))
    kernel = (gram(x / (norm + epsilon)) + 1.0) / 2.0
    # The cosine of opposite samples is rounded to less than -1.
    kernel = ops.maximum(kernel, 0.0)
    if not with_self:
        kernel = kernel * (1.0 - _identity(kernel))
    total = ops.sum(kernel, axis=1, keepdims=True)
    return kernel / ops.maximum(total, 1e-12)


def _distances_and_products(x):
    """Distances, centered inner products, and which samples differ."""
    x = x - ops.stop_gradient(ops.mean(x, axis=0, keepdims=True))
    product = gram(x)
    square = ops.diagonal(product)
    both = square[:, None] + square[None, :]
    squared = both - 2.0 * product
    # Below this it is rounding of `both`, whose direction means nothing.
    dtype = keras.backend.standardize_dtype(x.dtype)
    rounding = 16.0 * float(np.finfo(dtype).eps)
    apart = squared > ops.maximum(rounding * both, 1e-30)
    apart = ops.logical_and(apart, _identity(product) == 0.0)
    one = ops.ones_like(squared)
    distance = ops.where(apart, ops.sqrt(ops.where(apart, squared, one)), 0.0)
    return distance, product, apart


def _identity(matrix):
    """The identity, for a square matrix whose size may be unknown."""
    index = ops.arange(ops.shape(matrix)[0])
    return ops.cast(index[:, None] == index[None, :], matrix.dtype)
