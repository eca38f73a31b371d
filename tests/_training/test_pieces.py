"""A forward pass in pieces: the same results, one piece at a time."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import convnet
from networks import data

from keras_distill._training.microbatches import in_pieces
from keras_distill.taps.taps import Taps

layers = keras.layers


def compared(function, inputs, size, jit_compile):
    """-> largest difference of the results with and without pieces."""
    whole = function(inputs)
    got = in_pieces(function, inputs, size)
    if jit_compile is not None:
        spec = tf.nest.map_structure(
            lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), inputs
        )
        got = tf.function(
            lambda x: in_pieces(function, x, size),
            jit_compile=jit_compile,
            input_signature=[spec],
        )(inputs)
    tf.nest.assert_same_structure(got, whole)
    differences = []
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(whole)):
        assert a.dtype == b.dtype and a.shape == b.shape
        differences.append(np.abs(np.subtract(a, b)).max())
    return max(differences)


@pytest.mark.parametrize("jit_compile", (None, False, True))
@pytest.mark.parametrize("size", (1, 3, 4, 8, 100))
def test_outputs_and_taps_are_those_of_the_whole_batch(size, jit_compile):
    taps = Taps(convnet(8, batch_norm=True), ["act1", "conv2"])
    x = tf.constant(data(8)[0])
    assert compared(taps, x, size, jit_compile) < 1e-6


@pytest.mark.parametrize("jit_compile", (None, False, True))
def test_several_inputs_and_several_types(jit_compile):
    def function(x):
        both = tf.matmul(x["a"], tf.ones((3, 2)))
        return {
            "sum": both + tf.cast(x["b"][:, None], tf.float32),
            "list": [x["b"] * 2, tf.cast(both, tf.bfloat16)],
        }

    x = {
        "a": tf.random.normal((7, 3)),
        "b": tf.range(7),
    }
    assert compared(function, x, 3, jit_compile) < 1e-6


def test_a_piece_has_no_more_samples_than_it_may():
    seen = []

    def function(x):
        seen.append(tf.shape(x)[0])
        tf.debugging.assert_less_equal(tf.shape(x)[0], 3)
        return x

    x = tf.random.normal((7, 2))
    in_pieces(function, x, 3)
    assert [int(n) for n in seen] == [3, 3, 1]
    seen.clear()
    tf.function(lambda x: in_pieces(function, x, 3))(x)
    assert len(seen) == 1  # Traced once.
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.function(lambda x: in_pieces(function, x, 4))(x)


def test_one_piece_after_the_other():
    graph = tf.function(
        lambda x: in_pieces(lambda x: x + 1, x, 2)
    ).get_concrete_function(tf.TensorSpec([None, 2]))
    loops = [o for o in graph.graph.get_operations() if "While" in o.type]
    assert [o.get_attr("parallel_iterations") for o in loops] == [1]


def test_results_that_are_no_rows_of_samples():
    x = tf.random.normal((4, 3, 2))
    for function in (
        lambda x: tf.transpose(x, [1, 0, 2]),
        lambda x: tf.reduce_mean(x),
        lambda x: tf.reshape(x, [-1, 2]),
    ):
        with pytest.raises(ValueError, match="one row per sample.*Leave"):
            in_pieces(function, x, 2)
