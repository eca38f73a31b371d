"""What travels with a batch besides inputs, labels and weights.

Keras takes a batch apart into `(x, y, sample_weight)` and lets nothing else
through. Whatever else belongs to the samples is therefore packed into x, as a
dict with the keys below. This is the only file that knows them.
"""

from typing import Any
from typing import NamedTuple

import keras

INPUTS = "keras_distill/inputs"
SAMPLE_INDEX = "keras_distill/sample_index"
EPOCH = "keras_distill/epoch"
TEACHER_OUTPUTS = "keras_distill/teacher_outputs"
# Within these: the outputs of some of several teachers, by name.
OF_TEACHERS = "teachers"


class Sample(NamedTuple):
    """The x of a batch, taken apart. What the data does not carry is `None`.

    Attributes:
        inputs: What the networks take.
        sample_index: `(batch,)` int32, each sample's position in the data
            set.
        epoch: `(batch,)` int32, the epoch that each sample is seen in.
        teacher_outputs: The outputs that a teacher gave before: a dict of
            `"output"` (missing for a teacher with several), `"taps"` (layer
            name -> tensor) and `"origin"` (`teachers/cache/origin.py`). Of
            some of several teachers: a dict of `"teachers"`, a dict name ->
            such a dict.
    """

    inputs: Any
    sample_index: Any = None
    epoch: Any = None
    teacher_outputs: Any = None


def is_packed(x):
    """Whether this x carries more than the inputs."""
    return isinstance(x, dict) and INPUTS in x


def unpacked(x):
    """Returns the `Sample` of an x. An x that is not packed is all inputs."""
    if not is_packed(x):
        return Sample(x)
    return Sample(
        x[INPUTS], x.get(SAMPLE_INDEX), x.get(EPOCH), x.get(TEACHER_OUTPUTS)
    )


def unpacked_batch(batch):
    """Returns `(Sample, y, sample_weight)` of a batch."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    return unpacked(x), y, sample_weight


def plain_batch(batch):
    """Returns `(inputs, y, sample_weight)` of a batch."""
    sample, y, sample_weight = unpacked_batch(batch)
    return sample.inputs, y, sample_weight


def packed(inputs, sample_index):
    """Returns an x that carries the index of its samples."""
    return {INPUTS: inputs, SAMPLE_INDEX: sample_index}


def with_epoch(batch, epoch):
    """Adds the epoch, one number or one for each sample, to a packed batch."""
    import tensorflow as tf

    index = unpacked_batch(batch)[0].sample_index
    epoch = tf.broadcast_to(tf.cast(epoch, tf.int32), tf.shape(index))
    epoch.set_shape(index.shape)
    return _with(batch, EPOCH, epoch)


def with_teacher_outputs(batch, outputs, name=None):
    """Adds a teacher's outputs to a packed batch; `name`: of several, which."""
    if name is not None:
        before = unpacked_batch(batch)[0].teacher_outputs or {OF_TEACHERS: {}}
        outputs = {OF_TEACHERS: {**before[OF_TEACHERS], name: outputs}}
    return _with(batch, TEACHER_OUTPUTS, outputs)


def outputs_of_some(sample):
    """Returns the outputs that a `Sample` carries of some of several teachers.

    `None` if there are none, or if they are those of the only teacher.
    """
    outputs = sample.teacher_outputs
    return outputs if outputs and OF_TEACHERS in outputs else None


def with_sample_index(batch, sample_index):
    """Replaces the index of a packed batch."""
    return _with(batch, SAMPLE_INDEX, sample_index)


def _with(batch, field, value):
    x, *others = batch if isinstance(batch, tuple) else (batch,)
    x = {**x, field: value}
    return (x, *others) if isinstance(batch, tuple) else x


def carries_teacher_outputs(dataset):
    """Whether a `tf.data.Dataset` carries a teacher's outputs."""
    return sample_spec(dataset).teacher_outputs is not None


def number_of_parts(dataset):
    """How many of x, y and sample_weight a `tf.data.Dataset` has."""
    spec = dataset.element_spec
    return len(spec) if isinstance(spec, tuple) else 1


def sample_spec(dataset):
    """The specs of the x of a `tf.data.Dataset`, a `Sample`."""
    spec = getattr(dataset, "element_spec", None)
    return unpacked(spec[0] if isinstance(spec, tuple) else spec)
