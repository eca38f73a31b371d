"""The first batch, checked before the first step.

A mistake in the data, or data that does not fit the networks, raises an error
here that says how to fix it, and not later in a traced graph.
"""

import types

import keras
import numpy as np

from keras_distill._data.batch_fields import carries_teacher_outputs
from keras_distill._data.batch_fields import number_of_parts
from keras_distill._data.batch_fields import plain_batch
from keras_distill._data.batch_fields import unpacked
from keras_distill._data.indexing import with_checked_index
from keras_distill._data.sources import are_arrays
from keras_distill._data.sources import array_or_tensor
from keras_distill._data.sources import batch_size_of_arrays
from keras_distill._data.sources import check_it_ends
from keras_distill._data.sources import first_again
from keras_distill._data.sources import first_batch
from keras_distill._data.sources import leaves
from keras_distill._data.sources import no_batch
from keras_distill._data.sources import unsupported
from keras_distill._data.sparse import as_tensor
from keras_distill._data.sparse import first_rows
from keras_distill._data.sparse import number_of_rows
from keras_distill._data.streams import check_rows
from keras_distill._data.streams import check_streams
from keras_distill._data.streams import of_one_replica as first_streams
from keras_distill._data.values import check_images
from keras_distill._data.values import check_sample_weight
from keras_distill._training.apart import check_apart
from keras_distill._training.building import build_networks
from keras_distill._training.building import run_teacher
from keras_distill._training.masks import check_masks
from keras_distill._training.positions import check_positions
from keras_distill._training.positions import weight_of_each_position
from keras_distill._training.task_checks import check_compared
from keras_distill._training.task_checks import check_sparse_labels
from keras_distill._training.task_checks import check_task_labels
from keras_distill._training.task_checks import check_task_weights
from keras_distill._training.tasks import by_task
from keras_distill._training.tasks import label_of
from keras_distill.teachers.cache.origin import check_cached
from keras_distill.teachers.cache.origin import origin_key


def check_labels_for_class_weight(class_weight, labelled):
    """Raises for weights of classes that no label chooses from."""
    if class_weight is not None and not labelled:
        raise ValueError(
            "class_weight weighs each sample by its label, but the data has no "
            f"labels. Received: class_weight={class_weight}. Pass labels, or "
            "leave class_weight out."
        )


def check_labels_for_sample_weight(x, y, sample_weight):
    """Raises for weights of arrays without labels, which Keras leaves out."""
    if y is None and are_arrays(x) and leaves(sample_weight):
        raise ValueError(
            "sample_weight comes with arrays that have no labels (y=None), "
            "and Keras's fit and evaluate would leave the weights out. Give a "
            "dataset with None for the labels: tf.data.Dataset"
            ".from_tensor_slices((x, None, sample_weight)).batch(32)."
        )


