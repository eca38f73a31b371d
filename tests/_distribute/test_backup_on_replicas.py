"""Stopped and gone on, on replicas: the bits of a run that was not stopped."""

import keras
import numpy as np
import plain_graphs  # noqa: F401
import pytest
import tensorflow as tf
from networks import convnet
from networks import crossentropy
from networks import data

import keras_distill as kd


class Stopped(Exception):
    pass


class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations.numpy() == 6:
            raise Stopped


def train(strategy, directory, callbacks):
    """Batch statistics of each replica, uneven batches, metrics, views."""
    keras.utils.set_random_seed(0)
    x, y = data(30)
    with strategy.scope():
        distiller = kd.Distiller(
            student=convnet(batch_norm=True),
            teacher=convnet(8),
            distillation_losses=kd.losses.Hint(
                teacher_layer_name="act1", student_layer_name="act1"
            ),
        )
        distiller.compile(
            keras.optimizers.Adam(0.01), crossentropy(), metrics=["accuracy"]
        )
    samples = tf.data.Dataset.from_tensor_slices((x, y))
    history = distiller.fit(
        samples.shuffle(20, seed=0).batch(8),
        epochs=3,
        verbose=0,
        callbacks=[
            kd.callbacks.BackupAndResume(directory, save_freq=1),
            *callbacks,
        ],
    )
    parts = [
        part.numpy().tolist()
        for v in [*distiller.variables, *distiller.optimizer.variables]
        for part in strategy.experimental_local_results(v.value)
    ]
    return history.history, parts


def whole_and_stopped(strategy, folder):
    whole = train(strategy, folder + "/a", [])
    try:
        train(strategy, folder + "/b", [Stop()])
    except Stopped:
        return whole, train(strategy, folder + "/b", [])


@pytest.mark.slow
def test_every_replica_goes_on_with_its_own_values(on_replicas, tmp_path):
    whole, stopped = on_replicas(2, whole_and_stopped, str(tmp_path))
    assert len(whole[0]["loss"]) == 3
    assert whole == stopped
    # The statistics of replicas do differ: else nothing is proven.
    history, parts = whole
    assert any(
        not np.array_equal(one, other)
        for one, other in zip(parts[::2], parts[1::2])
    )
