"""Logits of what a teacher gives."""

import keras

# The smallest probability whose logarithm is taken.
_LEAST = 1e-7


@keras.saving.register_keras_serializable(package="keras_distill")
class Logits(keras.layers.Layer):
    """Makes the logits of classes of what a teacher gives.

    Args:
        gives: `"probabilities"` or `"logits"`.
        units: The units of the teacher's output; 1 stands for two classes.
        class_map: The teacher's number of each class; `None`: the same.
    """

    def __init__(self, gives, units, class_map=None, **kwargs):
        super().__init__(**kwargs)
        self.gives, self.units, self.class_map = gives, units, class_map

    @property
    def changes_nothing(self):
        return (
            self.gives == "logits" and self.units > 1 and self.class_map is None
        )

    def call(self, outputs):
        ops = keras.ops
        probabilities = self.gives == "probabilities"
        if self.units == 1:
            other = 1 - outputs if probabilities else 0 * outputs
            outputs = ops.concatenate([other, outputs], axis=-1)
        if self.class_map is not None:
            outputs = ops.take(outputs, self.class_map, axis=-1)
        return (
            ops.log(ops.maximum(outputs, _LEAST)) if probabilities else outputs
        )

    def get_config(self):
        return {
            **super().get_config(),
            "gives": self.gives,
            "units": self.units,
            "class_map": self.class_map,
        }
