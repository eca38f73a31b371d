"""An embedding whose matrix also gives the logits."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_distill")
class TiedEmbedding(keras.layers.Embedding):
    """An embedding that also turns features into logits, with one matrix.

        embedding(ids)                  = E[ids]
        embedding(x, reverse=True)      = x E^T + b

    Args:
        input_dim, output_dim, ...: As in `keras.layers.Embedding`.

    Input shapes:
        `(batch, ...)` integers, or with `reverse=True` `(batch, ...,
        output_dim)`.

    Reference:
        Press and Wolf, "Using the Output Embedding to Improve Language
        Models", EACL 2017.
    """

    def build(self, input_shape=None):
        if self.built:
            return
        super().build(input_shape)
        self.bias = self.add_weight(
            shape=(self.input_dim,), initializer="zeros", name="bias"
        )

    def call(self, inputs, reverse=False):
        if not reverse:
            return super().call(inputs)
        # `Embedding` does not cast by itself.
        inputs = ops.cast(inputs, self.compute_dtype)
        kernel = ops.transpose(ops.cast(self.embeddings, inputs.dtype))
        return ops.matmul(inputs, kernel) + ops.cast(self.bias, inputs.dtype)

    def compute_output_spec(self, inputs, reverse=False):
        size = self.input_dim if reverse else self.output_dim
        kept = inputs.shape[:-1] if reverse else inputs.shape
        return keras.KerasTensor((*kept, size), dtype=self.compute_dtype)

    # Those of `Embedding` know no bias.
    save_own_variables = keras.layers.Layer.save_own_variables
    load_own_variables = keras.layers.Layer.load_own_variables
