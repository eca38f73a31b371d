"""How a teacher runs: where, in which precision, how many samples at once."""

import contextlib

import keras

from keras_distill._keras import precision
from keras_distill.taps.taps import Taps


class TeacherPass:
    """A teacher's forward pass, in inference mode, with its taps.

    Args:
        teacher: A `keras.Model`.
        student: The `keras.Model` that it teaches.
        names: Of the teacher's taps, a list.
        dtype: The precision it runs in; `None`: its own.
        batch_size: How many samples it sees at once at most; `None`: all.
    """

    def __init__(self, teacher, student, names, dtype=None, batch_size=None):
        precision.check_remembers_nothing(teacher, dtype)
        self.teacher, self.student = teacher, student
        self.taps = Taps(teacher, names, "teacher")
        self.dtype, self.batch_size = dtype, batch_size

    def __call__(self, x, own_precision=False):
        """-> `(output, taken)`, see `Taps`; no longer in half precision where
        `dtype` says in which the teacher runs.

        Args:
            x: What the teacher takes.
            own_precision: Whether it runs in its own this time.
        """
        dtype = None if own_precision else self.dtype

        def run(x):
            with on(self.device()), precision.computing_in(self.teacher, dtype):
                seen = self.taps(x, training=False)
                return seen if dtype is None else precision.in_float32(seen)

        if self.batch_size is None:
            return run(x)
        from keras_distill._training.microbatches import in_pieces

        return in_pieces(run, x, self.batch_size)

    def device(self):
        """Where the teacher's weights are and the student's are not; `None`
        if they are together, or the teacher's on several devices."""
        there, here = device_of(self.teacher), device_of(self.student)
        return None if there == here or None in (there, here) else there


def device_of(model):
    """The one device on which a model's weights are, `None` if there are none,
    several, or a strategy places them.

    Integers do not count: TensorFlow may keep them on the CPU.
    """
    import tensorflow as tf

    if tf.distribute.has_strategy():
        return None
    devices = {
        variable.value.device
        for variable in model.weights
        if keras.backend.is_float_dtype(variable.dtype)
    }
    return devices.pop() if len(devices) == 1 else None


def on(device):
    """A context in which operations run on a device; `None`: on the default."""
    if device is None:
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.device(device)
