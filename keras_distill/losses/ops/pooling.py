"""Maximum pooling to a given size."""

from keras import ops


def adaptive_max_pool(x, height, width):
    """The largest value of each cell of a `height` x `width` grid.

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
    """Start and end of each cell's window; they overlap where they must."""
    return [
        (i * size // cells, -(-(i + 1) * size // cells)) for i in range(cells)
    ]
