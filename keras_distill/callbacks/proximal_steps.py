from typing import Any

import keras


class ProximalSteps(keras.callbacks.Callback):
    """Lets the structure of `kd.multitask.Heads` act in `keras.Model.fit`.

    After each batch in which the optimizer moved the weights, it calls
    `proximal_step(learning_rate)` of every trained layer that has it, with the
    rate of that step. Steps that only accumulate gradients, or skip one that
    overflowed, have none.

    `kd.Distiller` and the other distillers do so by themselves, inside of the
    step; there the callback does nothing.

    Raises:
        ValueError: When `fit` starts, if the model is not built, if no
            trained layer has a `proximal_step`, if `steps_per_execution` is
            not 1 (the steps between are out of reach), or on Keras's JAX
            backend, whose `fit` does not see what a callback changes.

    Example:

    ```python
    features = keras.Input((16,))
    heads = kd.multitask.Heads(
        {"shape": 4, "texture": 3},
        structure=kd.multitask.FeatureTransformation(strength=0.01),
    )
    model = keras.Model(features, heads(features))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(
        np.zeros((8, 16)),
        {"shape": np.zeros((8, 4)), "texture": np.zeros((8, 3))},
        callbacks=[kd.callbacks.ProximalSteps()],
        verbose=0,
    )
    ```
    """

    def on_train_begin(self, logs: Any = None) -> None:
        from keras_distill._training.proximal import proximal_layers
        from keras_distill.distillers.base import BaseDistiller

        self._layers: list = []
        if isinstance(self.model, BaseDistiller):
            return
        if keras.backend.backend() == "jax":
            raise ValueError(
                "ProximalSteps does not work on the JAX backend: its `fit` "
                "keeps the weights where no callback reaches them. Use the "
                "TensorFlow backend, or a loop of your own."
            )
        steps = self.model.steps_per_execution
        if steps != 1:
            raise ValueError(
                "ProximalSteps follows each step of the optimizer, and "
                f"steps_per_execution={steps} hides all but the last. Compile "
                "with steps_per_execution=1, or train with kd.Distiller."
            )
        if not self.model.built:
            raise ValueError(
                f"'{self.model.name}' is not built: it has no weights yet, and "
                "ProximalSteps must see them before the first step. Call the "
                "model on a batch first."
            )
        self._layers = proximal_layers(self.model)
        if not self._layers:
            raise ValueError(
                f"No trained layer of '{self.model.name}' has a "
                "proximal_step(learning_rate), as kd.multitask.Heads has. "
                "Leave ProximalSteps out."
            )
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        from keras_distill._training.proximal import OptimizerState

        self._states = [
            OptimizerState(self.model.optimizer, layer)
            for layer in self._layers
        ]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        for layer, state in zip(self._layers, self._states):
            if state.moved():
                layer.proximal_step(state.learning_rate)
