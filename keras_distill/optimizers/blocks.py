"""Tensors as batches of equal blocks, and the preconditioners of a block."""

import math

import keras
from keras import ops

_AXES = "abcdefghijkl"


def merged_shape(shape, merge_dims):
    """Joins neighbouring dimensions while their product is small enough.

    Args:
        shape: Of a tensor.
        merge_dims: The largest product, or `None`: `shape` stays as it is.
    """
    if merge_dims is None:
        return tuple(shape)
    merged, product = [], 1
    for size in shape:
        if product * size <= merge_dims:
            product *= size
            continue
        if product > 1:
            merged.append(product)
        product = size
    if product > 1 or not merged:
        merged.append(product)
    return tuple(merged)


class Blocks:
    """Cuts a tensor into blocks of one size, and puts them together again.

    A dimension that is no multiple of the block is filled up with zeros. These
    change nothing: a preconditioner is a block for them and one for the rest.

    Args:
        shape: Of the tensor.
        merge_dims: As in `merged_shape`.
        block_size: The largest side of a block.

    Attributes:
        sides: The sides of a block.
        count: The number of blocks.
    """

    def __init__(self, shape, merge_dims, block_size):
        self._shape = tuple(shape)
        self._merged = merged_shape(shape, merge_dims)
        self.sides = tuple(min(size, block_size) for size in self._merged)
        self._counts = tuple(
            math.ceil(size / side)
            for size, side in zip(self._merged, self.sides)
        )
        self.count = math.prod(self._counts)

    def split(self, x):
        """Returns `(count, *sides)`."""
        x = ops.reshape(x, self._merged)
        filled = [c * s for c, s in zip(self._counts, self.sides)]
        if filled != list(self._merged):
            x = ops.pad(
                x, [(0, f - size) for f, size in zip(filled, self._merged)]
            )
        if self.count > 1:
            rank = len(self.sides)
            pairs = zip(self._counts, self.sides)
            x = ops.reshape(x, [size for pair in pairs for size in pair])
            order = [*range(0, 2 * rank, 2), *range(1, 2 * rank, 2)]
            x = ops.transpose(x, order)
        return ops.reshape(x, (self.count, *self.sides))

    def join(self, blocks):
        """Returns the tensor of which `split` made these blocks."""
        rank = len(self.sides)
        x = ops.reshape(blocks, (*self._counts, *self.sides))
        x = ops.transpose(x, [i for a in range(rank) for i in (a, rank + a)])
        x = ops.reshape(x, [c * s for c, s in zip(self._counts, self.sides)])
        x = x[tuple(slice(size) for size in self._merged)]
        return ops.reshape(x, self._shape)


def outer_products(blocks, axis):
    """Returns `G G'` of each block, unfolded along an axis.

    Args:
        blocks: `(count, *sides)`.
        axis: A dimension of the block, from 0.

    Returns:
        `(count, side, side)`, with the side of that dimension.
    """
    axes = _AXES[: len(blocks.shape) - 1]
    other = axes.replace(axes[axis], "z")
    return ops.einsum(f"n{axes},n{other}->n{axes[axis]}z", blocks, blocks)


def inverse_root(statistics, power, epsilon, relative):
    """Returns `(S + ridge I)^(-1 / power)` of each symmetric matrix.

    Args:
        statistics: `(count, side, side)`.
        power: An integer.
        epsilon: The ridge, or its share of the largest eigenvalue.
        relative: Whether it is a share.
    """
    dtype = statistics.dtype
    if keras.backend.backend() == "tensorflow":
        # A quarter more time. TensorFlow's float32 eigenvalues near zero are
        # wrong by a part of the ridge.
        statistics = ops.cast(statistics, "float64")
    # TensorFlow's raises for NaN; the steps shall be NaN, as with Adam.
    finite = ops.all(ops.isfinite(statistics), (-2, -1), keepdims=True)
    values, vectors = ops.eigh(ops.where(finite, statistics, 0.0))
    ridge = epsilon
    if relative:
        ridge = epsilon * ops.maximum(values[..., -1:], 1e-6)
    # Rounding makes eigenvalues of zero negative.
    values = ops.maximum(values, 0.0) + ridge
    root = ops.matmul(
        vectors * ops.expand_dims(values ** (-1.0 / power), -2),
        ops.swapaxes(vectors, -1, -2),
    )
    return ops.cast(ops.where(finite, root, float("nan")), dtype)


def preconditioned(blocks, roots):
    """Multiplies each block by a matrix along each of its dimensions."""
    axes = _AXES[: len(roots)]
    for axis, root in zip(axes, roots):
        changed = axes.replace(axis, "z")
        blocks = ops.einsum(f"n{axes},n{axis}z->n{changed}", blocks, root)
    return blocks
