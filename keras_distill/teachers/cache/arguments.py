"""Checks of what `TeacherCache.build` is given."""

import numbers

import keras

from keras_distill._arguments import one_of
from keras_distill._arguments import whole
from keras_distill._keras.heads import final_activation
from keras_distill.teachers.cache.encoding import DTYPES
from keras_distill.views.base import checked_views as views_or_none

DEFAULT_BATCH_SIZE = 128


def checked_views(views):
    """Views whose draws can be replayed, or `None`."""
    views = views_or_none(views)
    if views is not None and not views.replayable:
        raise ValueError(
            "Augmentation layers of Keras and keras-cv draw their own random "
            "numbers, so the student cannot be shown later what the teacher "
            "sees now. Leave them out, or train with a live teacher."
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
    group = 1 if views is None else views.group_size
    if batch_size is None:
        return -(-DEFAULT_BATCH_SIZE // group) * group
    whole("batch_size", batch_size, least=1)
    if batch_size % group:
        raise ValueError(
            f"batch_size must be a multiple of {group}, the group_size of "
            f"the views' mixup. Received: batch_size={batch_size}"
        )
    return batch_size


def checked_samples_per_shard(number, batch_size, row, samples, size):
    """A multiple of the batch size; by default at most so many samples, or
    so many bytes."""
    if number is None:
        number = min(samples, size // max(1, row))
        return max(1, number // batch_size) * batch_size
    if whole("samples_per_shard", number, least=1) % batch_size:
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
    if (
        not isinstance(top_k, numbers.Integral)
        or isinstance(top_k, bool)
        or not 1 <= top_k < output[-1]
    ):
        raise ValueError(
            f"top_k must be a whole number from 1 to {output[-1] - 1}, one "
            "less than the teacher's classes; leave it out to keep all. "
            f"Received: top_k={top_k!r}"
        )
    head = final_activation(teacher)
    if head is not None:
        raise ValueError(
            f"top_k spreads what is left of a softmax over logits, but the "
            f"teacher '{teacher.name}' ends in a {head}. Give its last layer "
            "activation=None, or leave top_k out."
        )
