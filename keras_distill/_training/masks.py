"""Which positions two networks leave out: it must be the same ones."""

import keras
import numpy as np

from keras_distill._data.for_network import for_network
from keras_distill._keras.layers import left_as_found
from keras_distill._keras.masks import makes_masks
from keras_distill._keras.masks import mask_of_tap
from keras_distill._training.building import once_in_graph


def check_masks(distiller, x, y=None):
    """Raises if a loss compares positions that one network alone leaves out.

    The networks run only if both may mask positions.

    Args:
        distiller: The `Distiller`, whose losses are built.
        x: Inputs of the first batch, a structure of tensors.
        y: Its labels, or `None`.
    """
    networks, views = distiller._networks(), distiller.views
    student, teacher = networks.student, networks.teacher
    if teacher is None:
        return
    seen = views.teacher_evaluation(x), views.evaluation(x)
    if not _may_mask(teacher, seen[0], "teacher"):
        return
    if not _may_mask(student, seen[1], "student"):
        return

    def masks(seen):
        outputs = networks.teacher_pass(seen[0], own_precision=True, y=y)
        taps = networks.student_pass(seen[1], training=False)
        found = {}
        for name in networks.needs_teacher:
            loss = networks.losses[name]
            pair = (
                mask_of_tap(outputs.taps_for(loss)),
                mask_of_tap(taps.select(loss.student_layer_name, loss.task)),
            )
            if all(mask is not None for mask in pair):
                found[name] = pair
        return found

    with distiller.distribute_strategy.scope(), left_as_found(student, teacher):
        found = once_in_graph(masks, seen)
    for name, pair in found.items():
        _compare(name, *map(keras.ops.convert_to_numpy, pair))


def _compare(name, teacher, student):
    if teacher.shape != student.shape or np.array_equal(teacher, student):
        return
    place = [int(i) for i in np.argwhere(teacher != student)[0]]
    raise ValueError(
        f"The loss '{name}' compares positions, but the teacher and the "
        "student leave out different ones. In the first batch the teacher "
        f"counts {int(teacher.sum())} of {teacher.size}, and the student "
        f"{int(student.sum())}; the first that differs is {place}. Give both "
        "networks the same padding: keras.layers.Embedding(mask_zero=True) "
        "leaves out the id 0, a padding_mask where it is False."
    )


def _may_mask(network, x, role):
    """Whether a network marks positions as padding."""
    x = for_network(network, x, role)
    if isinstance(x, dict) and "padding_mask" in x:
        return True
    return makes_masks(network)
