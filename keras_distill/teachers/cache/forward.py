"""The teacher's forward pass on a view, up to what is stored of it."""

import keras
import numpy as np
import tensorflow as tf

from keras_distill._keras.precision import check_remembers_nothing
from keras_distill._keras.precision import computing_in
from keras_distill._keras.precision import in_float32
from keras_distill.taps.taps import Shape
from keras_distill.taps.taps import Taps
from keras_distill.teachers.cache.arguments import check_top_k
from keras_distill.teachers.cache.encoding import encoded
from keras_distill.views import for_network


class Forward:
    """
    Args:
        teacher: A `keras.Model`.
        views: The `Views` that it looks through.
        names: Layers whose outputs are stored, a list.
        dtype: In which they are stored.
        top_k: Number of logits that are stored of the output; `None`: all.
        temperature: At which the mass of the others is right.
        teacher_dtype: In which the teacher computes; `None`: its own.
    """

    def __init__(
        self,
        teacher,
        views,
        names,
        dtype,
        top_k,
        temperature,
        teacher_dtype=None,
    ):
        check_remembers_nothing(teacher, teacher_dtype)
        self.teacher, self.views = teacher, views
        self.teacher_dtype = teacher_dtype
        self.taps = Taps(teacher, names, "teacher")
        self.dtype, self.top_k = dtype, top_k
        self.temperature = temperature
        # As in Keras's own training step; and half of the time to trace.
        self._stored = tf.function(self._encoded, autograph=False)
        self._shapes = None

    def outputs(self, inputs, sample_index, epoch):
        view = self.views.training(
            inputs, epoch=epoch, sample_index=sample_index
        )
        x = for_network(self.teacher, view.teacher, "teacher")
        with computing_in(self.teacher, self.teacher_dtype):
            output, taps = in_float32(self.taps(x, training=False))
        # Of several outputs none is the one that losses compare.
        alone = {} if keras.tree.is_nested(output) else {"output": output}
        if not alone and not taps:
            raise ValueError(
                f"The teacher '{self.teacher.name}' has several outputs. Name "
                "the layers to store with teacher_layer_names=."
            )
        return {**alone, "taps": taps}

    def shapes(self, inputs, sample_index):
        """Shapes of one sample's outputs, lists as in a header; computes
        nothing."""
        self._stored.get_concrete_function(inputs, sample_index, tf.constant(0))
        return self._shapes

    def _checked_shapes(self, outputs):
        shapes = keras.tree.map_structure(lambda t: Shape(t.shape[1:]), outputs)
        unknown = [s for s in keras.tree.flatten(shapes) if None in s]
        if unknown:
            raise ValueError(
                "The teacher's outputs must have one known shape for all "
                f"samples. Received: {shapes}."
            )
        shapes = keras.tree.map_structure(list, shapes)
        check_top_k(self.top_k, shapes, self.teacher)
        return shapes

    def stored(self, inputs, sample_index, epoch, start):
        """-> dict column name -> array of these samples."""
        arrays, before, after = self._stored(
            inputs, sample_index, tf.constant(epoch)
        )
        for name in arrays:
            if after[name]:
                continue
            rows = np.isfinite(arrays[name].numpy())
            rows = rows.reshape(len(rows), -1).all(axis=1)
            number = start + int(np.flatnonzero(~rows)[0])
            if before[name]:
                raise ValueError(
                    f"The teacher's '{name}' of sample {number} (epoch {epoch})"
                    " is too large for float16, whose largest number is 65504. "
                    'Pass dtype="float32".'
                )
            raise ValueError(
                f"The teacher's '{name}' of sample {number} (epoch {epoch}) is "
                "NaN or infinite: nothing can be distilled from that."
                + (
                    ' teacher_dtype="bfloat16" has the range of float32.'
                    if self.teacher_dtype == "float16"
                    else ""
                )
            )
        return {name: array.numpy() for name, array in arrays.items()}

    def _encoded(self, inputs, sample_index, epoch):
        outputs = self.outputs(inputs, sample_index, epoch)
        if self._shapes is None:
            self._shapes = self._checked_shapes(outputs)
        # As large as they are, and as they are stored.
        kept = self.top_k, self.temperature
        wide = encoded(outputs, "float32", *kept)
        arrays = encoded(outputs, self.dtype, *kept)
        return arrays, _finite(wide), _finite(arrays)


def _finite(arrays):
    return {
        name: tf.reduce_all(tf.math.is_finite(array))
        if array.dtype.is_floating
        else tf.constant(True)
        for name, array in arrays.items()
    }
