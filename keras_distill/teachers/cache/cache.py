"""`TeacherCache`: what the user builds, opens and joins."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_model
from keras_distill._arguments import checked_string
from keras_distill.teachers.cache import building
from keras_distill.teachers.cache import folder
from keras_distill.teachers.cache import joining
from keras_distill.teachers.cache.encoding import columns_of
from keras_distill.teachers.cache.options import StoredOutputs
from keras_distill.teachers.cache.options import TeacherRun
from keras_distill.teachers.cache.origin import teacher_description
from keras_distill.teachers.cache.shards import part_of
from keras_distill.teachers.roles import as_teacher
from keras_distill.views import Views


class TeacherCache:
    """A teacher's outputs on a data set, computed once and read in training.

    `build` runs the teacher over the data. `join` adds its outputs to a
    training pipeline, by the index of each sample. A `kd.Distiller` then
    trains any number of students without a teacher:

        L_k(teacher, student) = L_k(cache[epoch, sample index], student)

    Views that show the teacher something else in every epoch
    (`kd.views.FunctionMatching`) are replayed: the cache holds the outputs for
    the views of `epochs` epochs, and longer training repeats these.

    `TeacherCache(path)` opens a cache that was built before.

    Args:
        path: The folder that `build` wrote.

    Attributes:
        path: The folder, a `pathlib.Path`.
        samples: The number of samples.
        epochs: The number of epochs whose views it holds: 1 if the teacher
            sees the same in every epoch.
        bytes_per_view: The bytes that one view of one sample takes.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder is not a cache, is unfinished or damaged
            (files missing or of another size), or has another format version.

    Example:

    ```python
    inputs = kd.views.indexed(tf.data.Dataset.from_tensor_slices((x, y)))
    cache = kd.TeacherCache.build(teacher, inputs, "teacher_outputs")
    distiller = kd.Distiller(
        student=student, distillation_losses=kd.losses.SoftTargets()
    )
    distiller.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    distiller.fit(cache.join(inputs.shuffle(64).batch(16)), epochs=2)
    ```

    Reference:
        Shen and Xing, "A Fast Knowledge Distillation Framework for Visual
        Recognition", 2022 (ECCV): outputs under replayed views.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = as_path("path", path)
        self.header = folder.read_header(self.path)
        if not self.header["complete"]:
            raise ValueError(
                f"The teacher cache '{self.path}' is unfinished: "
                f"{len(self.header['shards'])} shard(s) are there. Call "
                "kd.TeacherCache.build with the same arguments again: it "
                "continues from there."
            )
        folder.check_files(self.path, self.header)
        self._verified: set[str] = set()

    @property
    def samples(self) -> int:
        return self.header["samples"]

    @property
    def epochs(self) -> int:
        return self.header["epochs"]

    @property
    def bytes_per_view(self) -> int:
        return sum(column.bytes for column in self.columns())

    def columns(self):
        """Returns what is stored of each sample, a list of `Column`."""
        header = self.header
        return columns_of(header["outputs"], header["dtype"], header["top_k"])

    @classmethod
    def build(
        cls,
        teacher: keras.Model | Sequence[keras.Model],
        dataset: Any,
        path: str | os.PathLike,
        *,
        views: Views | None = None,
        epochs: int = 1,
        outputs: StoredOutputs | None = None,
        run: TeacherRun | None = None,
        overwrite: bool = False,
        verbose: bool = True,
    ) -> "TeacherCache":
        """Runs a teacher over a data set and writes down what it says.

        If the run is killed, the same call continues from the last whole
        shard, and the finished folder is the same byte for byte, provided that
        the teacher is deterministic (on GPUs:
        `tf.config.experimental.enable_op_determinism()`). For a finished cache
        the call only opens it; with more epochs than the cache has, it adds
        them. First it compares teacher, views and data: arrays as a whole, of
        a pipeline the first batch and that of the last whole shard.

        Args:
            teacher: A trained `keras.Model`, or a list of them (`kd.Ensemble`).
            dataset: The samples in fixed order: a `tf.data.Dataset` of single
                samples, `x` or `(x, y)`; arrays `x`; or batches in order that
                carry their index (`kd.datasets.batches(x, y, indexed=True)`).
                The index of a sample is its position here. Labels are ignored.
                For a teacher with `stateful=True` layers: batches of streams
                in order (`kd.datasets.language_model`), which begin with
                states of zero. Row b of the k-th of batches of B has the index
                k * B + b.
            path: The folder to write.
            views: The views that the Distiller will have. Defaults to `None`,
                the samples as they are.
            epochs: The number of epochs whose views to compute. If the teacher
                sees the same in every epoch (no views, `Preprocessing`,
                `FixedTeacher`), one is enough and only one is stored. Defaults
                to 1.
            outputs: What to store, a `kd.teachers.StoredOutputs`. Defaults to
                all of the teacher's output, in float16 (probabilities: in
                float32).
            run: The teacher's precision, its batch size and the size of a
                file, a `kd.teachers.TeacherRun`.
            overwrite: Whether to replace an existing cache, of whatever
                teacher, data and views. Defaults to `False`.
            verbose: Whether to print the expected size, a progress bar and
                the throughput. Defaults to `True`.

        Returns:
            The `TeacherCache`.

        Raises:
            ValueError: If the data has no end, no samples or another order; if
                the views cannot be replayed; if an output is not finite, or
                too large for float16; if the folder holds something else, or
                the cache of another teacher, data set, views or seed.

        Example:

        ```python
        cache = kd.TeacherCache.build(
            teacher,
            x_train,
            "teacher_outputs",
            outputs=kd.teachers.StoredOutputs(top_k=2),
            run=kd.teachers.TeacherRun(batch_size=64),
        )
        ```
        """
        building.build(
            teacher,
            dataset,
            as_path("path", path),
            views=views,
            epochs=epochs,
            outputs=outputs,
            run=run,
            overwrite=overwrite,
            verbose=verbose,
        )
        return cls(path)

    def verify(self, samples: range | None = None) -> None:
        """Checks that every file is as it was written.

        A file is read once in the life of this object. `join` calls this.

        Args:
            samples: A `range` of samples: only the files that hold these are
                checked. Defaults to all.

        Raises:
            ValueError: If a file is missing or damaged.
        """
        entries = [
            entry
            for entry in part_of(self, samples).files(self.header)
            if entry["file"] not in self._verified
        ]
        if entries:
            folder.check_content(self.path, self.header, entries)
            self._verified.update(entry["file"] for entry in entries)

    def join(
        self,
        dataset: tf.data.Dataset,
        first_epoch: int = 0,
        *,
        samples: range | None = None,
        teacher: keras.Model | None = None,
        check_inputs: bool = True,
        name: str | None = None,
    ) -> tf.data.Dataset:
        """Adds the teacher's outputs to a training pipeline.

        The outputs of an epoch are read into memory as one table of `samples *
        bytes_per_view` bytes (two tables while one epoch follows another), and
        each batch takes its rows.

        Args:
            dataset: A `tf.data.Dataset` of batches, shuffled in any way, whose
                samples carry their index in the data set that the cache was
                built from: `kd.views.indexed(samples).shuffle(n).batch(b)`,
                `kd.views.grouped_batches`, or `kd.datasets.batches(...,
                indexed=True)`. With a stateful teacher: the very batches that
                the cache was built from, in order; they need no index.
            first_epoch: The epoch that a cache of several starts with: that of
                `fit(initial_epoch=)`. Defaults to 0.
            samples: The samples that this pipeline can have, a `range` of
                indices: only their files are read, and only their rows are
                kept. For one of several workers that have a part of the data
                each (docs/several_machines.md). Defaults to all.
            teacher: The teacher to compare with that of the cache. A
                Distiller with a teacher compares it in `fit`; one without a
                teacher cannot. Defaults to `None`: not compared.
            check_inputs: Whether the samples of the first batch must be what
                the teacher saw, byte for byte (CRC-32), before its views. Turn
                it off if the pipeline changes them on purpose. Defaults to
                `True`.
            name: Of several teachers, which one this is: its name in
                `kd.Teachers`. Pipelines of several caches are joined one
                after the other. Defaults to `None`: it is the only teacher.

        Returns:
            A `tf.data.Dataset` for `kd.Distiller.fit`. With one cached epoch
            it ends where `dataset` ends. With several it has no end, so `fit`
            needs `steps_per_epoch=`: each pass over `dataset` is the next
            cached epoch, and the first follows the last. If `dataset` is such
            a stream itself (`kd.datasets.batches(seed=, indexed=True)`), its
            own epochs count.

        Raises:
            TypeError: If `dataset` is not a `tf.data.Dataset`.
            ValueError: If the pipeline has no index or is of another data set,
                the cache is damaged, or the teacher is another one.
        """
        checked_integer("first_epoch", first_epoch, least=0)
        checked_boolean("check_inputs", check_inputs)
        checked_string("name", name, or_none=True)
        if teacher is not None:
            teacher = checked_model("teacher", as_teacher(teacher))
            folder.check_same(
                self.path,
                {"teacher": teacher_description(teacher)},
                self.header,
            )
        part = part_of(self, samples)
        self.verify(samples)
        return joining.joined(
            self, dataset, part, first_epoch, check_inputs, name
        )

    def __repr__(self):
        return (
            f"<TeacherCache '{self.path}': {self.samples} samples x "
            f"{self.epochs} epoch(s), {self.bytes_per_view} bytes per view>"
        )
