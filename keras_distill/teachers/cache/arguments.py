"""Checks of what `TeacherCache.build` is given."""

import keras

from keras_distill._arguments import checked_integer
from keras_distill._arguments import one_of
from keras_distill._keras.heads import final_activation
from keras_distill.teachers.cache.encoding import DTYPES
from keras_distill.views.base import checked_views as views_or_none

DEFAULT_BATCH_SIZE = 128


def checked_views(views):
    """Views whose draws can be replayed, or `None`."""
    if views_or_none(views) is not None and not views.replayable:
        raise ValueError(
            f"The draws of {type(views).__name__}(augmentation=...) are the "
            "layer's own, so what the teacher sees now cannot be shown to the "
            "student later. Leave augmentation out, or train with a live "
            "teacher."
        )
    return views


def check_teacher(teacher):
    if not isinstance(teacher, keras.Model) or not teacher.built:
        raise TypeError(
            "teacher must be a trained keras.Model, or a list of them. "
            f"Received: {teacher!r}"
        )


def checked_batch_size(batch_size, views):
    """Batches are made of whole groups of samples that mixup may blend."""
    mixup = getattr(views, "mixup", False)
    group = getattr(views, "mixup_group_size", 1) if mixup else 1
    if batch_size is None:
        return -(-DEFAULT_BATCH_SIZE // group) * group
    checked_integer("batch_size", batch_size, least=1)
    if batch_size % group:
        raise ValueError(
            f"batch_size must be a multiple of {group}, the views' "
            f"mixup_group_size. Received: batch_size={batch_size}"
        )
    return batch_size


def checked_samples_per_shard(number, batch_size, row, samples, size):
    """A multiple of the batch size; by default at most so many samples, or
    so many bytes."""
    if number is None:
        number = min(samples, size // max(1, row))
        return max(1, number // batch_size) * batch_size
    if checked_integer("samples_per_shard", number, least=1) % batch_size:
        raise ValueError(
            f"samples_per_shard must be a multiple of batch_size={batch_size}."
            f" Received: samples_per_shard={number}"
        )
    return number


def check_dtype(dtype):
    one_of("dtype", dtype, DTYPES)


def check_top_k(top_k, shapes, teacher):
    if top_k is None:
        return
    output = shapes.get("output")
    if not output:
        raise ValueError(
            "top_k keeps the largest logits of the teacher's output "
            f"(batch, ..., classes). Received: top_k={top_k}, and a teacher "
            f"whose outputs are {shapes}. Leave top_k out."
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
            f"top_k spreads what is left of a softmax over logits, but the "
            f"teacher '{teacher.name}' ends in a {head}. Give its last layer "
            "activation=None, or leave top_k out."
        )
