"""Norms of a kernel `(features, columns)`, and their proximal operators.

    prox(W) = argmin_X 1/2 ||X - W||_F^2 + amount * norm(X)

Each norm but two is the sum of magnitudes that can shrink one by one: entries,
lengths of rows or columns, singular values. Its square is there too.
"""

from keras import ops

from keras_distill.losses.ops.elementwise import at_least_float32

_SUMS = ("l1", "rows", "columns", "nuclear")
NORMS = (*_SUMS, "linf", "frobenius", *(f"{norm}_squared" for norm in _SUMS))


def norm(name, kernel):
    """The value of a norm, a scalar in float32 or float64.

    Args:
        name: `"l1"`: the sum of |entries|. `"rows"`, `"columns"`: the sum of
            their lengths. `"nuclear"`: the sum of the singular values. With
            `"_squared"` behind it, the square of that sum. `"linf"`: the sum
            of the largest |entry| of each row. `"frobenius"`: the sum of the
            squared entries.
        kernel: `(features, columns)`.
    """
    kernel = at_least_float32(kernel)
    if name == "linf":
        return ops.sum(ops.max(ops.abs(kernel), axis=1))
    if name == "frobenius":
        return ops.sum(ops.square(kernel))
    magnitudes, _ = _magnitudes(name.removesuffix("_squared"), kernel)
    total = ops.sum(magnitudes)
    return ops.square(total) if name.endswith("_squared") else total


def prox(name, kernel, amount):
    """The kernel that the proximal operator of `amount * norm` gives.

    Args:
        name: As in `norm`.
        kernel: `(features, columns)`.
        amount: A scalar of at least 0.
    """
    kernel = at_least_float32(kernel)
    amount = ops.convert_to_tensor(amount, dtype=kernel.dtype)
    if name == "linf":
        bound = _largest_after(ops.abs(kernel), amount)
        return ops.clip(kernel, -bound, bound)
    if name == "frobenius":
        return kernel / (1.0 + 2.0 * amount)
    magnitudes, rebuild = _magnitudes(name.removesuffix("_squared"), kernel)
    if name.endswith("_squared"):
        amount = squared_sum_threshold(ops.reshape(magnitudes, (-1,)), amount)
    return rebuild(ops.maximum(magnitudes - amount, 0.0))


def squared_sum_threshold(values, amount):
    """What `amount * (sum of values)^2` takes from each value of at least 0.

        2 c (s_1 + ... + s_k) / (1 + 2 c k)   s sorted, largest first;
                                              k: where this is largest

    Args:
        values: `(n,)`.
        amount: The scalar c.
    """
    sums, counts = _falling_sums(values)
    return ops.max(2.0 * amount * sums / (1.0 + 2.0 * amount * counts))


def _largest_after(rows, amount):
    """The largest entry that `amount * linf` leaves in each row, `(n, 1)`.

    A row less its projection onto the l1 ball of radius `amount` is the row,
    cut off at the threshold of that projection.
    """
    sums, counts = _falling_sums(rows)
    threshold = ops.max((sums - amount) / counts, axis=-1, keepdims=True)
    return ops.maximum(threshold, 0.0)


def _falling_sums(values):
    """The sums of the largest 1, 2, ... values of each row, and 1, 2, ..."""
    sums = ops.cumsum(-ops.sort(-values, axis=-1), axis=-1)
    return sums, ops.arange(1, values.shape[-1] + 1, dtype=sums.dtype)


def _magnitudes(name, kernel):
    """What a norm sums up, and a function from new ones to a kernel."""
    if name == "nuclear":
        left, values, right = ops.svd(kernel, full_matrices=False)
        return values, lambda new: ops.matmul(left * new, right)
    if name == "l1":
        return ops.abs(kernel), lambda new: ops.sign(kernel) * new
    axis = {"rows": 1, "columns": 0}[name]
    lengths = ops.sqrt(ops.sum(ops.square(kernel), axis=axis, keepdims=True))
    safe = ops.where(lengths > 0.0, lengths, 1.0)
    return lengths, lambda new: kernel * (new / safe)


def smooth_nuclear_squared(kernel, epsilon):
    """`tr((W W' + epsilon I)^(1/2))^2`, with its gradient.

    For `epsilon` = 0 it is the squared nuclear norm, and the gradient the
    shortest subgradient. Singular values that are equal have no derivative of
    their own, but their sum has: 2 tr(R) R^-1 W, with the root R.
    """
    kernel = at_least_float32(kernel)
    fixed = ops.stop_gradient(kernel)
    left, values, right = ops.svd(fixed, full_matrices=False)
    roots = ops.sqrt(ops.square(values) + epsilon)
    rest = kernel.shape[0] - min(kernel.shape)
    trace = ops.sum(roots) + rest * epsilon**0.5
    shares = values / ops.where(roots > 0.0, roots, 1.0)
    slope = 2.0 * trace * ops.matmul(left * shares, right)
    return ops.stop_gradient(ops.square(trace)) + ops.sum(
        ops.stop_gradient(slope) * (kernel - fixed)
    )


def smooth_rows_squared(kernel, epsilon):
    """`(sum over rows of sqrt(||row||^2 + epsilon))^2`."""
    kernel = at_least_float32(kernel)
    squares = ops.sum(ops.square(kernel), axis=1)
    return ops.square(ops.sum(ops.sqrt(squares + epsilon)))
