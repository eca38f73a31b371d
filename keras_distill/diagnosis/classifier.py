"""The probabilities of a classifier, whatever its head."""

import keras
import numpy as np

from keras_distill._keras.heads import final_activation
from keras_distill._keras.layers import batch_normalizations
from keras_distill._keras.layers import call_model
from keras_distill._keras.masks import mask_of
from keras_distill.cost import cost_of_one_sample
from keras_distill.cost import number_of_parameters
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
        positions: Whether the output may be one of scores at each position
            of a sample, such as a token or pixel.
        output: The key of the output that counts, if these are a dict.

    Attributes:
        head: `"logits"`, `"softmax"` or `"sigmoid"`.
        classes: The number of classes; 2 for one unit.
        output_shape: The shape of the output on the batch.

    Raises:
        ValueError: If the model is not such a classifier, or the teacher's
            output is not finite.
    """

    def __init__(
        self,
        model,
        see,
        x,
        role,
        asked_by="diagnose",
        positions=False,
        output=None,
    ):
        import tensorflow as tf

        self.model = model
        self.see = see

        def run(x):
            outputs = call_model(model, see(x))
            chosen = outputs if output is None else outputs[output]
            return chosen, keras.tree.map_structure(mask_of, chosen)

        self._run = tf.function(run, reduce_retracing=True)
        scores, _ = self._output_and_mask(x)
        name = f"The {role} '{model.name}'"
        nested = keras.tree.is_nested(scores)
        if nested or scores.ndim < 2 or (scores.ndim > 2 and not positions):
            shapes = keras.tree.map_structure(np.shape, scores)
            expected = (
                "(batch, ..., classes)" if positions else "(batch, classes)"
            )
            raise ValueError(
                f"{asked_by} is for classifiers with one output of shape "
                f"{expected}. {name} gives {shapes}."
            )
        if role == "teacher":
            check_finite(scores)
        one = scores.shape[-1] == 1
        self.head = final_activation(model, output) or "logits"
        squashing = "sigmoid" if one else "softmax"
        # One unit that shows its activation is believed.
        hidden = not getattr(model, "outputs", None)
        if self.head == "logits" and (hidden or not one):
            if look_like_probabilities(scores, squashing):
                self.head = squashing
        if self.head == "sigmoid" and not one:
            raise ValueError(
                f"{name} ends in a sigmoid of {scores.shape[-1]} units: a "
                f"multi-label head. {asked_by} is for one class per sample."
            )
        self.output_shape = scores.shape
        self.units = scores.shape[-1]
        self.classes = 2 if one else self.units

    def probabilities(self, x):
        """Returns the probabilities `(batch, ..., classes)`."""
        return self.probabilities_and_mask(x)[0]

    def probabilities_and_mask(self, x):
        """Returns the probabilities, and the output's mask or `None`.

        Those of positions are float32: they are many.
        """
        output, mask = self._output_and_mask(x)
        output = output.astype("float64" if output.ndim == 2 else "float32")
        if output.shape[-1] == 1:
            if self.head == "logits":
                output = 0.5 * (1 + np.tanh(0.5 * output))
            output = np.concatenate([1 - output, output], -1)
        elif self.head == "logits":
            output = np.exp(output - output.max(-1, keepdims=True))
            output = output / output.sum(-1, keepdims=True)
        return output, mask

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
            "parameters": number_of_parameters(self.model),
            "multiply_accumulates": cost_of_one_sample(self.model, self.see(x)),
            "head": self.head,
            "classes": int(self.classes),
            "local_batch_normalizations": sum(
                not layer.synchronized for layer in normalizations
            ),
        }

    def _output_and_mask(self, x):
        return keras.tree.map_structure(
            lambda a: None if a is None else keras.ops.convert_to_numpy(a),
            self._run(x),
        )
