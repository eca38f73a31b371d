"""A proposal for which layers of two networks to compare."""

import contextlib
import math
import re
from typing import NamedTuple

import keras

from keras_distill._arguments import checked_instance
from keras_distill._keras.graph import symbolic_inputs
from keras_distill._keras.method_patching import intercepted
from keras_distill._keras.symbolic_pass import symbolic_pass
from keras_distill._keras.symbolic_pass import with_free_batch
from keras_distill.taps.blocks import blocks
from keras_distill.taps.paths import check_has_layers
from keras_distill.taps.paths import layer_paths

# Layers that only move, crop or drop say nothing new about the image.
_PASSED_OVER = (
    keras.layers.Cropping2D,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.SpatialDropout2D,
    keras.layers.ZeroPadding2D,
)

# The names of the ends of stages in kd.models, nested or not.
_STAGE_END = re.compile(r"(^|/)stage\d+$")


class Stage(NamedTuple):
    """The last layer of one resolution, or the one named as a stage's end.

    Attributes:
        name: The name of the layer, as a tap.
        shape: The shape of its output, batch axis first.
        octave: The number of times that the input's size was halved, rounded.
            Of a transformer: the number of the block, 0 for the embeddings.
        attention: The name of a block's attention layer, `None` of others.
    """

    name: str
    shape: tuple
    octave: int
    attention: str | None = None


class Suggestion:
    """Pairs of layers, early to late; prints as a table.

    Args:
        pairs: A list of (teacher's `Stage`, student's `Stage`).

    Attributes:
        teacher_layer_names: The `teacher_layer_name=` of a loss.
        student_layer_names: The `student_layer_name=` of a loss.
        teacher_attention_names: The same, of a loss of attention: the attention
            layers of the blocks. Empty for networks without.
        student_attention_names: The same for the student.
    """

    def __init__(self, pairs):
        self.pairs = list(pairs)
        self.teacher_layer_names = [teacher.name for teacher, _ in self.pairs]
        self.student_layer_names = [student.name for _, student in self.pairs]
        attentions = [
            (teacher.attention, student.attention)
            for teacher, student in self.pairs
            if teacher.attention and student.attention
        ]
        self.teacher_attention_names = [teacher for teacher, _ in attentions]
        self.student_attention_names = [student for _, student in attentions]

    def __len__(self):
        return len(self.pairs)

    def __str__(self):
        rows = [("teacher", "output", "student", "output")]
        for pair in self.pairs:
            row = ()
            for stage in pair:
                row += (stage.name, " x ".join(map(str, stage.shape[1:])))
            rows.append(row)
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths))
            for row in rows
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__


def suggest(teacher: keras.Model, student: keras.Model) -> Suggestion:
    """Proposes pairs of layers for losses that compare feature maps or blocks.

    Of two transformers these are the embeddings and the blocks: of the
    teacher's N blocks, block `m N / M` (rounded down) for block m of the
    student's M. `teacher_attention_names` and `student_attention_names` of the
    suggestion are the attention layers of these blocks.

    Of other networks these are the last layers of each resolution: what a
    network knows before it halves the map. If a network names the ends of its
    stages `"stage1"`, `"stage2"`, ... as those of `kd.models` do, it is these:
    with pre-activation, layers of the next stage follow at the same
    resolution. The last layers of both networks are a pair. Before them,
    layers are paired from the end if both networks have halved their input
    equally often; a resolution that only one of them has is left out.

    Look at the table before you use it. Losses on early layers may ask more of
    a small student than they give, and the last pairs alone may serve it
    better.

    Args:
        teacher: A `keras.Model` with symbolic inputs of known size.
        student: The same.

    Returns:
        A `Suggestion`: `print` it, and pass on its `teacher_layer_names` and
        `student_layer_names`.

    Raises:
        ValueError: If a model is subclassed, has free image sizes, or has
            neither maps `(batch, height, width, channels)` nor attention; or
            if a transformer has more blocks than its teacher.

    Example:

    ```python
    suggestion = kd.taps.suggest(teacher, student)
    print(suggestion)
    loss = kd.losses.AttentionTransfer(
        teacher_layer_name=suggestion.teacher_layer_names,
        student_layer_name=suggestion.student_layer_names,
    )
    ```
    """
    for argument, model in (("teacher", teacher), ("student", student)):
        checked_instance(
            argument, model, keras.Model, "keras.Model", or_none=False
        )
    of_teacher, of_student = blocks(teacher), blocks(student)
    if of_teacher and of_student:
        return Suggestion(_paired_blocks(of_teacher, of_student))
    left, right = stages(teacher, "teacher"), stages(student, "student")
    pairs = [(left.pop(), right.pop())]
    while left and right:
        if left[-1].octave == right[-1].octave:
            pairs.append((left.pop(), right.pop()))
        elif left[-1].octave > right[-1].octave:
            left.pop()
        else:
            right.pop()
    return Suggestion(reversed(pairs))


