"""The probabilities of a classifier, whatever its head."""

import keras
import numpy as np

from keras_distill._keras.heads import final_activation
from keras_distill._keras.layers import batch_normalizations
from keras_distill._keras.layers import call_model
from keras_distill.cost import cost_of_one_sample
from keras_distill.losses.values import check_finite
from keras_distill.losses.values import look_like_probabilities


class Classifier:
    """A network with one output of scores over classes, or of one unit.

    Args:
        model: A built `keras.Model`.
        see: A function from the `x` of a batch to the inputs of the model.
        x: A batch.
        role: `"teacher"` or `"student"`, for messages.
        asked_by: The name of the function that asks, for messages.

    Attributes:
        head: `"logits"`, `"softmax"` or `"sigmoid"`.
        classes: The number of classes; 2 for one unit.

    Raises:
        ValueError: If the model is not such a classifier, or the teacher's
            output is not finite.
    """

    def __init__(self, model, see, x, role, asked_by="diagnose"):
        import tensorflow as tf

        self.model = model
        self.see = see
        self._run = tf.function(
            lambda x: call_model(model, see(x)), reduce_retracing=True
        )
        output = self._output(x)
        name = f"The {role} '{model.name}'"
        if keras.tree.is_nested(output) or output.ndim != 2:
            shapes = keras.tree.map_structure(np.shape, output)
            raise ValueError(
                f"{asked_by} is for classifiers with one output of shape "
                f"(batch, classes). {name} gives {shapes}."
            )
        if role == "teacher":
            check_finite(output)
        one = output.shape[-1] == 1
        self.head = final_activation(model) or "logits"
        squashing = "sigmoid" if one else "softmax"
        # One unit that shows its activation is believed.
        hidden = not getattr(model, "outputs", None)
        if self.head == "logits" and (hidden or not one):
            if look_like_probabilities(output, squashing):
                self.head = squashing
        if self.head == "sigmoid" and not one:
            raise ValueError(
                f"{name} ends in a sigmoid of {output.shape[-1]} units: a "
                f"multi-label head. {asked_by} is for one class per sample."
            )
        self.units = output.shape[-1]
        self.classes = 2 if one else self.units

    def probabilities(self, x):
        """Returns the probabilities `(batch, classes)`, float64."""
        output = self._output(x).astype("float64")
        if self.head == "logits" and output.shape[-1] > 1:
            output = np.exp(output - output.max(-1, keepdims=True))
            return output / output.sum(-1, keepdims=True)
        if output.shape[-1] == 1:
            if self.head == "logits":
                output = 0.5 * (1 + np.tanh(0.5 * output))
            return np.concatenate([1 - output, output], -1)
        return output

    def task_loss(self, y):
        """Returns the cross-entropy that fits head and labels."""
        losses = keras.losses
        logits = self.head == "logits"
        if self.units == 1:
            return losses.BinaryCrossentropy(from_logits=logits)
        if y.ndim == 2 and y.shape[-1] == self.classes:
            return losses.CategoricalCrossentropy(from_logits=logits)
        return losses.SparseCategoricalCrossentropy(from_logits=logits)

    def facts(self, x):
        """Returns a dict with size, cost and head."""
        normalizations = batch_normalizations(self.model)
        return {
            "name": self.model.name,
            "parameters": int(self.model.count_params()),
            "multiply_accumulates": cost_of_one_sample(self.model, self.see(x)),
            "head": self.head,
            "classes": int(self.classes),
            "local_batch_normalizations": sum(
                not layer.synchronized for layer in normalizations
            ),
        }

    def _output(self, x):
        return keras.tree.map_structure(
            keras.ops.convert_to_numpy, self._run(x)
        )
