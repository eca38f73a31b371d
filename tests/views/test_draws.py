import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_distill.views import draws


def test_draws_are_uniform_and_independent():
    index = tf.range(200_000)
    values = draws.uniform(3, 0, index, 5).numpy()
    assert values.min() >= 0.0 and values.max() < 1.0
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    counts = np.histogram(values, 1000, (0, 1))[0]
    assert stats.chisquare(counts).pvalue > 1e-3
    for other in (
        values[1:],  # the next sample
        draws.uniform(4, 0, index, 5).numpy(),  # another seed
        draws.uniform(3, 1, index, 5).numpy(),  # the next epoch
        draws.uniform(3, 0, index, 6).numpy(),  # the next draw
        draws.uniform(3, 0, index).numpy(),
    ):
        same = values[: len(other)]
        assert abs(np.corrcoef(same, other)[0, 1]) < 0.01


@pytest.mark.slow
def test_a_draw_depends_on_its_coordinates_alone():
    index = tf.constant([5, 11, 7], tf.int32)
    one = draws.hashed(1, tf.constant(2), index, 3)
    np.testing.assert_array_equal(
        one, tf.gather(draws.hashed(1, 2, tf.range(12), 3), index)
    )
    compiled = tf.function(lambda i: draws.hashed(1, 2, i, 3), jit_compile=True)
    np.testing.assert_array_equal(one, compiled(index))
    assert len({int(h) for h in draws.hashed(0, 0, tf.range(10_000))}) > 9_990


def test_draws_are_those_of_every_release():
    # Caches of teacher outputs hold on to these numbers.
    expected = [1411663344, 2335285299, 1045659889]
    np.testing.assert_array_equal(draws.hashed(0, 1, tf.range(3), 2), expected)


def test_coins_are_fair():
    heads = draws.bernoulli(0, 0, tf.range(100_000)).numpy()
    assert heads.dtype == bool
    assert abs(heads.mean() - 0.5) < 0.01


@pytest.mark.parametrize("concentration", [0.1, 0.2, 0.5, 2.0])
def test_beta_quantiles(concentration):
    probability = np.linspace(0, 1, 5001)[:-1].astype("float32")
    found = draws.SymmetricBeta(concentration)(tf.constant(probability))
    expected = stats.beta.ppf(probability, concentration, concentration)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_beta_with_concentration_1_is_uniform():
    probability = tf.constant([0.0, 0.3, 0.9])
    assert draws.SymmetricBeta(1.0)(probability) is probability
