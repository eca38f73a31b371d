"""The first batch, looked at before the first step.

Errors in the data, and in how data and networks fit together, come here, with
a message, and not out of a traced graph. Connectors of networks that show
their shapes only on data (subclassed, unbuilt) are built here too.
"""

import types

import keras
import numpy as np

from keras_distill._data.batch_fields import carries_teacher_outputs
from keras_distill._data.batch_fields import plain_batch
from keras_distill._data.batch_fields import unpacked
from keras_distill._data.batch_fields import with_checked_index
from keras_distill._data.sources import _chained
from keras_distill._data.sources import _check_it_ends
from keras_distill._data.sources import _first
from keras_distill._data.sources import _nothing
from keras_distill._data.sources import are_arrays
from keras_distill._keras.precision import run_first
from keras_distill._training.outputs import ForwardOutputs
from keras_distill.losses.values import look_like_probabilities
from keras_distill.taps.taps import Shape
from keras_distill.teachers.cache.cached_outputs import check_cached
from keras_distill.teachers.cache.cached_outputs import teacher_threshold
from keras_distill.views import for_network


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
            `x`; for a generator one that gives the first batch again; for a
            dataset of which a loss needs the index, one that checks it.
        """
        import tensorflow as tf

        self._check_strategy()
        if isinstance(x, tf.data.Dataset):
            if arguments.get("steps_per_epoch") is None:
                _check_it_ends(x)
            # A dataset of a kind that was checked before is not started
            # again: its shuffle buffer would be filled for nothing. But caches
            # of different teachers and views give data of one kind.
            spec = (
                str(x.element_spec),
                id(self.distiller._networks().teacher),
            )
            if spec not in self._checked or carries_teacher_outputs(x):
                self._check_batch(_first(x))
                self._checked.add(spec)
            if self._needing_index():
                return with_checked_index(x, self._check_index)
        elif isinstance(x, tf.distribute.DistributedDataset):
            local = (
                self.distiller.distribute_strategy.experimental_local_results
            )
            self._check_batch(
                tf.nest.map_structure(lambda v: local(v)[0], _first(x)),
                of_one_replica=True,
            )
        elif isinstance(x, keras.utils.PyDataset):
            if x.num_batches == 0:
                raise _nothing()
            self._check_batch(x[0])
        elif isinstance(x, types.GeneratorType):
            batch = _first(x)
            self._check_batch(batch)
            return _chained(batch, x)
        elif are_arrays(x):
            size = arguments.get("batch_size") or 32
            if any(len(a) == 0 for a in keras.tree.flatten(x)):
                raise _nothing()
            self._check_sample_index(unpacked(x))
            if arguments.get("shuffle", True):
                self.distiller._view_schedule().check_shuffled(
                    unpacked(x), size
                )
            self._check_batch(
                keras.tree.map_structure(
                    lambda a: None if a is None else a[:size], (x, y)
                )
            )
        # Anything else (None, a torch DataLoader) is Keras's to judge.
        return x

    def forget(self):
        """Data of kinds that were checked is checked again."""
        self._checked.clear()

    def check_kind(self, x, y=None):
        """Checks a batch, if it is the first of its kind."""
        kinds = keras.tree.map_structure(
            lambda a: a if a is None else (np.shape(a)[1:], str(a.dtype)),
            (unpacked(x), y),
        )
        kind = (str(kinds), id(self.distiller._networks().teacher))
        cached = unpacked(x).teacher_outputs is not None
        if kind not in self._checked or cached:
            self.check(x, y)
            self._checked.add(kind)

    def check(self, x, y=None):
        """Checks one batch against networks, losses and objective."""
        self._check_labels_are_there(y)
        self._check_sample_index(unpacked(x))
        pair = self.distiller._networks()
        cached = unpacked(x).teacher_outputs
        if cached is not None:
            check_cached(cached, self.distiller)
        elif pair.needs_teacher and pair.teacher is None:
            raise ValueError(
                f"The losses {pair.needs_teacher} need a teacher and there is "
                "none. Give `teacher=` at construction or call "
                "`distiller.set_teacher(teacher)`; for a saved Distiller, "
                "`kd.load_distiller(path, teacher=teacher)`. Or data with a "
                "teacher's outputs: `kd.TeacherCache(path).join(dataset)`."
            )
        self.distiller._view_schedule().check(unpacked(x))
        x = unpacked(x).inputs
        x = keras.tree.map_structure(keras.ops.convert_to_tensor, x)
        teacher = self._teacher_values(x, cached)
        of_teacher = teacher_threshold(cached)
        if of_teacher is None and teacher is not None:
            of_teacher = _threshold_seen(pair.teacher, teacher.output)
        self._build(x, teacher, (of_teacher, self._student_threshold()))
        if teacher is not None:
            for name in pair.needs_teacher:
                loss = pair.losses[name]
                loss.validate_batch(teacher.of(loss.teacher_layer_name))
        if y is not None:
            self._check_sparse_labels(y)
            self.distiller._view_schedule().check_labels(y)

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
        """Pairs of a network (or `None`) and its role."""
        pair = self.distiller._networks()
        return (pair.student, "student"), (pair.teacher, "teacher")

    def _check_batch(self, batch, of_one_replica=False):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        self.check(x, y)
        if not of_one_replica:
            from keras_distill._distribute import strategies

            strategies.check_batch_size(
                len(keras.tree.flatten(unpacked(x).inputs)[0]),
                self.distiller.distribute_strategy,
            )
        self.batch = self.plain(batch)

    def plain(self, batch):
        """`(x, y, sample_weight)` as the networks see them."""
        # A DataFrame has no dtype.
        batch = keras.tree.map_structure(
            lambda a: a if a is None or hasattr(a, "dtype") else np.asarray(a),
            plain_batch(batch),
        )
        x, y, sample_weight = batch
        return x, self.distiller.views.evaluation_labels(y), sample_weight

    def _check_labels_are_there(self, y):
        distiller = self.distiller
        if y is not None:
            return
        if distiller.alpha != 1.0:
            raise ValueError(
                "The data has no labels, but the task loss is part of the "
                f"objective while alpha < 1 (alpha={distiller.alpha}). Give "
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
        """The losses that are to be told which samples they see."""
        losses = self.distiller._networks().losses.items()
        return {n: loss for n, loss in losses if loss.needs_sample_index}

    def _check_sample_index(self, sample):
        index = sample.sample_index
        if index is None:
            for name in self._needing_index():
                raise ValueError(
                    f"Distillation loss '{name}' needs the index of every "
                    "sample in the data set, and this data carries none. Give "
                    "it one before shuffling and batching: "
                    "kd.views.indexed(dataset); for arrays, "
                    "fit(kd.views.indexed(x), y) or kd.datasets.batches(x, y, "
                    "indexed=True)."
                )
            return
        index = np.asarray(index)
        inputs = keras.tree.flatten(sample.inputs)[0]
        if index.shape != (len(inputs),):
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

    def _teacher_values(self, x, cached):
        """The teacher on the batch as NumPy arrays, `None` without one."""
        distiller, pair = self.distiller, self.distiller._networks()
        if pair.teacher is None and cached is None:
            return None

        from keras_distill._keras.once_in_graph import once_in_graph

        def run(own_precision):
            def teacher_pass(x):
                return pair.teacher_pass(x, None, own_precision)

            if distiller.run_eagerly or pair.teacher_batch_size is not None:
                return _as_numpy(teacher_pass(x))
            # Eagerly, a Functional model holds the outputs of all its layers
            # until its end: more than the whole training step.
            return _as_numpy(once_in_graph(teacher_pass, x))

        with distiller.distribute_strategy.scope():
            x = distiller.views.teacher_evaluation(x)
            if cached is not None:
                return _as_numpy(pair.teacher_pass(x, cached))
            return run_first(
                run,
                pair.teacher_dtype,
                pair.teacher.name,
                lambda seen: [
                    seen.taps_for(pair.losses[name])
                    for name in pair.needs_teacher
                ],
            )

    def _student_threshold(self):
        """As its loss says, where the student shows no last layer."""
        takes_logits = getattr(self.distiller.loss, "from_logits", None)
        shown = getattr(self.distiller.student, "outputs", None)
        return 0.5 if takes_logits is False and shown is None else None

    def _build(self, x, teacher, thresholds):
        """Builds the student and, with the shapes now known, the losses."""
        distiller = self.distiller
        pair = distiller._networks()
        x = distiller.views.evaluation(x)
        x = for_network(distiller.student, x, "student")
        free = lambda a: (None, *a.shape[1:])  # noqa: E731
        with distiller.distribute_strategy.scope():
            if not distiller.student.built:
                distiller.student(keras.tree.map_structure(lambda a: a[:1], x))
            distiller.built = True
            if pair.bound:
                return
            specs = keras.tree.map_structure(
                lambda a: keras.KerasTensor(free(a), a.dtype.name), x
            )
            shapes = pair.student_taps.shapes_on(specs)
            if teacher is not None:
                teacher = keras.tree.map_structure(
                    lambda a: Shape(free(a)), teacher
                )
            pair.bind(teacher, ForwardOutputs(*shapes), thresholds)
        distiller.views.set_output_shape(pair.student_output_shape)

    def _check_sparse_labels(self, y):
        """Sparse labels must be classes of the student."""
        shape = self.distiller._networks().student_output_shape
        if keras.tree.is_nested(y) or keras.tree.is_nested(shape):
            return
        y = np.asarray(y)
        classes = shape[-1]
        sparse = np.issubdtype(y.dtype, np.integer) and (
            y.ndim == len(shape) - 1
            or (y.ndim == len(shape) and y.shape[-1] == 1)
        )
        if not sparse or not classes or classes == 1:
            return
        wrong = y[(y < 0) | (y >= classes)]
        ignored = getattr(self.distiller.loss, "ignore_class", None)
        if ignored is not None:
            wrong = wrong[wrong != ignored]
        if wrong.size:
            raise ValueError(
                f"Labels must lie in [0, {classes - 1}]: the student has "
                f"{classes} classes. The first batch has {wrong.size} "
                f"other(s), such as {int(wrong[0])}."
            )


def _threshold_seen(teacher, values):
    """Where a head of one unit says yes, by what it says, if the teacher shows
    no last layer; else `None`."""
    shown = getattr(teacher, "outputs", None)
    if shown is not None or keras.tree.is_nested(values):
        return None
    one = values.shape[-1] == 1
    return 0.5 if one and look_like_probabilities(values, "sigmoid") else None


def _as_numpy(seen):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, seen)