def _paired_blocks(teacher, student):
    """Pairs of `Stage`s of two lists of blocks, see `suggest`."""
    first = [found[0].attention is None for found in (teacher, student)]
    teacher, student = (
        [
            Stage(block.name, block.shape, number, block.attention)
            for number, block in enumerate(found, 0 if embedded else 1)
        ]
        for found, embedded in zip((teacher, student), first)
    )
    pairs = [(teacher[0], student[0])] if all(first) else []
    teacher, student = teacher[first[0] :], student[first[1] :]
    n, m = len(teacher), len(student)
    if m > n:
        raise ValueError(
            f"The student has {m} blocks and the teacher {n}: name the pairs "
            f"yourself. The teacher's are {[t.name for t in teacher]}, the "
            f"student's {[s.name for s in student]}."
        )
    chosen = [teacher[k * n // m - 1] for k in range(1, m + 1)]
    return pairs + list(zip(chosen, student))


def stages(model, role="model"):
    """Returns the last layer of each resolution of a network, large to small.

    If layers of a resolution are named `"stage<number>"`, it is the last of
    them. Of a network that goes up again, it is the layers on the way up. A
    convolution without padding does not change the resolution. Maps of one
    position are left out.

    Args:
        model: A `keras.Model` with symbolic inputs of known size.
        role: `"teacher"` or `"student"`, for messages.

    Returns:
        A list of `Stage`.
    """
    check_has_layers(model, role)
    if hasattr(model, "members"):
        raise ValueError(
            f"The {role} is several teachers, {list(model.members)}. Suggest "
            "layers of one of them, and name them behind its name: "
            'f"{name}/{layer_name}".'
        )
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise ValueError(
            f"The {role} '{model.name}' has no symbolic inputs (a subclassed "
            "model), so its layers cannot be looked through without data. Name "
            "the layers yourself; kd.taps.layer_paths(model) lists them."
        )
    maps = [t.shape for t in inputs if len(t.shape) == 4]
    if len(maps) != 1 or None in maps[0][1:3]:
        raise ValueError(
            f"The {role} '{model.name}' needs one image input (batch, height, "
            "width, channels) of known size to compare resolutions. Received "
            f"inputs of shapes {[t.shape for t in inputs]}."
        )
    found = [x for x in _maps_in_order(model) if x[1][1:3] != (1, 1)]
    octaves = _octaves(_size(maps[0]), {_size(shape) for _, shape in found})
    last = {}
    for name, shape in found:
        octave = octaves[_size(shape)]
        ended = octave in last and _STAGE_END.search(last[octave].name)
        if not ended or _STAGE_END.search(name):
            last[octave] = Stage(name, shape, octave)
    if not last:
        raise ValueError(
            f"The {role} '{model.name}' has no layer with an output (batch, "
            "height, width, channels) of known size. Name the layers yourself; "
            "kd.taps.layer_paths(model) lists them."
        )
    return [last[octave] for octave in sorted(last)]


def _octaves(of_input, sizes):
    """Returns a dict size -> number of times that the input was halved.

    A size that is nearly the next larger one (above 0.58 of it: a convolution
    without padding) counts as that one; 7 -> 4 still is half.
    """
    octaves, previous = {}, None
    for size in sorted(sizes, reverse=True):
        if previous is not None and size > 0.58 * previous:
            octaves[size] = octaves[previous]
        else:
            octaves[size] = round(math.log2(of_input / size))
        previous = size
    return octaves


def _maps_in_order(model):
    """Returns (name, shape) of every map after the first layer with weights."""
    names = {
        id(layer): (path, layer)
        for path, layer in layer_paths(model).items()
        if not isinstance(layer, keras.Model)
    }
    calls = []

    def record(layer, method, *args, **kwargs):
        outputs = method(*args, **kwargs)
        calls.append((layer, getattr(outputs, "shape", ())))
        return outputs

    with contextlib.ExitStack() as stack:
        for _, layer in names.values():
            stack.enter_context(intercepted([layer], "call", record))
        symbolic_pass(
            lambda x: model(x, training=False),
            with_free_batch(symbolic_inputs(model)),
        )
    return list(_named(calls, names))


def _named(calls, names):
    """Yields calls of layers as taps: `"conv#1"` if a layer runs again."""
    total, number, started = {}, {}, False
    for layer, _ in calls:
        total[id(layer)] = total.get(id(layer), 0) + 1
    for layer, shape in calls:
        index = number[id(layer)] = number.get(id(layer), -1) + 1
        # Rescaling, augmentation: still the image.
        started = started or bool(layer.weights)
        is_map = len(shape) == 4 and None not in tuple(shape)[1:3]
        if not started or not is_map or isinstance(layer, _PASSED_OVER):
            continue
        path, _ = names[id(layer)]
        several = total[id(layer)] > 1
        yield f"{path}#{index}" if several else path, tuple(shape)


def _size(shape):
    """Returns the side of the square of the same area."""
    return math.sqrt(shape[1] * shape[2])
