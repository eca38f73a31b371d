"""Each replica has its own streams, and they are those of one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd

layers = keras.layers
STREAMS, STEPS, WORDS = 4, 3, 6
TEXTS = np.random.default_rng(0).integers(0, WORDS, (2, STREAMS, 13), "int32")


def network(units, streams):
    inputs = keras.Input(batch_shape=(streams, STEPS), dtype="int32")
    x = layers.Embedding(WORDS, 4)(inputs)
    x = layers.LSTM(units, return_sequences=True, stateful=True)(x)
    model = keras.Model(inputs, layers.Dense(WORDS)(x))
    model.set_weights([3 * weight for weight in model.get_weights()])
    return model


def streams(text):
    starts = range(0, 12, STEPS)
    x = np.stack([TEXTS[text][:, i : i + STEPS] for i in starts])
    y = np.stack([TEXTS[text][:, i + 1 : i + 1 + STEPS] for i in starts])
    return tf.data.Dataset.from_tensor_slices((x, y))


class Kill(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise KeyboardInterrupt


def train(strategy, folder=None, streams_per_replica=None):
    replicas = strategy.num_replicas_in_sync
    size = streams_per_replica or STREAMS // replicas

    def fit(*callbacks):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            teacher, student = network(5, size), network(3, size)
            distiller = kd.Distiller(
                student=student,
                teacher=teacher,
                distillation_losses=kd.losses.SoftTargets(),
            )
            distiller.compile(
                keras.optimizers.SGD(0.1),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                # Words left out: replicas count unlike numbers.
                metrics=[kd.metrics.Perplexity(ignore_class=0)],
            )
        history = distiller.fit(
            streams(0),
            validation_data=streams(1),
            epochs=2,
            verbose=0,
            callbacks=list(callbacks),
        ).history
        return {**history, "weights": student.get_weights()[0].tolist()}

    if folder is None:
        return fit()

    def backup():
        return kd.callbacks.BackupAndResume(folder, save_freq=1)

    try:
        fit(backup(), Kill())
    except KeyboardInterrupt:
        pass
    return fit(backup())


@pytest.mark.slow
def test_each_replica_has_its_own_streams(on_replicas, tmp_path):
    one, two = (on_replicas(n, train) for n in (1, 2))
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=1e-4, atol=1e-6)
    resumed = on_replicas(2, train, tmp_path / "backup")
    assert resumed == two
    with pytest.raises(AssertionError, match="4 streams on each of 2 replicas"):
        on_replicas(2, train, None, STREAMS)
