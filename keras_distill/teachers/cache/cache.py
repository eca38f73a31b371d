"""`TeacherCache`: what the user builds, opens and joins."""

import os
import pathlib

from keras_distill.teachers.cache import building
from keras_distill.teachers.cache import header as headers
from keras_distill.teachers.cache import joining
from keras_distill.teachers.cache.encoding import columns_of
from keras_distill.teachers.cache.folder import check_same
from keras_distill.teachers.cache.origin import teacher_description
from keras_distill.teachers.cache.part import part_of


class TeacherCache:
    """A teacher's outputs on a data set, computed once, read in training.

    `build` runs the teacher over the data; `join` adds what it gave to a
    training pipeline, by the index of each sample. A `kd.Distiller` then
    trains any number of students, without a teacher:

        L_k(teacher, student) = L_k(cache[epoch, sample index], student)

    Views that show the teacher something else in every epoch
    (`kd.views.FunctionMatching`) are replayed: the cache holds the outputs for
    the views of `epochs` epochs, and training goes around in these.

    `TeacherCache(path)` opens a cache that was built before.

    Args:
        path: The folder that `build` wrote.

    Attributes:
        path: The same, a `pathlib.Path`.
        samples: Number of samples.
        epochs: Number of epochs whose views it holds: 1 where the teacher sees
            the same in every epoch.
        bytes_per_view: Bytes that one view of one sample takes.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: for a folder that is no cache, is unfinished or damaged
            (files missing or of another size), or of another format version.

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
        Recognition", 2022 (ECCV): outputs under replayed views, and "marginal
        smoothing", the largest ones only with the rest spread evenly.
    """

    def __init__(self, path):
        self.path = pathlib.Path(os.fspath(path))
        self.header = headers.read(self.path)
        if not self.header["complete"]:
            raise ValueError(
                f"The teacher cache '{self.path}' is unfinished: "
                f"{len(self.header['shards'])} shard(s) are there. Call "
                "kd.TeacherCache.build with the same arguments again: it goes "
                "on from there."
            )
        headers.check_files(self.path, self.header)
        self._verified = set()

    @property
    def samples(self):
        return self.header["samples"]

    @property
    def epochs(self):
        return self.header["epochs"]

    @property
    def bytes_per_view(self):
        return sum(column.bytes for column in self.columns())

    def columns(self):
        """What is stored of each sample, a list of `Column`."""
        header = self.header
        return columns_of(header["outputs"], header["dtype"], header["top_k"])

    @classmethod
    def build(
        cls,
        teacher,
        dataset,
        path,
        *,
        views=None,
        epochs=1,
        top_k=None,
        temperature=1.0,
        dtype="float16",
        teacher_layer_names=None,
        teacher_dtype=None,
        batch_size=None,
        samples_per_shard=None,
        overwrite=False,
        verbose=True,
    ):
        """Runs a teacher over a data set and writes down what it says.

        Killed at any moment, the same call goes on from the last whole shard,
        and the finished folder is the same byte for byte, if the teacher is
        deterministic (on GPUs: `tf.config.experimental.
        enable_op_determinism()`). Called for a finished cache it only opens
        it; with more epochs than that has, it adds them. Before, it compares
        teacher, views and data: arrays in whole, of a pipeline the first
        batch and, where it goes on, that of the last whole shard.

        Args:
            teacher: A trained `keras.Model`, or a list of them (`kd.Ensemble`).
            dataset: The samples in fixed order: a `tf.data.Dataset` of single
                samples, `x` or `(x, y)`; arrays `x`; or batches in order that
                carry their index (`kd.datasets.batches(x, y, indexed=True)`).
                A sample's index is its position here. Labels are not looked
                at.
            path: The folder to write.
            views: The views that the Distiller will have. Defaults to `None`,
                the samples as they are.
            epochs: Number of epochs whose views to compute. One is enough, and
                all that is stored, where the teacher sees the same in every
                epoch (no views, `Preprocessing`, `FixedTeacher`). Defaults
                to 1.
            top_k: Keep only this many of the largest logits of each position,
                and the probability of the others together, which `join`
                spreads evenly over them. Defaults to `None`: all.
            temperature: With `top_k`: that of the losses. Probabilities of
                the kept classes are right at this temperature, and less so at
                others. Defaults to 1.0.
            dtype: `"float16"` rounds outputs to 1 part in 2048; `"float32"`
                does not. Defaults to `"float16"`.
            teacher_layer_names: Layers whose outputs losses will read
                (`teacher_layer_name=` of the losses): a name or a list of
                names. They are stored in whole. Defaults to `None`: the
                teacher's output alone.
            teacher_dtype: The precision that the teacher computes in, as in
                `kd.Distiller`; what is written is `dtype`'s business. Defaults
                to `None`, its own.
            batch_size: Samples of a forward pass, a multiple of the
                `group_size` of the views' mixup. Defaults to `None`: 128, or
                the next multiple above.
            samples_per_shard: Samples of a file, a multiple of `batch_size`:
                what is lost if the run is killed. Defaults to `None`: 16384,
                or fewer if they take more than 64 MiB.
            overwrite: Whether to replace a cache that is there, of whatever
                teacher, data and views. Defaults to `False`.
            verbose: Whether to print the size to expect, a progress bar and
                the throughput. Defaults to `True`.

        Returns:
            The `TeacherCache`.

        Raises:
            ValueError: for data without end, without samples or not in order;
                views that cannot be replayed; outputs that are not finite, or
                too large for float16; a folder that holds something else, or a
                cache of another teacher, data set, views or seed.
        """
        building.build(
            teacher,
            dataset,
            pathlib.Path(os.fspath(path)),
            views=views,
            epochs=epochs,
            top_k=top_k,
            temperature=temperature,
            dtype=dtype,
            teacher_layer_names=teacher_layer_names,
            teacher_dtype=teacher_dtype,
            batch_size=batch_size,
            samples_per_shard=samples_per_shard,
            overwrite=overwrite,
            verbose=verbose,
        )
        return cls(path)

    def verify(self, samples=None):
        """Raises `ValueError` unless every file is as it was written.

        Reads a file once in the life of this object; `join` calls it.

        Args:
            samples: A `range` of samples: only the files that hold these.
                Defaults to `None`: all.
        """
        entries = [
            entry
            for entry in part_of(self, samples).files(self.header)
            if entry["file"] not in self._verified
        ]
        if entries:
            headers.check_content(self.path, self.header, entries)
            self._verified.update(entry["file"] for entry in entries)

    def join(
        self,
        dataset,
        first_epoch=0,
        *,
        samples=None,
        teacher=None,
        check_inputs=True,
    ):
        """Adds the teacher's outputs to a training pipeline.

        The outputs of an epoch are read into memory as one table, and each
        batch takes its rows: `samples * bytes_per_view` bytes (twice as many
        while one epoch follows another).

        Args:
            dataset: A `tf.data.Dataset` of batches, shuffled in any way, whose
                samples carry their index in the data set that the cache was
                built from: `kd.views.indexed(samples).shuffle(n).batch(b)`,
                `kd.views.grouped_batches`, or `kd.datasets.batches(...,
                indexed=True)`.
            first_epoch: With which epoch a cache of several begins: that of
                `fit(initial_epoch=)`. Defaults to 0.
            samples: The samples that this pipeline can have, a `range` of
                indices: only the files that hold them are read, and only their
                rows kept. For one of several workers with a part of the data
                each (README, "Several devices, several machines"). Defaults to
                `None`: all.
            teacher: The teacher to compare with that of the cache. A
                Distiller that has a teacher compares it in `fit`; one that has
                none cannot. Defaults to `None`: not compared.
            check_inputs: Whether the samples of the first batch must be what
                the teacher saw, byte for byte (CRC-32), before its views. Turn
                it off if the pipeline changes them on purpose. Defaults to
                `True`.

        Returns:
            A `tf.data.Dataset` for `kd.Distiller.fit`. With one cached epoch
            it ends where `dataset` ends. With several it has no end, so `fit`
            needs `steps_per_epoch=`; each pass over `dataset` is the next
            cached epoch, after the last comes the first again. If `dataset`
            is such a stream itself (`kd.datasets.batches(seed=,
            indexed=True)`), its own epochs count.

        Raises:
            TypeError: for other data than a `tf.data.Dataset`.
            ValueError: for a pipeline without index, or of another data set; a
                damaged cache; another teacher.
        """
        if teacher is not None:
            check_same(
                self.path,
                {"teacher": teacher_description(teacher)},
                self.header,
            )
        part = part_of(self, samples)
        self.verify(samples)
        return joining.joined(self, dataset, part, first_epoch, check_inputs)

    def __repr__(self):
        return (
            f"<TeacherCache '{self.path}': {self.samples} samples x "
            f"{self.epochs} epoch(s), {self.bytes_per_view} bytes per view>"
        )
