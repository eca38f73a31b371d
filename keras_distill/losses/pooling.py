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
    for axis, cells in ((1, height), (2, width)):
        size = x.shape[axis]
        if cells is None or cells == size:
            continue
        windows = [
            (i * size // cells, -(-(i + 1) * size // cells))
            for i in range(cells)
        ]
        x = ops.stack(
            [
                ops.max(
                    x[:, start:end] if axis == 1 else x[:, :, start:end],
                    axis=axis,
                )
                for start, end in windows
            ],
            axis=axis,
        )
    return x
