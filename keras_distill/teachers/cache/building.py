"""The one pass of the teacher over the data, which can be killed at any moment.

What is done is what the header lists: a shard is written to a file of another
name, renamed, and then listed, in a header that is replaced as a whole.
"""

import os
import time

import keras
import numpy as np
import tensorflow as tf

from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_teacher_dtype
from keras_distill.losses.structures import as_list
from keras_distill.teachers.cache import arguments
from keras_distill.teachers.cache import header as headers
from keras_distill.teachers.cache import shards
from keras_distill.teachers.cache import source
from keras_distill.teachers.cache.encoding import columns_of
from keras_distill.teachers.cache.folder import started
from keras_distill.teachers.cache.forward import Forward
from keras_distill.teachers.cache.origin import teacher_description
from keras_distill.teachers.cache.origin import views_description
from keras_distill.teachers.roles import as_teacher
from keras_distill.views import Views

SHARD_SAMPLES, SHARD_BYTES = 2**14, 2**26


def build(
    teacher,
    dataset,
    path,
    *,
    views,
    epochs,
    top_k,
    temperature,
    dtype,
    teacher_layer_names,
    teacher_dtype,
    batch_size,
    samples_per_shard,
    overwrite,
    verbose,
):
    """See `TeacherCache.build`."""
    teacher = as_teacher(teacher)
    views = arguments.checked_views(views) or Views(name="views")
    arguments.check_teacher(teacher)
    checked_integer("epochs", epochs, least=1)
    batch_size = arguments.checked_batch_size(batch_size, views)
    arguments.check_dtype(dtype)
    temperature = checked_number("temperature", temperature)
    names = as_list(teacher_layer_names) if teacher_layer_names else []
    checked_teacher_dtype(teacher_dtype)
    run = Forward(
        teacher, views, names, dtype, top_k, temperature, teacher_dtype
    )
    batches, samples = source.ordered_batches(dataset, batch_size, teacher)
    first = next(iter(batches), None)
    if first is None:
        raise ValueError("dataset is empty: there is not one sample.")
    source.check_in_order(first[1].numpy(), 0)
    shapes = run.shapes(*first)
    columns = columns_of(shapes, dtype, top_k)
    row = sum(column.bytes for column in columns)
    samples_per_shard = arguments.checked_samples_per_shard(
        samples_per_shard, batch_size, row, SHARD_SAMPLES, SHARD_BYTES
    )
    header = {
        "format": headers.FORMAT,
        "version": headers.VERSION,
        "complete": False,
        "teacher": teacher_description(teacher),
        "teacher_dtype": teacher_dtype,
        "views": views_description(views),
        "varies": bool(views.teacher_varies),
        "samples": samples,
        "epochs": epochs if views.teacher_varies else 1,
        "batch_size": batch_size,
        "samples_per_shard": samples_per_shard,
        "dtype": dtype,
        "top_k": top_k,
        "temperature": None if top_k is None else temperature,
        "outputs": shapes,
        "inputs": None,
        "shards": [],
    }
    in_memory = not isinstance(dataset, tf.data.Dataset)

    def parts(found):
        return source.parts_to_compare(batches, found, in_memory)

    header = started(path, header, parts, overwrite)
    if header["complete"]:
        if verbose:
            print(f"TeacherCache: '{path}' is complete.")
        return
    _Builder(path, header, batches, run, row, verbose).build()


class _Builder:
    """Goes over the data, from where the header says that it stopped."""

    def __init__(self, path, header, batches, run, row, verbose):
        self.path, self.header, self.run = path, header, run
        self.batches, self.row, self.verbose = batches, row, verbose

    def build(self):
        header, began = self.header, time.perf_counter()
        done = sum(s["samples"] for s in header["shards"])
        bar = self._announced(done)
        for epoch in range(header["epochs"]):
            self._build_epoch(epoch, bar)
        inputs = self.path / headers.INPUTS
        header["inputs"] = {
            "file": headers.INPUTS,
            "bytes": inputs.stat().st_size,
            "sha256": headers.sha256(inputs),
        }
        header["complete"] = True
        headers.write(self.path, header)
        if self.verbose:
            views = header["samples"] * header["epochs"] - done
            seconds = time.perf_counter() - began
            size = sum(s["bytes"] for s in header["shards"])
            if bar.target is None:
                bar.update(done + views, finalize=True)
            print(
                f"TeacherCache: {views} views in {seconds:.1f} s "
                f"({views / seconds:.0f} per second); '{self.path}' has "
                f"{size / 1e6:.2f} MB."
            )

    def _build_epoch(self, epoch, bar):
        """Writes the missing shards of one epoch."""
        header, size = self.header, self.header["samples_per_shard"]
        start = headers.samples_done(header, epoch)
        if start == header["samples"]:
            return
        kept, rows, checksums = [], 0, []
        data = self.batches.skip(start // header["batch_size"]).prefetch(2)
        position = start
        for inputs, index in data:
            # A shard is written when it is known whether it is the last.
            if rows == size:
                self._write_shard(epoch, kept, checksums)
                kept, rows, checksums = [], 0, []
            source.check_in_order(index.numpy(), position)
            if epoch == 0:
                checksums.append(source.checksums(inputs))
            elif position == start:
                self._check_order(inputs, position, epoch)
            kept.append(self.run.stored(inputs, index, epoch, position))
            rows += len(index)
            position += len(index)
            if self.verbose:
                bar.update(epoch * (header["samples"] or 0) + position)
        if header["samples"] not in (None, position):
            raise ValueError(
                f"dataset gave {position} samples in epoch {epoch}, but "
                f"{header['samples']} before. It must give the same samples in "
                "every pass."
            )
        header["samples"] = position
        self._write_shard(epoch, kept, checksums)

    def _write_shard(self, epoch, kept, checksums):
        header = self.header
        done = [s for s in header["shards"] if s["epoch"] == epoch]
        start = headers.samples_done(header, epoch)
        if checksums:
            with open(self.path / headers.INPUTS, "r+b") as stream:
                stream.truncate(4 * start)  # What a killed run added.
                stream.seek(4 * start)
                stream.write(np.concatenate(checksums).tobytes())
                stream.flush()
                os.fsync(stream.fileno())
        arrays = {
            name: np.concatenate([part[name] for part in kept])
            for name in kept[0]
        }
        name = shards.shard_name(epoch, len(done))
        size, sha256 = shards.write(self.path, name, arrays)
        header["shards"].append(
            {
                "epoch": epoch,
                "file": name,
                "samples": len(next(iter(arrays.values()))),
                "bytes": size,
                "sha256": sha256,
            }
        )
        headers.write(self.path, header)

    def _check_order(self, inputs, position, epoch):
        found = source.checksums(inputs)
        seen = np.fromfile(self.path / headers.INPUTS, "<u4")
        if not np.array_equal(found, seen[position : position + len(found)]):
            raise ValueError(
                f"dataset gives other samples in epoch {epoch} than in epoch "
                "0. It must give the same samples in the same order in every "
                "pass: leave out shuffle and random augmentation."
            )

    def _announced(self, done):
        if not self.verbose:
            return None
        samples, epochs = self.header["samples"], self.header["epochs"]
        total = samples and samples * epochs
        expected = "an unknown number of samples"
        if samples:
            expected = f"{samples} samples = {total * self.row / 1e6:.2f} MB"
        print(
            f"TeacherCache: {self.row} bytes per view x {epochs} epoch(s) x "
            f"{expected} in '{self.path}'."
        )
        if done:
            print(f"TeacherCache: going on after {done} views.")
        return keras.utils.Progbar(total, unit_name="view")
