"""Losses that draw random numbers."""

from typing import Any

import keras
from keras import ops


class Seeded:
    """Gives a loss a generator of random numbers that goes on after loading.

    It is made in `build`: the loss may have been constructed outside of the
    strategy's scope, and every replica needs a generator of its own, in step
    with the others (see `draw_per_sample`).

    Args:
        seed: An integer, or `None` for another one each time.
        **kwargs: See `DistillationLoss`.
    """

    def __init__(self, *, seed: int | None = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = None

    def build(self, teacher_shape, student_shape):
        super().build(teacher_shape, student_shape)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    # Keras saves no generators; a loaded Distiller would see the first draws
    # once more.

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
