"""`Shampoo` in training; its steps are checked by the reference cases."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_distill.optimizers import Shampoo
from keras_distill.optimizers.blocks import Blocks
from keras_distill.optimizers.blocks import merged_shape

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 6, 6, 2)).astype("float32")
Y = RNG.integers(0, 3, 48)


def trained(optimizer, epochs=1, model=None, **options):
    """Trains a small network; returns it."""
    if model is None:
        keras.utils.set_random_seed(0)
        layers = [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, dtype="float32"),
        ]
        model = keras.Sequential(layers)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, **options)
    model.fit(X, Y, batch_size=12, epochs=epochs, shuffle=False, verbose=0)
    return model


def assert_same(model, other, rtol, atol=1e-6):
    for value, expected in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=atol)


def steps(gradients, function=lambda apply: apply, **options):
    """A variable after steps with given gradients.

    A large epsilon: roots magnify the rounding of a new gradient.
    """
    variable = keras.Variable(np.ones(gradients.shape[1:]), dtype="float32")
    optimizer = Shampoo(
        0.1, preconditioner_interval=2, start_step=1, epsilon=0.01, **options
    )
    optimizer.build([variable])
    apply = function(lambda g: optimizer.apply([g], [variable]))
    for gradient in gradients:
        apply(ops.convert_to_tensor(gradient, "float32"))
    return ops.convert_to_numpy(variable)


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_eager_and_compiled_steps(jit_compile):
    gradients = RNG.normal(size=(5, 3, 2))
    compiled = functools.partial(tf.function, jit_compile=jit_compile)
    np.testing.assert_allclose(
        steps(gradients, compiled), steps(gradients), rtol=1e-4
    )


@pytest.mark.slow
def test_it_learns():
    before = trained(Shampoo(1e-9)).evaluate(X, Y, verbose=0)
    after = trained(Shampoo(0.1), epochs=10).evaluate(X, Y, verbose=0)
    assert after < 0.5 * before


@pytest.mark.slow
def test_it_continues_from_a_file(tmp_path):
    options = {"start_step": 2, "preconditioner_interval": 3}
    whole = trained(Shampoo(0.05, **options), epochs=2)
    half = trained(Shampoo(0.05, **options))
    half.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    config = half.optimizer.get_config()
    assert loaded.optimizer.get_config() == config
    assert_same(trained(None, model=loaded), whole, rtol=1e-6)


def test_a_rate_that_a_schedule_brought_to_zero():
    optimizer = Shampoo(0.1)
    optimizer.learning_rate = 0.0
    assert Shampoo.from_config(optimizer.get_config()).learning_rate == 0


def test_accumulated_gradients_are_one_step():
    gradients = RNG.normal(size=(6, 2, 3, 2))
    np.testing.assert_allclose(
        steps(gradients.reshape(12, 3, 2), gradient_accumulation_steps=2),
        steps(gradients.mean(axis=1)),
        rtol=1e-4,
    )


@pytest.mark.slow
def test_half_precision():
    """A float16 network under loss scaling, whose first step overflows."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = trained(Shampoo(0.05, start_step=1), epochs=3)
    finally:
        keras.config.set_dtype_policy("float32")
    assert type(model.optimizer).__name__ == "LossScaleOptimizer"
    kept = model.optimizer.inner_optimizer.variables
    assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in kept)
    assert model.evaluate(X, Y, verbose=0) < 1.0
    bfloat16 = keras.Variable(np.ones((3, 2)), dtype="bfloat16")
    optimizer = Shampoo(0.1, start_step=0, momentum=0.0)
    optimizer.apply([ops.ones((3, 2), "bfloat16")], [bfloat16])
    roots = [v.dtype for v in optimizer.variables if "root" in v.name]
    assert set(roots) == {"float32"}
    assert np.all(ops.convert_to_numpy(ops.cast(bfloat16, "float32")) < 1)


def test_what_has_no_preconditioner_is_trained_by_grafting():
    """Scalars and variables with a long dimension."""
    gradients = [np.full((9, 2), 0.5, "float32"), np.float32(0.5)]
    variables = [keras.Variable(np.zeros_like(g)) for g in gradients]
    optimizer = Shampoo(
        0.1, max_dim=8, grafting="adagrad", momentum=0.0, start_step=0
    )
    optimizer.apply([ops.convert_to_tensor(g) for g in gradients], variables)
    for variable in variables:
        np.testing.assert_allclose(ops.convert_to_numpy(variable), -0.1)
    assert not [v for v in optimizer.variables if "root" in v.name]


