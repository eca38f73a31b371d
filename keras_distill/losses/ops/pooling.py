"""Pooling of maps `(batch, height, width, channels)` to a given size."""

import keras
import numpy as np
from keras import ops


def adaptive_average_pool(x, height, width):
    """Averages a map of any size down to `height` x `width`.

        out[i, j] = mean of x[floor(i*N/n) : ceil((i+1)*N/n), ... columns alike]

    Windows overlap if `n` does not divide `N`.

    Args:
        x: `(batch, H, W, channels)` with known `H` and `W`.
        height: Rows of the result, or `None` to leave the rows alone.
        width: Columns of the result, or `None` to leave them alone.

    Returns:
        `(batch, height, width, channels)`, the dtype of `x`.
    """
    rows, columns = x.shape[1:3]
    height = rows if height is None else height
    width = columns if width is None else width
    if (rows, columns) == (height, width):
        return x
    if _divides(height, rows) and _divides(width, columns):
        window = (rows // height, columns // width)
        return ops.average_pool(
            x, window, strides=window, data_format="channels_last"
        )
    dtype = keras.backend.standardize_dtype(x.dtype)
    if height != rows:
        averages = ops.convert_to_tensor(_averages(rows, height), dtype)
        x = ops.einsum("ir,brwc->biwc", averages, x)
    if width != columns:
        averages = ops.convert_to_tensor(_averages(columns, width), dtype)
        x = ops.einsum("jw,bhwc->bhjc", averages, x)
    return x


def match_spatial(a, b, pool=adaptive_average_pool):
    """Pools the larger of two maps to the size of the smaller, per axis.

    Args:
        a: `(batch, H_a, W_a, channels_a)`.
        b: `(batch, H_b, W_b, channels_b)`.
        pool: `function(map, height, width)`. Defaults to the average.

    Returns:
        Both, with equal height and width. While tracing, an axis that is
        unknown in both counts as equal.

    Raises:
        ValueError: for an axis that is known in only one of the two.
    """
    size = []
    for axis in (1, 2):
        known = [n for n in (a.shape[axis], b.shape[axis]) if n is not None]
        if len(known) == 1:
            raise ValueError(
                "The larger of two maps is pooled to the smaller, so both "
                "sizes must be known. Received: "
                f"{tuple(a.shape)} and {tuple(b.shape)}. Give both networks an "
                "input of known height and width."
            )
        size.append(min(known) if known else None)
    return pool(a, *size), pool(b, *size)


def adaptive_max_pool(x, height, width):
    """Takes the largest value of each cell of a `height` x `width` grid.

        out[i, j] = max of x[floor(i*N/n) : ceil((i+1)*N/n), ... columns alike]

    Args:
        x: `(batch, H, W, channels)` with known `H` and `W`.
        height: Rows of the result, or `None` to leave the rows alone.
        width: Columns of the result, or `None` to leave them alone.

    Returns:
        `(batch, height, width, channels)`, the dtype of `x`.
    """
    # Windows are rectangles: rows and columns can be taken one by one.
    if height not in (None, x.shape[1]):
        windows = _windows(x.shape[1], height)
        rows = [ops.max(x[:, a:b], axis=1) for a, b in windows]
        x = ops.stack(rows, axis=1)
    if width not in (None, x.shape[2]):
        windows = _windows(x.shape[2], width)
        columns = [ops.max(x[:, :, a:b], axis=2) for a, b in windows]
        x = ops.stack(columns, axis=2)
    return x


def _windows(size, cells):
    """Start and end of each cell's window; they may overlap."""
    return [
        (i * size // cells, -(-(i + 1) * size // cells)) for i in range(cells)
    ]


def _divides(small, large):
    return small is not None and large is not None and large % small == 0


def _averages(size, cells):
    """`(cells, size)`: row `i` averages the window of cell `i`."""
    matrix = np.zeros((cells, size))
    for i in range(cells):
        start, end = i * size // cells, -(-(i + 1) * size // cells)
        matrix[i, start:end] = 1.0 / (end - start)
    return matrix
