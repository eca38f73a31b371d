"""Several networks as one."""

import keras
from keras import ops

from keras_distill.losses.heads import final_activation


@keras.saving.register_keras_serializable(package="keras_distill")
class Ensemble(keras.Model):
    """The mean of several classifiers' probabilities, as one Keras model.

        f(x) = log( sum_i w_i softmax(f_i(x)) ),   sum_i w_i = 1

    The logarithm makes the output logits again (their softmax is the mean), so
    that an ensemble teaches, evaluates and exports like any network.

    Args:
        models: Built `keras.Model`s with the same inputs and classes, whose
            heads give logits or softmax probabilities.
        weights: One number per model, >= 0. Defaults to equal weights.
        name: Name of the model.

    Input shapes:
        What its members take.

    Returns:
        `(batch, ..., classes)` log-probabilities.

    Raises:
        ValueError: for no models, models of different classes, or weights
            that do not fit.

    Example:

    ```python
    teacher = kd.Ensemble([first, second, third])
    ```

    Reference: Furlanello et al. 2018, "Born-Again Neural Networks", section
    3.4 (ensembles of generations, mean of the predictions).
    """

    def __init__(self, models, weights=None, name="ensemble"):
        super().__init__(name=name)
        models = list(models)
        for model in models:
            if not isinstance(model, keras.Model) or not model.built:
                raise ValueError(
                    f"Ensemble takes built keras.Models. Received: {model!r}"
                )
        if not models:
            raise ValueError("Ensemble needs at least one model.")
        shapes = {
            model.name: getattr(model, "output_shape", None)
            if getattr(model, "inputs", None)
            else None
            for model in models
        }
        classes = {shape[-1] for shape in shapes.values() if shape}
        if len(classes) > 1:
            raise ValueError(
                "The members of an ensemble must have the same classes. "
                f"Output shapes: {shapes}"
            )
        weights = [1.0] * len(models) if weights is None else list(weights)
        if len(weights) != len(models) or min(weights) < 0 or not sum(weights):
            raise ValueError(
                f"weights needs {len(models)} numbers >= 0, not all 0. "
                f"Received: {weights}"
            )
        self.models = models
        self.member_weights = [w / sum(weights) for w in weights]
        self.built = True

    def call(self, inputs, training=None):
        total = 0.0
        for model, weight in zip(self.models, self.member_weights):
            output = ops.cast(model(inputs, training=training), "float32")
            if final_activation(model) != "softmax":
                output = ops.softmax(output, axis=-1)
            total = total + weight * output
        # The smallest normal float32: log stays finite where all say 0.
        return ops.log(ops.maximum(total, 1.2e-38))

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "models": [serialize(model) for model in self.models],
            "weights": self.member_weights,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        deserialize = keras.saving.deserialize_keras_object
        config["models"] = [deserialize(model) for model in config["models"]]
        return cls(**config)
