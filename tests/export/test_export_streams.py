"""Files of networks whose state goes on from batch to batch: without it."""

import keras
import numpy as np
import pytest

import keras_distill as kd
from keras_distill._keras.stateless import without_states

layers = keras.layers
STREAMS, STEPS, WORDS = 4, 3, 6
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, WORDS, (2, 3 * STREAMS, STEPS))


def network(stateful=True):
    size = STREAMS if stateful else None
    inner = keras.Sequential(name="inner")
    for layer in (layers.LSTM, layers.GRU):
        inner.add(layer(5, return_sequences=True, stateful=stateful))
    inputs = keras.Input(batch_shape=(size, STEPS), dtype="int32", name="ids")
    x = inner(layers.Embedding(WORDS, 4)(inputs))
    return keras.Model(inputs, layers.Dense(WORDS)(x), name="reader")


def perplexity(model):
    metric = kd.metrics.Perplexity()
    metric.update_state(Y, model(X))
    return float(metric.result())


@pytest.mark.slow
def test_a_file_begins_with_zeros_and_is_compared_with_the_same(tmp_path):
    student = network()
    student.set_weights([3 * weight for weight in student.get_weights()])
    student(X[:STREAMS])
    states = student.get_layer("inner").layers[0].states
    before = [state.numpy() for state in states]
    file = kd.export.tflite(student, tmp_path / "reader.tflite")
    verification = kd.export.verify(
        file, student, (X, Y), metric=kd.metrics.Perplexity(), verbose=False
    )
    for state, value in zip(states, before):
        np.testing.assert_array_equal(state.numpy(), value)
    again = network(stateful=False)
    again.set_weights(student.get_weights())
    for row in verification.rows:
        assert row["agreement"] == 1.0
        np.testing.assert_allclose(row["metric"], perplexity(again), rtol=1e-4)


def test_a_copy_has_no_states_and_any_batch_size():
    student = network()
    copy = without_states(student)
    assert copy.inputs[0].shape == (None, STEPS)
    assert copy.name == student.name and copy is not student
    assert copy(X).shape == (len(X), STEPS, WORDS)
    np.testing.assert_allclose(copy(X[:STREAMS]), student(X[:STREAMS]))
    plain = network(stateful=False)
    assert without_states(plain) is plain


def test_a_network_that_cannot_be_copied():
    class Reader(keras.Model):
        def __init__(self, rnn):
            super().__init__()
            self.rnn = rnn

        def call(self, x):
            return self.rnn(x)

        def get_config(self):
            raise NotImplementedError

    model = Reader(layers.GRU(2, stateful=True))
    model(np.zeros((2, 3, 1)))
    with pytest.raises(ValueError, match="stateful=False.*set_weights"):
        without_states(model)
