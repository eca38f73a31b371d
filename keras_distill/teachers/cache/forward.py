"""The teacher's forward pass on a view, up to what is stored of it."""

import keras
import numpy as np
import tensorflow as tf

from keras_distill._arguments import checked_integer
from keras_distill._data.for_network import check_fits
from keras_distill._data.for_network import for_network
from keras_distill._keras.heads import final_activation
from keras_distill._keras.heads import layer_activation
from keras_distill._keras.precision import check_remembers_nothing
from keras_distill._keras.precision import computing_in
from keras_distill._keras.precision import in_float32
from keras_distill._keras.recurrent_states import RecurrentStates
from keras_distill.taps.taps import Shape
from keras_distill.taps.taps import Taps
from keras_distill.teachers.cache.encoding import columns_of
from keras_distill.teachers.cache.encoding import encoded
from keras_distill.teachers.ensemble import gives_probabilities


class Forward:
    """What a teacher says of a batch, as it is stored.

    Args:
        teacher: A `keras.Model`.
        views: The `Views` that it looks through.
        outputs: The `StoredOutputs`.
        dtype: The precision that the teacher computes in; `None`: its own.
    """

    def __init__(self, teacher, views, outputs, dtype=None):
        check_remembers_nothing(teacher, dtype)
        self.teacher, self.views = teacher, views
        self.outputs, self.dtype = outputs, dtype
        self.taps = Taps(teacher, outputs.taps, "teacher")
        with RecurrentStates(teacher).kept():
            self._gives_probabilities = bool(
                final_activation(teacher) or gives_probabilities(teacher)
            )
        # As in Keras's own training step; it halves the time to trace.
        self._encode = tf.function(self._encoded, autograph=False)
        self._shapes = None

    def shapes(self, inputs, sample_index):
        """Returns the shapes of one sample's outputs, as a header has them.

        Nothing is computed.
        """
        self._encode.get_concrete_function(inputs, sample_index, tf.constant(0))
        return self._shapes

    def stored(self, inputs, sample_index, epoch, start):
        """Returns a dict column name -> array of a batch.

        Args:
            inputs: The samples.
            sample_index: `(batch,)`, their position in the data set.
            epoch: The epoch whose views the teacher sees.
            start: The position of the first sample, for messages.

        Raises:
            ValueError: If an output is not finite, or becomes infinite when
                it is stored.
        """
        arrays, before, after = self._encode(
            inputs, sample_index, tf.constant(epoch)
        )
        for name in arrays:
            if after[name]:
                continue
            finite = np.isfinite(arrays[name].numpy())
            finite = finite.reshape(len(finite), -1).all(axis=1)
            number = start + int(np.flatnonzero(~finite)[0])
            output = (
                f"The teacher's '{name}' of sample {number} (epoch {epoch})"
            )
            if before[name]:
                raise ValueError(
                    f"{output} is too large for float16, whose largest number "
                    "is 65504. Pass outputs=kd.teachers.StoredOutputs(dtype="
                    '"float32").'
                )
            hint = (
                ' TeacherRun(dtype="bfloat16") has the range of float32.'
                if self.dtype == "float16"
                else ""
            )
            raise ValueError(
                f"{output} is NaN or infinite: nothing can be distilled from "
                f"that.{hint}"
            )
        return {name: array.numpy() for name, array in arrays.items()}

    def _encoded(self, inputs, sample_index, epoch):
        outputs = self._outputs(inputs, sample_index, epoch)
        if self._shapes is None:
            self._shapes = self._checked_shapes(outputs)
        # As large as they are, and as they are stored.
        top_k = self.outputs.top_k
        wide, arrays = (
            encoded(
                outputs,
                columns_of(self._shapes, dtype, top_k),
                top_k,
                self.outputs.temperature,
            )
            for dtype in ("float32", self.outputs.dtype)
        )
        return arrays, _finite(wide), _finite(arrays)

    def _outputs(self, inputs, sample_index, epoch):
        view = self.views.training(
            inputs, epoch=epoch, sample_index=sample_index
        )
        x = for_network(self.teacher, view.teacher, "teacher")
        check_fits(self.teacher, x, "teacher", self.views)
        with computing_in(self.teacher, self.dtype):
            output, taps = in_float32(self.taps(x, training=False))
        # Losses compare one output: several are not stored.
        outputs = {} if keras.tree.is_nested(output) else {"output": output}
        if not outputs and not taps:
            raise ValueError(
                f"The teacher '{self.teacher.name}' has several outputs. Name "
                "the layers to store: outputs=kd.teachers.StoredOutputs("
                "layer_names=[...])."
            )
        return {**outputs, "taps": taps}

    def _checked_shapes(self, outputs):
        shapes = keras.tree.map_structure(lambda t: Shape(t.shape[1:]), outputs)
        if any(None in shape for shape in keras.tree.flatten(shapes)):
            raise ValueError(
                "The teacher's outputs must have one known shape for all "
                f"samples. Received: {shapes}."
            )
        shapes = keras.tree.map_structure(list, shapes)
        _check_top_k(self.outputs.top_k, shapes, self.teacher)
        wide = self._probabilities(shapes)
        if wide and self.outputs.dtype == "float16":
            shapes["in_float32"] = wide
        return shapes

    def _probabilities(self, shapes):
        """Returns the columns of probabilities: float16 has no number between
        0 and 6e-8, and a loss with a temperature reads their logarithms."""
        names = [
            f"taps/{name}"
            for name, place in self.taps.layers.items()
            if layer_activation(*place) and not self.taps.gives_attention(name)
        ]
        if "output" in shapes and self._gives_probabilities:
            names.append("output")
        return names


def _check_top_k(top_k, shapes, teacher):
    if top_k is None:
        return
    output = shapes.get("output")
    if not output:
        raise ValueError(
            "top_k keeps the largest logits of an output of shape (batch, ..., "
            f"classes). Received: top_k={top_k}, and a teacher whose outputs "
            f"are {shapes}. Leave top_k out."
        )
    checked_integer(
        "top_k",
        top_k,
        most=output[-1] - 1,
        hint="less than the teacher's classes; leave it out to keep all",
    )
    head = final_activation(teacher)
    if head is not None:
        raise ValueError(
            "top_k spreads the rest of a softmax over logits, but the teacher "
            f"'{teacher.name}' ends in a {head}. Give its last layer "
            "activation=None, cache kd.Ensemble([teacher]), which gives "
            "logits, or leave top_k out."
        )


def _finite(arrays):
    return {
        name: tf.reduce_all(tf.math.is_finite(array))
        if array.dtype.is_floating
        else tf.constant(True)
        for name, array in arrays.items()
    }
