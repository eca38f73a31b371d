"""Norms and proximal operators: against their definition."""

import numpy as np
import pytest
import tensorflow as tf

from keras_distill.multitask import norms

RANDOM = np.random.default_rng(0)
KERNELS = {
    "tall": RANDOM.normal(size=(6, 3)),
    "wide": RANDOM.normal(size=(3, 7)),
    "rank_1": np.outer(RANDOM.normal(size=5), RANDOM.normal(size=4)),
    "zero": np.zeros((3, 4)),
    "one_column": RANDOM.normal(size=(4, 1)),
    "equal": np.eye(3),
}


@pytest.mark.parametrize("name", norms.NORMS)
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_prox_is_the_least(name, kernel):
    """No other kernel nearby is better, nor on the way to 0 or to W."""

    def objective(x):
        norm = float(norms.norm(name, x))
        return 0.5 * np.sum((x - kernel) ** 2) + amount * norm

    for amount in (0.0, 0.1, 1.0, 50.0):
        x = norms.prox(name, kernel, amount).numpy()
        assert x.dtype == np.float64 and np.isfinite(x).all()
        least = objective(x) - 1e-9
        for size in (1e-5, 1e-3, 0.1):
            for _ in range(10):
                step = RANDOM.normal(size=kernel.shape)
                assert objective(x + size * step) >= least
            assert objective(x + size * (kernel - x)) >= least
            assert objective((1 - size) * x) >= least
        if amount == 0.0:
            np.testing.assert_allclose(x, kernel, atol=1e-12)


@pytest.mark.parametrize("name", ["nuclear", "l1"])
def test_a_float64_amount_is_not_rounded(name):
    amount = 0.7  # In float32: 0.699999988.
    x = norms.prox(name, np.eye(3), amount).numpy()
    np.testing.assert_allclose(np.diag(x), 1.0 - amount, rtol=1e-14)


def test_exact_zeros():
    kernel = KERNELS["tall"]
    left = norms.prox("l1", kernel, 0.7).numpy()
    assert 0 < np.sum(left == 0) == np.sum(abs(kernel) <= 0.7)
    rows = norms.prox("rows", kernel, 1.5).numpy()
    short = np.linalg.norm(kernel, axis=1) <= 1.5
    assert 0 < short.sum() and np.array_equal((rows == 0).all(axis=1), short)
    low = norms.prox("nuclear_squared", kernel, 0.2).numpy()
    assert np.linalg.matrix_rank(low, tol=1e-9) < 3


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_the_smooth_form(kernel):
    """Of the root of W W' + epsilon I, also where W has no full rank."""
    squares, axes = np.linalg.eigh(kernel @ kernel.T)
    root = axes * np.sqrt(squares + 0.01) @ axes.T
    x = tf.Variable(kernel)
    with tf.GradientTape() as tape:
        value = norms.smooth_nuclear_squared(x, 0.01)
    np.testing.assert_allclose(value, np.trace(root) ** 2)
    np.testing.assert_allclose(
        tape.gradient(value, x),
        2 * np.trace(root) * np.linalg.solve(root, kernel),
        atol=1e-12,
    )


def test_a_weak_smoothing_is_the_norm():
    kernel = KERNELS["wide"]
    for smooth, name in (
        (norms.smooth_nuclear_squared, "nuclear_squared"),
        (norms.smooth_rows_squared, "rows_squared"),
    ):
        np.testing.assert_allclose(
            smooth(kernel, 1e-16), norms.norm(name, kernel), rtol=1e-6
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_half_precision_is_computed_in_single(dtype):
    kernel = tf.cast(KERNELS["tall"], dtype)
    for name in norms.NORMS:
        assert norms.prox(name, kernel, 0.1).dtype == "float32"
        assert norms.norm(name, kernel).dtype == "float32"


@pytest.mark.slow
def test_xla_gives_the_same():
    kernel = KERNELS["wide"].astype("float32")
    for name in ("linf", "nuclear_squared"):
        compiled = tf.function(norms.prox, jit_compile=True)
        np.testing.assert_allclose(
            compiled(name, kernel, 0.3),
            norms.prox(name, kernel, 0.3),
            atol=1e-5,
            err_msg=name,
        )
