"""`diagnose`: it looks at networks and data, and trains for a short time."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_loss
from keras_distill._arguments import checked_number
from keras_distill._data.for_network import for_network
from keras_distill.diagnosis import in_int8
from keras_distill.diagnosis.classifier import Classifier
from keras_distill.diagnosis.data import Data
from keras_distill.diagnosis.data import labels_and_weights
from keras_distill.diagnosis.measuring import describe
from keras_distill.diagnosis.measuring import look
from keras_distill.diagnosis.result import Diagnosis
from keras_distill.diagnosis.short_training import stand_in
from keras_distill.diagnosis.short_training import train
from keras_distill.diagnosis.variables import assign
from keras_distill.diagnosis.variables import values_of
from keras_distill.diagnosis.views_in_training import are_random
from keras_distill.diagnosis.views_in_training import left_as_they_were
from keras_distill.diagnosis.views_in_training import milder
from keras_distill.diagnosis.views_in_training import named
from keras_distill.diagnosis.views_in_training import seen_in_training
from keras_distill.distillers import checks
from keras_distill.teachers.roles import as_one_teacher
from keras_distill.views import Views
from keras_distill.views.augmented import checked_views
from keras_distill.views.mixup import check_blended_labels


def diagnose(
    *,
    student: keras.Model,
    teacher: keras.Model | Sequence[keras.Model],
    dataset: Any,
    validation_data: Any,
    task_loss: keras.losses.Loss | None = None,
    views: Views | None = None,
    steps: int = 2000,
    batch_size: int = 128,
    samples: int = 2000,
    seconds: float = 300.0,
    verbose: bool = True,
) -> Diagnosis:
    """Says before training what to expect of distillation, and what to do.

    It looks at the teacher on training and validation data, compares size and
    cost of the networks, and trains a copy of the student alone for a short
    time. First it compares both on the validation data: without a headroom
    that is surely above 0 there is nothing to gain, whatever limits the
    student. Then it says what limits it. If its fit to the training data runs
    ahead of its fit to the validation data, it is limited by data, and a
    teacher helps. If not, it is limited by its capacity, and a teacher helps
    little. Last, it tries what int8 will cost the student, rounded after its
    short training. Neither network is changed. It is for classifiers with one
    output.

    The answer depends on steps, not on the speed of the machine, unless time
    is up (`seconds`).

    Args:
        student: The `keras.Model` to distill, with its initial weights.
        teacher: A trained `keras.Model`, or a list of them (see
            `kd.Ensemble`).
        dataset: The training data: a `tf.data.Dataset` of batches, a
            `keras.utils.PyDataset`, or arrays; `x`, `(x, y)` or
            `(x, y, sample_weight)`. Labels are class indices or one-hot.
            Random augmentation in it counts as part of the data. Give class
            weights as sample weights. Without labels here or in
            `validation_data` the student's fit cannot be known, and nothing is
            trained.
        validation_data: The same for validation. Do not give the test data:
            you will act on the result. Samples of weight 0 do not count, nor
            those whose label is the task loss's `ignore_class`.
        task_loss: The loss of the short training, as in `compile`. Defaults
            to the cross-entropy that fits labels and student.
        views: As in `kd.Distiller`. If they are random, the copy of the
            student is trained twice, with their crops, flips and mixup and
            without, and the answer says if they cost more than they bring.
        steps: The length of the short training. Defaults to 2000: the
            2 000 labels of the example below do not show in 300 steps, and
            not with every initialization in 1000. If you will train for less,
            give that number.
        batch_size: The number of samples in a batch of arrays. Defaults to
            128.
        samples: The largest number of training and of validation samples to
            look at: the first ones of a dataset, a random choice of arrays.
            Defaults to 2000, which gives an accuracy a standard error of at
            most 1.1 points.
        seconds: The wall time that one short training may take, judged by the
            first steps. If they are too slow, the training has fewer steps,
            and the result says how many. Defaults to 300, enough for 2000
            steps, and 200 of trials before them, of 0.13 s each.
        verbose: Whether to print the result, and a progress bar before it.

    Returns:
        A `Diagnosis`. `print` shows it, `.as_dict()` is for JSON, `.findings`
        is a list of `(kind, text)`.

    Raises:
        TypeError: If a network is not a `keras.Model`, or `dataset` is not
            data.
        ValueError: If student and teacher are one object, the teacher is not
            built, the data is empty, labels are not classes of the student,
            or a network is not a classifier with one output.

    Example:

    ```python
    data = kd.datasets.fashion_mnist()
    few = kd.datasets.subset(data.x_train[:50000], data.y_train[:50000], 2000)
    kd.diagnose(
        student=student,
        teacher=teacher,
        dataset=few,
        validation_data=(data.x_train[50000:], data.y_train[50000:]),
    )
    ```
    """
    checks.check_backend()
    checks.check_student(student)
    teacher = as_one_teacher(teacher)
    checks.check_teacher(teacher, student)
    views = checked_views(views) or Views()
    checked_integer("steps", steps)
    checked_integer("batch_size", batch_size)
    checked_integer("samples", samples)
    checked_number("seconds", seconds)
    checked_boolean("verbose", verbose)
    checked_loss("task_loss", task_loss)
    training = Data(dataset, "dataset", batch_size)
    held_out = Data(validation_data, "validation_data", batch_size)

    def teacher_sees(x):
        return for_network(teacher, views.teacher_evaluation(x), "teacher")

    def student_sees(x):
        return for_network(student, views.evaluation(x), "student")

    x, y, weight = training.first()
    _, y_held_out, _ = held_out.first()
    _check_batched(teacher, teacher_sees(x))
    of_teacher = Classifier(teacher, teacher_sees, x, "teacher")
    ignore_class = getattr(task_loss, "ignore_class", None)
    with (
        stand_in(student, student_sees(x)) as copy,
        left_as_they_were(views),
    ):
        of_student = Classifier(copy, student_sees, x, "student")
        facts = {
            "teacher": of_teacher.facts(x),
            "student": of_student.facts(x),
            "data": {},
            "views": {"name": named(views), "milder": milder(views)},
            "replicas": _replicas(copy),
        }
        if not copy.trainable_weights:
            raise ValueError(
                f"The student '{student.name}' has no trainable weights. Set "
                "`trainable = True` on the layers that are to learn."
            )
        places, trained = {"student": facts}, {}
        size = len(keras.tree.flatten(x)[0])
        labels, _ = labels_and_weights(
            y, weight, size, of_student.classes, "dataset", ignore_class
        )
        # Without labels in both, nothing can be compared.
        if labels is not None and y_held_out is not None:
            views.set_output_shape((None, of_student.units))
            loss = task_loss or of_student.task_loss(views.evaluation_labels(y))
            check_blended_labels(views, loss, y)
            beginning = values_of(copy.variables)
            if are_random(views):
                places["without_views"] = facts["without_views"] = {}
            for name, place in places.items():
                assign(copy.variables, beginning)
                random = name == "student" and are_random(views)
                short = _train(
                    copy, views, random, training, loss, steps, seconds, verbose
                )
                place["short_training"] = short
                trained[name] = _restoring(copy)
        for part, data in ("training", training), ("validation", held_out):
            looked = look(
                data, samples, of_teacher, of_student, trained, ignore_class
            )
            describe(
                facts,
                part,
                data,
                looked,
                comparable=of_teacher.classes == of_student.classes,
            )
        if trained:
            trained["student"]()
            facts["int8"] = in_int8.cost(
                of_student, training, held_out, samples, ignore_class
            )
    known = training.samples
    for name in trained:
        short = places[name]["short_training"]
        short["passes"] = short["samples"] / known if known else None
    diagnosis = Diagnosis(facts)
    if verbose:
        print(diagnosis)
    return diagnosis


def _train(model, views, random, data, loss, steps, seconds, verbose):
    """Trains the student alone, and returns what was done as a dict."""

    def see(x):
        x = x if random else views.evaluation(x)
        return for_network(model, x, "student")

    batches = data.stream()
    if random:
        batches = seen_in_training(views, batches)
    else:
        batches = (
            (sample.inputs, views.evaluation_labels(y), weight)
            for sample, y, weight in batches
        )
    short = train(model, see, batches, loss, steps, seconds, verbose)._asdict()
    short["views"] = named(views) if random else None
    return short


def _restoring(model):
    """Returns a function that gives the model its present values again."""
    values = values_of(model.variables)
    return lambda: assign(model.variables, values)


def _replicas(model):
    """Replicas of the current strategy or, if more, of the model's."""
    import tensorflow as tf

    strategies = tf.distribute.get_strategy(), model.distribute_strategy
    return max(strategy.num_replicas_in_sync for strategy in strategies)


def _check_batched(model, x):
    inputs = getattr(model, "inputs", None)
    if not inputs or len(inputs) > 1 or keras.tree.is_nested(x):
        return
    if len(x.shape) == len(inputs[0].shape) - 1:
        raise ValueError(
            f"The data has elements of shape {tuple(x.shape)}, and the model "
            f"'{model.name}' takes {tuple(inputs[0].shape)}: batch it, "
            "dataset.batch(128)."
        )
