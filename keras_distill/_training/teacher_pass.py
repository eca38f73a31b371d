"""How a teacher runs: its device, precision and number of samples at once."""

import keras

from keras_distill._data.sparse import is_sparse
from keras_distill._keras import precision
from keras_distill._keras.masks import masks_by_place
from keras_distill._keras.masks import with_masks
from keras_distill._keras.recurrent_states import is_stateful
from keras_distill.taps.taps import Taps
from keras_distill.teachers.devices import device_of
from keras_distill.teachers.devices import devices_of
from keras_distill.teachers.devices import on


class TeacherPass:
    """A teacher's forward pass, in inference mode, with its taps.

    Args:
        teacher: A `keras.Model`.
        student: The `keras.Model` that it teaches.
        names: A list of the teacher's taps.
        dtype: The precision in which it runs; `None` is its own.
        batch_size: The largest number of samples that it sees at once; `None`
            is the whole batch.
    """

    def __init__(self, teacher, student, names, dtype=None, batch_size=None):
        precision.check_remembers_nothing(teacher, dtype)
        if batch_size is not None and is_stateful(teacher):
            raise ValueError(
                "teacher_batch_size cuts batches into pieces, and the teacher "
                f"'{teacher.name}' has stateful=True layers, made for one "
                "batch size. Leave teacher_batch_size out."
            )
        self.teacher, self.student = teacher, student
        self.taps = Taps(teacher, names, "teacher")
        self.dtype, self.batch_size = dtype, batch_size

    def __call__(self, x, own_precision=False):
        """Runs the teacher.

        Args:
            x: The teacher's input.
            own_precision: Whether to ignore `dtype` this time.

        Returns:
            `(output, taken)`, see `Taps`. If `dtype` was used, tensors in half
            precision are cast to float32.
        """
        return self._run(x, own_precision)

    def _outputs(self, x):
        return self.taps(x, training=False)

    def _run(self, x, own_precision, *context):
        dtype = None if own_precision else self.dtype

        def run(x):
            with on(self.device()), precision.computing_in(self.teacher, dtype):
                outputs = self._outputs(x, *context)
                masks = masks_by_place(outputs)
                if dtype is None:
                    return outputs, masks
                return precision.in_float32(outputs), masks

        if self.batch_size is None:
            return with_masks(*run(x))
        if any(map(is_sparse, keras.tree.flatten(x))):
            raise ValueError(
                "teacher_batch_size cuts batches into pieces, and sparse "
                "inputs cannot be cut. Leave teacher_batch_size out."
            )
        from keras_distill._training.microbatches import in_pieces

        return with_masks(*in_pieces(run, x, self.batch_size))

    def device(self):
        """The device of the teacher's weights. `None` if the student's are
        there too, or if one of the networks is on several devices."""
        there, here = device_of(self.teacher), device_of(self.student)
        return None if there == here or None in (there, here) else there

    def is_spread(self):
        """Whether the teacher's weights are on several devices."""
        return len(devices_of(self.teacher)) > 1

    def shapes(self):
        """Returns the shapes of output and taps, see `Taps.shapes`."""
        return self.taps.shapes()
