"""The learned tokens of vision transformers, and what joins their heads."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_distill")
class ClassToken(keras.layers.Layer):
    """Puts a learned token before the others, and adds learned positions.

        call(x) = [class token; x] + positions

    Input shapes:
        `(batch, tokens, width)`, with a fixed number of tokens. The output has
        one more.
    """

    def build(self, input_shape):
        _, tokens, width = input_shape
        self.token = _weight(self, "token", (1, 1, width))
        self.positions = _weight(self, "positions", (1, tokens + 1, width))

    def call(self, inputs):
        x = ops.concatenate([_repeated(self.token, inputs), inputs], axis=1)
        return x + self.positions


@keras.saving.register_keras_serializable(package="keras_distill")
class DistillationToken(keras.layers.Layer):
    """Puts a learned token behind the others.

    Its position is part of it.

    Input shapes:
        `(batch, tokens, width)`. The output has one token more.
    """

    def build(self, input_shape):
        self.token = _weight(self, "token", (1, 1, input_shape[-1]))

    def call(self, inputs):
        return ops.concatenate([inputs, _repeated(self.token, inputs)], axis=1)


@keras.saving.register_keras_serializable(package="keras_distill")
class FirstToken(keras.layers.Layer):
    """Takes the first token, a layer that losses can name.

    Input shapes:
        `(batch, tokens, width)`. The output is `(batch, width)`.
    """

    def call(self, inputs):
        return inputs[:, 0]


@keras.saving.register_keras_serializable(package="keras_distill")
class JoinedHeads(keras.layers.Layer):
    """The first of two heads in training, and their mean in inference.

    Input shapes:
        A list of two tensors of one shape, logits.
    """

    def call(self, heads, training=False):
        first, second = heads
        return first if training else (first + second) / 2

    def compute_output_shape(self, input_shapes):
        return input_shapes[0]


def _weight(layer, name, shape):
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    return layer.add_weight(name=name, shape=shape, initializer=initializer)


def _repeated(token, inputs):
    token = ops.cast(token, inputs.dtype)
    return ops.tile(token, (ops.shape(inputs)[0], 1, 1))