class FirstBatch:
    """Checks the data of one `Distiller` before it trains.

    Args:
        distiller: The `Distiller`.

    Attributes:
        batch: The batch that was looked at, `(x, y, sample_weight)`.
    """

    def __init__(self, distiller):
        self.distiller = distiller
        self.batch = None
        self._checked = set()

    def prepare(self, x, y, arguments):
        """Looks at the data of `fit`.

        Args:
            x: As in `fit`.
            y: As in `fit`.
            arguments: The arguments that `fit` was given, by name.

        Returns:
            `x`. For a generator, one that yields the first batch again. If a
            loss needs the sample index of a dataset, one that checks it.
        """
        import tensorflow as tf

        x = self._looked_at(x, y, arguments)
        labelled = y is not None
        if isinstance(x, tf.data.Dataset):
            labelled = number_of_parts(x) > 1
        elif self.batch is not None:
            labelled = self.batch[1] is not None
        check_labels_for_class_weight(arguments.get("class_weight"), labelled)
        return x

    def _looked_at(self, x, y, arguments):
        import tensorflow as tf

        self._check_strategy()
        weights = arguments.get("sample_weight")
        check_streams(
            self._running_networks(carries_teacher_outputs(x)),
            x,
            self.distiller.distribute_strategy.num_replicas_in_sync,
            arguments.get("batch_size"),
            arguments.get("shuffle", True),
            arguments.get("validation_split", 0),
            arguments.get("steps_per_epoch"),
        )
        if isinstance(x, tf.data.Dataset):
            if arguments.get("steps_per_epoch") is None:
                check_it_ends(x)
            # A second dataset of the same kind is not started just for the
            # check: that would fill its shuffle buffer. Cached outputs are
            # checked again: their teacher and views do not show in the kind.
            spec = (
                str(x.element_spec),
                id(self.distiller._networks().teacher),
            )
            if spec not in self._checked or carries_teacher_outputs(x):
                self._check_batch(first_batch(x))
                self._checked.add(spec)
            if self._needing_index():
                return with_checked_index(x, self._check_index)
        elif isinstance(x, tf.distribute.DistributedDataset):
            local = (
                self.distiller.distribute_strategy.experimental_local_results
            )
            self._check_batch(
                tf.nest.map_structure(lambda v: local(v)[0], first_batch(x)),
                of_one_replica=True,
            )
        elif isinstance(x, keras.utils.PyDataset):
            if x.num_batches == 0:
                raise no_batch()
            batch = x[0]
            if any(part is None for part in keras.tree.flatten(batch)):
                raise ValueError(
                    "The batches of a keras.utils.PyDataset must hold arrays "
                    "only: Keras cannot read None from them. Received: None "
                    "in the first batch. Leave it out if it is the last part "
                    "of the batch, or give a tf.data.Dataset or a generator."
                )
            self._check_batch(batch)
        elif isinstance(x, types.GeneratorType):
            batch = first_batch(x)
            self._check_batch(batch)
            return first_again(batch, x)
        elif are_arrays(x):
            size = batch_size_of_arrays(
                x, arguments.get("batch_size"), arguments.get("steps_per_epoch")
            )
            for name, given in ("y", y), ("sample_weight", weights):
                if leaves(given) and not are_arrays(given):
                    raise unsupported(given, name, "an array, as x is one")
            if not all(map(number_of_rows, keras.tree.flatten(x))):
                raise no_batch()
            self._check_sample_index(unpacked(x))
            if arguments.get("shuffle", True):
                self.distiller._view_schedule().check_shuffled(
                    unpacked(x), size
                )
            self._check_batch(
                keras.tree.map_structure(
                    lambda a: None if a is None else first_rows(a, size),
                    (x, y, weights),
                )
            )
        # Keras judges anything else (None, a torch DataLoader).
        return x

    def forget(self):
        """Checks data again, also of kinds that were checked."""
        self._checked.clear()

    def check_kind(self, x, y=None):
        """Checks a batch, if it is the first of its kind.

        Outputs of another cache are another kind.
        """
        sample = unpacked(x)
        kinds = keras.tree.map_structure(
            lambda a: a if a is None else (tuple(a.shape)[1:], str(a.dtype)),
            (sample, y),
        )
        kind = (
            str(kinds),
            id(self.distiller._networks().teacher),
            origin_key(sample.teacher_outputs),
        )
        if kind not in self._checked:
            cached = sample.teacher_outputs is not None
            rows = number_of_rows(keras.tree.flatten(sample.inputs)[0])
            check_rows(self._running_networks(cached), rows)
            self.check(x, y)
            self._checked.add(kind)

    def check(self, x, y=None, sample_weight=None):
        """Checks one batch against networks, losses and objective."""
        self._check_labels_are_there(y)
        self._check_sample_index(unpacked(x))
        networks = self.distiller._networks()
        cached = unpacked(x).teacher_outputs
        if cached is not None:
            check_cached(cached, self.distiller)
        elif networks.needs_teacher and networks.teacher is None:
            raise ValueError(
                f"The losses {networks.needs_teacher} need a teacher and there "
                "is none. Pass `teacher=` at construction or call "
                "`distiller.set_teacher(teacher)`; for a saved Distiller call "
                "`kd.load_distiller(path, teacher=teacher)`. Or pass data with "
                "a teacher's outputs: `kd.TeacherCache(path).join(dataset)`."
            )
        self.distiller._view_schedule().check(unpacked(x))
        x = unpacked(x).inputs
        x = keras.tree.map_structure(as_tensor, x)
        teacher = run_teacher(self.distiller, x, cached, y)
        build_networks(self.distiller, x, teacher, cached)
        check_apart(networks.teacher, networks.student)
        if networks.bound and cached is None:
            check_masks(self.distiller, x, y)
        if teacher is not None and networks.bound:
            self._check_metrics(teacher.output)
        if teacher is not None:
            for name in networks.needs_teacher:
                loss = networks.losses[name]
                loss.validate_batch(teacher.taps_for(loss))
        if y is not None:
            check_task_labels(self.distiller, y)
        self._check_positions(y, sample_weight)
        if y is not None:
            self._check_sparse_labels(y)
            self.distiller._view_schedule().check_labels(y)

    def _check_metrics(self, teacher_output):
        networks = self.distiller._networks()
        for metric in self.distiller._current_logs().of_teacher:
            task = getattr(metric, "task", None)
            if not hasattr(metric, "thresholds"):
                continue
            if task is not None:
                check_compared(networks, metric, task)
            elif not networks.comparable:
                networks.check_comparable(
                    metric, teacher_output, networks.student_output_shape
                )

    def _check_strategy(self):
        from keras_distill._distribute import strategies

        distiller = self.distiller
        strategy = distiller.distribute_strategy
        strategies.check_strategy(strategy)
        for network, role in self._networks():
            strategies.check_scope(network, role, strategy)
            if role == "student" and not self._checked:
                strategies.warn_of_local_statistics(network, strategy)

    def _networks(self):
        """Returns pairs of a network (or `None`) and its role."""
        networks = self.distiller._networks()
        return (networks.student, "student"), (networks.teacher, "teacher")

    def _running_networks(self, cached):
        """A dict role -> network; `cached`: the teacher does not run."""
        networks = dict(self.distiller._trained_networks())
        if cached:
            networks.pop("teacher", None)
        return networks

    def _check_batch(self, batch, of_one_replica=False):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        check_sample_weight(sample_weight)
        check_images(unpacked(x).inputs, "x")
        rows = number_of_rows(keras.tree.flatten(unpacked(x).inputs)[0])
        strategy = self.distiller.distribute_strategy
        replicas = 1 if of_one_replica else strategy.num_replicas_in_sync
        networks = self._running_networks(unpacked(x).teacher_outputs)
        check_rows(networks, rows, replicas)
        batch = first_streams(networks, (x, y, sample_weight), rows, replicas)
        x, y, sample_weight = batch
        self.check(x, y, sample_weight)
        check_task_weights(self.distiller, sample_weight)
        if not of_one_replica:
            from keras_distill._distribute import strategies

            strategies.check_batch_size(rows, strategy)
        self.batch = self.standardized(batch)

    def standardized(self, batch):
        """Returns `(x, y, sample_weight)` as the networks see them."""
        x, y, sample_weight = keras.tree.map_structure(
            array_or_tensor, plain_batch(batch)
        )
        sample_weight = weight_of_each_position(
            sample_weight,
            self.distiller._networks().student_output_shape,
            self.distiller.loss,
        )
        return x, self.distiller.views.evaluation_labels(y), sample_weight

    def _check_labels_are_there(self, y):
        distiller = self.distiller
        if y is not None:
            return
        if distiller.alpha != 1.0:
            raise ValueError(
                "The data has no labels, but the task loss is part of the "
                f"objective while alpha < 1 (alpha={distiller.alpha}). Pass "
                "labels, or construct the Distiller with alpha=1 for pure "
                "distillation."
            )
        for name, loss in distiller._networks().losses.items():
            if loss.needs_labels:
                raise ValueError(
                    f"Distillation loss '{name}' needs labels, but the data "
                    "has none."
                )

    def _needing_index(self):
        """Returns the losses that need to know which samples they see."""
        losses = self.distiller._networks().losses.items()
        return {n: loss for n, loss in losses if loss.needs_sample_index}

    def _check_sample_index(self, sample):
        index = sample.sample_index
        if index is None:
            for name in self._needing_index():
                raise ValueError(
                    f"Distillation loss '{name}' needs the index of every "
                    "sample in the data set, but this data carries none. Add "
                    "it before shuffling and batching: "
                    "kd.views.indexed(dataset); for arrays, "
                    "fit(kd.views.indexed(x), y) or kd.datasets.batches(x, y, "
                    "indexed=True)."
                )
            return
        index = np.asarray(index)
        inputs = keras.tree.flatten(sample.inputs)[0]
        if index.shape != (number_of_rows(inputs),):
            raise ValueError(
                "The data must carry one index per sample. Received: indices "
                f"of shape {index.shape} with inputs of shape "
                f"{tuple(inputs.shape)}. Call kd.views.indexed before "
                ".batch(); a dataset of batches is taken apart by .unbatch()."
            )
        self._check_index(index)

    def _check_index(self, index):
        for loss in self._needing_index().values():
            loss.validate_batch(sample_index=index)

    def _check_positions(self, y, sample_weight):
        shape = self.distiller._networks().student_output_shape
        loss = self.distiller.loss
        tasks = self.distiller._tasks()
        if tasks is None or not isinstance(shape, dict):
            check_positions(y, sample_weight, shape, loss)
            return
        # check_task_weights is for weights of each task.
        each = keras.tree.is_nested(sample_weight)
        losses = by_task(loss, tasks.names, "loss")
        for task in tasks.names:
            check_positions(
                label_of(y, task, tasks.names),
                None if each else sample_weight,
                shape[task],
                losses[task],
                f"Output '{task}': ",
            )

    def _check_sparse_labels(self, y):
        """Sparse labels must be classes of the student."""
        shape = self.distiller._networks().student_output_shape
        loss = self.distiller.loss
        tasks = self.distiller._tasks()
        if tasks is not None and isinstance(shape, dict):
            losses = by_task(loss, tasks.names, "loss")
            for task in tasks.names:
                labels = label_of(y, task, tasks.names)
                if labels is not None and losses[task] is not None:
                    check_sparse_labels(
                        labels, shape[task], losses[task], f"y['{task}']: "
                    )
        elif not (keras.tree.is_nested(y) or keras.tree.is_nested(shape)):
            check_sparse_labels(y, shape, loss)
