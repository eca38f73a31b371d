"""Losses that draw random numbers."""

from typing import Any

import keras
from keras import ops

from keras_distill._arguments import checked_seed


class Seeded:
    """Gives a loss a random generator whose state is saved.

    `build` makes it, because the loss may have been constructed outside of the
    strategy's scope, and every replica needs its own, in step with the others
    (see `draw_per_sample`).

    Args:
        seed: An integer, or `None` for a random one.
        **kwargs: See `DistillationLoss`.
    """

    def __init__(self, *, seed: int | None = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed = checked_seed(seed, or_none=True)
        self.seed_generator = None

    def build(self, teacher_shape, student_shape):
        super().build(teacher_shape, student_shape)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    # Keras does not save generators. A loaded Distiller would repeat the first
    # draws.

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if self.seed_generator is not None:
            state = ops.convert_to_numpy(self.seed_generator.state)
            store["seed_state"] = state

    def load_own_variables(self, store):
        own = {key: store[key] for key in store.keys() if key != "seed_state"}
        super().load_own_variables(own)
        if self.seed_generator is not None:
            self.seed_generator.state.assign(store["seed_state"])

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}
