"""Pretraining of a student by another network's features, without labels."""

import math
import os
import warnings
from typing import Any

import keras
import tensorflow as tf

from keras_distill import losses
from keras_distill._arguments import as_path
from keras_distill._arguments import checked_instance
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_seed
from keras_distill._data.sources import are_arrays
from keras_distill._data.sources import number_of_batches
from keras_distill._data.sources import unsupported
from keras_distill._keras.heads import output_classifier
from keras_distill.datasets.pipelines import batches
from keras_distill.distillers import Distiller
from keras_distill.losses.keras_losses import as_distillation_losses
from keras_distill.losses.structures import as_list
from keras_distill.recipes.rule import cosine_adam
from keras_distill.taps.embedding import embedding_layer_name
from keras_distill.taps.suggestion import suggest
from keras_distill.teachers.cache.cache import TeacherCache
from keras_distill.teachers.cache.options import StoredOutputs
from keras_distill.views import FunctionMatching
from keras_distill.views import Views


def pretrain(
    student: keras.Model,
    teacher: keras.Model,
    images: Any,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    distillation_losses: Any = None,
    distillation_loss_weights: Any = None,
    views: Views | None = None,
    cache_directory: str | os.PathLike | None = None,
    callbacks: Any = None,
    seed: int = 0,
    verbose: Any = "auto",
) -> keras.callbacks.History:
    """Teaches a student the features of any teacher, from images alone.

        L = L_queue + L_patches

    `L_queue` is `kd.losses.QueueSimilarity`: each image shall be as like
    thousands of others as the teacher finds it. `L_patches` is
    `kd.losses.PatchSimilarity`: the places of each image shall be as like one
    another. Both networks see the same crop and mixup of every image.

    Afterwards `student` itself is pretrained. Its classifier was not trained:
    compile the student and `fit` it on the labels that you have, few or many.
    The teacher may be any network with image input: its classes, its size and
    its resolution need not be the student's. It is for many images and few
    labels, and it takes long: in 6000 steps it gained 1.1 to 2.4 points, from a
    teacher of other classes none surely (examples/README.md). If the teacher
    has your classes, distil its outputs instead, which gained far more:
    `kd.losses.SoftTargets` on the same images.

    Args:
        student: The `keras.Model` to train. What its classifier reads is its
            embedding; without a classifier, its output.
        teacher: A trained `keras.Model`, likewise; its output also if what its
            classifier reads cannot be found.
        images: An array `(images, height, width, channels)`, a tuple
            `(x, y)` of arrays, or a `tf.data.Dataset` of batches, `x` or
            `(x, y)`. Labels are ignored.
        epochs: Passes over the images. Defaults to 100 if `steps` is not
            given either.
        steps: The number of training steps instead; the last epoch ends with
            at most one step more per epoch.
        batch_size: The number of images in a batch of arrays. Defaults to 128.
        learning_rate: Where Adam's rate starts; it goes down to 0 as a
            cosine. Defaults to 0.003.
        distillation_losses: Losses in place of the two, as in `kd.Distiller`.
        distillation_loss_weights: Their weights. Defaults to 1 each.
        views: What the networks see. Defaults to `kd.views.FunctionMatching`
            with the input size of each network and `crop_area=(0.4, 1)`.
        cache_directory: A folder for the teacher's outputs
            (`kd.TeacherCache`), which are computed once: with
            `views=kd.views.Views()`, for all epochs, and any number of
            students can share it. With random views, what the teacher sees in
            each epoch is stored: mind the space. Needs arrays. Defaults to
            none: the teacher runs in every step.
        callbacks: Keras callbacks, such as `kd.callbacks.BackupAndResume`.
        seed: Seed of the views and of the order of the images. Defaults to 0.
        verbose: As in `keras.Model.fit`.

    Returns:
        A `keras.callbacks.History` with `loss`, `queue_loss` and
        `patches_loss` per epoch. The latter is missing if a network has no
        maps to compare.

    Raises:
        TypeError, ValueError: Before the first step. The message says what
            was given, what was expected and how to fix it.

    Example:

    ```python
    kd.pretrain(student, teacher, x_train, epochs=2)
    student.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    student.fit(x_train[:20], y_train[:20], epochs=2)
    ```

    Reference:
        Fang et al., "SEED: Self-supervised Distillation for Visual
        Representation", 2021; Liu et al., "Structured Knowledge Distillation
        for Semantic Segmentation", 2019; Beyer et al., "Knowledge
        distillation: A good teacher is patient and consistent", 2022.
    """
    checked_model("student", student)
    checked_model("teacher", teacher)
    checked_integer("batch_size", batch_size)
    checked_number("learning_rate", learning_rate)
    checked_seed(seed)
    checked_instance("views", views, Views, "kd.views.Views")
    dataset, per_epoch = _unlabelled(images, batch_size, seed)
    steps_per_epoch, epochs = _length(epochs, steps, per_epoch)
    if views is None:
        views = _default_views(student, teacher, dataset, seed)
    if distillation_losses is None:
        distillation_losses = _default_losses(student, teacher)
    distillation_losses = as_distillation_losses(distillation_losses, ())
    if cache_directory is not None:
        cache = _cache(
            teacher,
            _array_of(images),
            as_path("cache_directory", cache_directory),
            views,
            epochs,
            distillation_losses,
            bool(verbose),
        )
        teacher = None
        dataset = cache.join(
            batches(
                _array_of(images),
                batch_size=batch_size,
                seed=seed,
                indexed=True,
                group_size=views.group_size,
            )
        )
    with student.distribute_strategy.scope():
        distiller = Distiller(
            student=student,
            teacher=teacher,
            distillation_losses=distillation_losses,
            distillation_loss_weights=distillation_loss_weights,
            alpha=1.0,
            views=views,
        )
        distiller.compile(cosine_adam(learning_rate, steps_per_epoch * epochs))
    with warnings.catch_warnings():
        # The student's classifier gets none, as it should.
        warnings.filterwarnings("ignore", "Gradients do not exist")
        return distiller.fit(
            dataset,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            callbacks=callbacks,
            shuffle=False,
            verbose=verbose,
        )