def test_excluded_weights_do_not_decay():
    for decoupled in (True, False):
        kernel = keras.Variable(np.ones((2, 2)), name="kernel")
        bias = keras.Variable(np.ones(2), name="bias")
        optimizer = Shampoo(
            0.1, weight_decay=0.5, decoupled_weight_decay=decoupled
        )
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        zeros = [ops.zeros((2, 2)), ops.zeros(2)]
        optimizer.apply(zeros, [kernel, bias])
        assert np.all(ops.convert_to_numpy(kernel) < 1)
        assert np.all(ops.convert_to_numpy(bias) == 1)


@pytest.mark.parametrize(
    "shape, limit, merged",
    [
        ((3, 3, 2, 4), 12, (9, 8)),
        ((3, 3, 2, 4), 4096, (72,)),
        ((3, 3, 2, 4), None, (3, 3, 2, 4)),
        ((1, 5000), 4096, (5000,)),
        ((1, 1), 4096, (1,)),
    ],
)
def test_merged_dimensions(shape, limit, merged):
    assert merged_shape(shape, limit) == merged


@pytest.mark.parametrize("shape", [(7, 5), (4, 4), (9,), (3, 3, 2, 4)])
def test_blocks_are_put_together_again(shape):
    x = RNG.normal(size=shape)
    blocks = Blocks(shape, 12, 4)
    cut = blocks.split(ops.convert_to_tensor(x))
    assert tuple(cut.shape) == (blocks.count, *blocks.sides)
    np.testing.assert_array_equal(ops.convert_to_numpy(blocks.join(cut)), x)


def test_old_roots_need_grafting():
    with pytest.raises(ValueError, match="old roots magnify"):
        Shampoo(grafting="none", preconditioner_interval=3)
    with pytest.raises(ValueError, match="old roots magnify"):
        Shampoo(grafting="none", statistics_interval=3)
    Shampoo(grafting="none", preconditioner_interval=3, relative_epsilon=False)


def test_rows_of_an_embedding_are_summed():
    rows = tf.IndexedSlices(tf.ones((3, 2)), tf.constant([0, 2, 2]), (4, 2))
    dense = ops.convert_to_tensor([[1.0, 1], [0, 0], [2, 2], [0, 0]])
    found = []
    for gradient in (rows, dense):
        variable = keras.Variable(np.ones((4, 2)), dtype="float32")
        Shampoo(0.1, start_step=0).apply([gradient], [variable])
        found.append(ops.convert_to_numpy(variable))
    np.testing.assert_array_equal(*found)


def test_old_roots_do_not_magnify_a_new_direction():
    """Roots are those of the first step; the gradient then turns."""
    variable = keras.Variable(np.zeros((4, 4)), dtype="float32")
    optimizer = Shampoo(
        1.0, start_step=0, momentum=0.0, preconditioner_interval=10
    )
    optimizer.apply([ops.diag([1e-2, 0.0, 0.0, 0.0])], [variable])
    before = ops.convert_to_numpy(variable)
    gradient = np.diag([1e-2, 1e-3, 0.0, 0.0])
    optimizer.apply([ops.convert_to_tensor(gradient, "float32")], [variable])
    step = before - ops.convert_to_numpy(variable)
    assert step[1, 1] < step[0, 0]


def test_a_gradient_of_nan_makes_nan():
    variable = keras.Variable(np.ones((3, 2)))
    gradient = np.full((3, 2), np.nan)
    Shampoo(0.1, start_step=0).apply([gradient], [variable])
    assert np.all(np.isnan(ops.convert_to_numpy(variable)))


def test_a_gradient_of_zeros_moves_nothing():
    variable = keras.Variable(np.ones((3, 2)))
    optimizer = Shampoo(0.1, start_step=0)
    for _ in range(3):
        optimizer.apply([ops.zeros((3, 2))], [variable])
    assert np.all(ops.convert_to_numpy(variable) == 1)
    assert tf.reduce_all(tf.math.is_finite(variable.value))
