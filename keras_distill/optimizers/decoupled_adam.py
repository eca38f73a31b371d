"""Adam whose weight decay is its own, as in big_vision."""

from typing import Any

import keras

from keras_distill._arguments import checked_number


@keras.saving.register_keras_serializable(package="keras_distill")
class DecoupledAdam(keras.optimizers.AdamW):
    """Adam with a weight decay that the learning rate does not scale.

        w <- w - schedule * (learning_rate * adam + weight_decay * w)

    This is the step for kernels; everything else (biases, scales and offsets of
    normalizations) has no last term. `schedule` is the learning rate divided by
    its peak. `keras.optimizers.AdamW` multiplies its weight decay by the
    learning rate, so it gets `weight_decay / peak_learning_rate`.

    Args:
        learning_rate: A float or a schedule.
        peak_learning_rate: The largest rate of the schedule.
        weight_decay: Share of each kernel that one step takes away at the
            peak of the schedule; 0: none. Defaults to 0.0003, big_vision's.
        **kwargs: As in `keras.optimizers.Adam`.

    Raises:
        ValueError: If the peak is not positive or the decay is negative.

    Example:

    ```python
    optimizer = kd.optimizers.DecoupledAdam(0.03, peak_learning_rate=0.03)
    ```

    Reference:
        - Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019,
          algorithm 2.
        - google-research/big_vision, `optax.py`: decay after the learning
          rate, before the schedule, of parameters called "kernel".
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
        peak_learning_rate: float,
        weight_decay: float = 3e-4,
        **kwargs: Any,
    ):
        peak = checked_number("peak_learning_rate", peak_learning_rate)
        share = checked_number("weight_decay", weight_decay, "[0, inf)")
        if not callable(learning_rate):  # A schedule is.
            learning_rate = checked_number(
                "learning_rate", learning_rate, "[0, inf)"
            )
        super().__init__(learning_rate, weight_decay=share / peak, **kwargs)
        self._peak, self._share = peak, share
        # All that is not called "kernel" (":0" ends the names of tf.Variable).
        self.exclude_from_weight_decay(var_names=[r"^(?!.*kernel(:\d+)?$)"])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "peak_learning_rate": self._peak,
            "weight_decay": self._share,
        }