def _unlabelled(images, batch_size, seed):
    """Returns endless batches of images, and the number in a pass or `None`."""
    if isinstance(images, tf.data.Dataset):
        per_epoch = None
        if images.cardinality() != tf.data.INFINITE_CARDINALITY:
            per_epoch = number_of_batches(images)
            images = images.repeat()
        if isinstance(images.element_spec, tuple):
            images = images.map(lambda x, *labels: x)
        return images, per_epoch
    if isinstance(images, tuple) and images:
        images = images[0]
    if isinstance(images, dict) or not are_arrays(images):
        raise unsupported(
            images,
            "images",
            "an array of images, (x, y), or a tf.data.Dataset of batches",
        )
    count = math.ceil(len(images) / batch_size)
    return batches(images, batch_size=batch_size, seed=seed), count


def _array_of(images):
    if isinstance(images, tf.data.Dataset):
        raise ValueError(
            "cache_directory needs images as arrays, so that each has a place "
            "in the cache. Build a kd.TeacherCache for a tf.data.Dataset, and "
            "train with kd.Distiller(alpha=1). Received: "
            f"images={images}"
        )
    return images[0] if isinstance(images, tuple) else images


def _cache(teacher, x, path, views, epochs, distillation_losses, verbose):
    names = [
        name
        for loss in distillation_losses.values()
        for name in as_list(loss.teacher_layer_name)
        if name is not None
    ]
    return TeacherCache.build(
        teacher,
        x,
        path,
        views=views,
        epochs=epochs if views.teacher_varies else 1,
        outputs=StoredOutputs(layer_names=list(dict.fromkeys(names)) or None),
        verbose=verbose,
    )


def _length(epochs, steps, per_epoch):
    """Returns steps per epoch and epochs."""
    checked_integer("epochs", epochs, or_none=True)
    checked_integer("steps", steps, or_none=True)
    if epochs is not None and steps is not None:
        raise ValueError(
            "Give epochs or steps, not both. Received: "
            f"epochs={epochs}, steps={steps}"
        )
    if steps is not None:
        epochs = math.ceil(steps / (per_epoch or steps))
        return math.ceil(steps / epochs), epochs
    if per_epoch is None:
        raise ValueError(
            "The length of `images` is not known, so an epoch has no end. "
            f"Pass steps= instead of epochs. Received: epochs={epochs}"
        )
    return per_epoch, epochs or 100


def _default_views(student, teacher, dataset, seed):
    spec = dataset.element_spec
    if keras.tree.is_nested(spec) or len(spec.shape) != 4:
        raise ValueError(
            "images must be batches (batch, height, width, channels). "
            f"Received: {spec}. For other inputs pass views= and "
            "distillation_losses=."
        )
    of_data = spec.shape[1:3]
    sizes = {}
    for role, network in (("student", student), ("teacher", teacher)):
        shape = getattr(network, "input_shape", None)
        is_map = isinstance(shape, tuple) and len(shape) == 4
        size = shape[1:3] if is_map else (None, None)
        sizes[role] = tuple(of_data) if None in size else tuple(size)
    if None in (*sizes["student"], *sizes["teacher"]):
        raise ValueError(
            "The size of the images that the networks see is not known: "
            f"{sizes}. Pass views=kd.views.FunctionMatching(image_size, "
            "crop_area=(0.4, 1))."
        )
    return FunctionMatching(
        sizes["student"],
        teacher_image_size=sizes["teacher"],
        crop_area=(0.4, 1.0),
        seed=seed,
    )


def _default_losses(student, teacher):
    embedding = embedding_layer_name(student)
    has_classifier = output_classifier(student) is not None
    if not getattr(student, "inputs", None) or (
        has_classifier and embedding is None
    ):
        raise ValueError(
            f"What the classifier of the student '{student.name}' reads cannot "
            "be found: the student is a subclassed model, or no layer of it "
            "gives just that (`x[:, 0]`). Name a layer: "
            "distillation_losses=kd.losses.QueueSimilarity("
            "student_layer_name=...)."
        )
    found = {
        "queue": losses.QueueSimilarity(
            teacher_layer_name=embedding_layer_name(teacher),
            student_layer_name=embedding,
        )
    }
    try:
        of_teacher, of_student = suggest(teacher, student).pairs[-1]
    except ValueError:  # No maps to compare.
        return found
    found["patches"] = losses.PatchSimilarity(
        teacher_layer_name=of_teacher.name,
        student_layer_name=of_student.name,
    )
    return found
