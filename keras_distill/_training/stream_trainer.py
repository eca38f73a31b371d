"""How `fit`, `evaluate` and `predict` treat states that go on."""

from typing import Any

import keras

from keras_distill._keras.recurrent_states import RecurrentStates
from keras_distill._keras.trainer import Trainer


class StreamTrainer(Trainer):
    """A model that trains networks whose recurrent states may go on.

    They are zero at the start of each epoch. Evaluation and prediction begin
    with zeros, and leave training's states as they were.
    """

    def _trained_networks(self):
        """The networks that run in training: a dict role -> network."""
        return {"model": self}

    def _recurrent_states(self):
        return RecurrentStates(self, *self._trained_networks().values())

    def fit(self, *args: Any, **options: Any) -> Any:
        # First: a callback that resumes an epoch restores states after it.
        begin, callbacks = BeginStreams(), options.pop("callbacks", None)
        if isinstance(callbacks, keras.callbacks.CallbackList):
            begin.set_model(self)
            callbacks.callbacks.insert(0, begin)
        else:
            given = keras.tree.flatten(callbacks)
            callbacks = [begin, *(c for c in given if c is not None)]
        return super().fit(*args, callbacks=callbacks, **options)

    def _check_streams(self, data, batch_size=None):
        """Raises for data of an evaluation that are not whole streams."""
        from keras_distill._data.streams import check_streams

        networks = dict(self._trained_networks())
        networks.pop("teacher", None)
        check_streams(
            networks,
            data,
            self.distribute_strategy.num_replicas_in_sync,
            batch_size,
        )

    def evaluate(self, *args: Any, **options: Any) -> Any:
        x = args[0] if args else options.get("x")
        self._check_streams(x, options.get("batch_size"))
        with self._recurrent_states().apart():
            return super().evaluate(*args, **options)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        with self._recurrent_states().apart():
            return super().predict(
                x, batch_size, verbose, steps=steps, callbacks=callbacks
            )

    def test_on_batch(self, *args: Any, **options: Any) -> Any:
        with self._recurrent_states().apart():
            return super().test_on_batch(*args, **options)


class BeginStreams(keras.callbacks.Callback):
    """Lets the streams begin again with every epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model._recurrent_states().zero()
