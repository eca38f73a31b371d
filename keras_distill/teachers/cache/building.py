"""The one pass of the teacher over the data, which may be killed at any moment.

What is done is what the header lists: a shard is written to a file of another
name, renamed, and then listed in a header that is replaced as a whole.
"""

import os
import time

import keras
import numpy as np
import tensorflow as tf

from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_integer
from keras_distill._data.values import check_images
from keras_distill._keras.recurrent_states import RecurrentStates
from keras_distill._keras.recurrent_states import number_of_streams
from keras_distill._progress import ProgressBar
from keras_distill.teachers.cache import folder
from keras_distill.teachers.cache import shards
from keras_distill.teachers.cache import source
from keras_distill.teachers.cache import stream_positions
from keras_distill.teachers.cache.encoding import columns_of
from keras_distill.teachers.cache.forward import Forward
from keras_distill.teachers.cache.header import FORMAT
from keras_distill.teachers.cache.header import VERSION
from keras_distill.teachers.cache.header import shard_name
from keras_distill.teachers.cache.options import StoredOutputs
from keras_distill.teachers.cache.options import TeacherRun
from keras_distill.teachers.cache.origin import teacher_description
from keras_distill.teachers.cache.origin import views_description
from keras_distill.teachers.roles import as_teacher
from keras_distill.views import Views
from keras_distill.views.augmented import checked_views


def build(
    teacher, dataset, path, *, views, epochs, outputs, run, overwrite, verbose
):
    """See `TeacherCache.build`."""
    teacher = as_teacher(teacher)
    if not isinstance(teacher, keras.Model) or not teacher.built:
        raise TypeError(
            "teacher must be a trained keras.Model, or a list of them. "
            f"Received: {teacher!r}"
        )
    views = _replayable(views)
    checked_integer("epochs", epochs)
    checked_boolean("overwrite", overwrite)
    checked_boolean("verbose", verbose)
    outputs = _checked("outputs", outputs, StoredOutputs)
    run = _checked("run", run, TeacherRun)
    streams = number_of_streams(teacher)
    batch_size = run.batch_size_for(views, streams)
    forward = Forward(teacher, views, outputs, run.dtype)
    if streams is None:
        batches, samples = source.ordered_batches(dataset, batch_size, teacher)
    else:
        batches, samples = stream_positions.ordered_batches(dataset, teacher)
    first = next(iter(batches), None)
    if first is None:
        raise ValueError("dataset is empty: there is not one sample.")
    source.check_in_order(first[1].numpy(), 0)
    shapes = forward.shapes(*first)
    columns = columns_of(shapes, outputs.dtype, outputs.top_k)
    bytes_per_view = sum(column.bytes for column in columns)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "complete": False,
        "teacher": teacher_description(teacher),
        "teacher_dtype": run.dtype,
        "views": views_description(views),
        "varies": bool(views.teacher_varies),
        "samples": samples,
        "epochs": epochs if views.teacher_varies else 1,
        "batch_size": batch_size,
        "samples_per_shard": run.samples_per_shard_for(
            batch_size, bytes_per_view
        ),
        "dtype": outputs.dtype,
        "top_k": outputs.top_k,
        "temperature": (
            None if outputs.top_k is None else float(outputs.temperature)
        ),
        "outputs": shapes,
        "inputs": None,
        "shards": [],
    }
    if streams is not None:
        header["streams"] = streams
    in_memory = not isinstance(dataset, tf.data.Dataset)

    def parts(header):
        return source.parts_to_compare(batches, header, in_memory)

    header = folder.started(path, header, parts, overwrite)
    if header["complete"]:
        if verbose:
            print(f"TeacherCache: '{path}' is complete.")
        return
    builder = _Builder(path, header, batches, forward, bytes_per_view, verbose)
    with builder.states.kept():
        builder.build()


class _Builder:
    """Goes over the data, from where the header says that it stopped."""

    def __init__(self, path, header, batches, forward, bytes_per_view, verbose):
        self.path, self.header = path, header
        self.batches, self.forward = batches, forward
        self.bytes_per_view, self.verbose = bytes_per_view, verbose
        self.states = RecurrentStates(forward.teacher)

    def build(self):
        header, began = self.header, time.perf_counter()
        done = sum(s["samples"] for s in header["shards"])
        bar = self._announced(done)
        for epoch in range(header["epochs"]):
            self._build_epoch(epoch, bar)
        inputs = self.path / folder.INPUTS
        header["inputs"] = {
            "file": folder.INPUTS,
            "bytes": inputs.stat().st_size,
            "sha256": folder.sha256(inputs),
        }
        header["complete"] = True
        folder.write_header(self.path, header)
        if self.verbose:
            views = header["samples"] * header["epochs"] - done
            seconds = time.perf_counter() - began
            size = sum(s["bytes"] for s in header["shards"])
            bar.finish()
            print(
                f"TeacherCache: {views} views in {seconds:.1f} s "
                f"({views / seconds:.0f} per second); '{self.path}' has "
                f"{size / 1e6:.2f} MB."
            )

    def _build_epoch(self, epoch, bar):
        """Writes the missing shards of one epoch."""
        header, size = self.header, self.header["samples_per_shard"]
        start = folder.samples_done(header, epoch)
        if start == header["samples"]:
            return
        parts, rows, checksums = [], 0, []
        before = np.fromfile(self.path / folder.INPUTS, "<u4")
        self.states.zero()
        # A state goes on: streams are read from their beginning.
        position = 0 if header.get("streams") else start
        data = self.batches.skip(position // header["batch_size"]).prefetch(2)
        for inputs, index in data:
            if position < start:
                self.forward.stored(inputs, index, epoch, position)
                position += len(index)
                continue
            # A shard is written when it is known whether it is the last.
            if rows == size:
                self._write_shard(epoch, parts, checksums)
                parts, rows, checksums = [], 0, []
            source.check_in_order(index.numpy(), position)
            check_images(inputs, "dataset", position)
            sums = source.checksums(inputs)
            if epoch == 0:
                checksums.append(sums)
            else:
                _check_repeated(sums, before[position:], position, epoch)
            parts.append(self.forward.stored(inputs, index, epoch, position))
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
        self._write_shard(epoch, parts, checksums)

    def _write_shard(self, epoch, parts, checksums):
        header = self.header
        done = [s for s in header["shards"] if s["epoch"] == epoch]
        start = folder.samples_done(header, epoch)
        if checksums:
            with open(self.path / folder.INPUTS, "r+b") as stream:
                stream.truncate(4 * start)  # What a killed run added.
                stream.seek(4 * start)
                stream.write(np.concatenate(checksums).tobytes())
                stream.flush()
                os.fsync(stream.fileno())
        arrays = {
            name: np.concatenate([part[name] for part in parts])
            for name in parts[0]
        }
        name = shard_name(epoch, len(done))
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
        folder.write_header(self.path, header)

    def _announced(self, done):
        if not self.verbose:
            return None
        samples, epochs = self.header["samples"], self.header["epochs"]
        total = samples and samples * epochs
        expected = "an unknown number of samples"
        if samples:
            size = total * self.bytes_per_view / 1e6
            expected = f"{samples} samples = {size:.2f} MB"
        print(
            f"TeacherCache: {self.bytes_per_view} bytes per view x {epochs} "
            f"epoch(s) x {expected} in '{self.path}'."
        )
        if done:
            print(f"TeacherCache: going on after {done} views.")
        return ProgressBar(total, "view")


def _check_repeated(checksums, before, position, epoch):
    """Raises unless samples are those of the first pass over the data."""
    shared = min(len(checksums), len(before))
    wrong = np.flatnonzero(checksums[:shared] != before[:shared])
    if len(wrong):
        raise ValueError(
            f"dataset gives other samples in epoch {epoch} than in epoch 0, "
            f"such as sample {position + wrong[0]}. It must give the same "
            "samples in the same order in every pass: leave out shuffle, "
            "random augmentation and .interleave without deterministic=True."
        )


def _replayable(views):
    """Returns views whose draws can be repeated."""
    views = checked_views(views)
    if views is None:
        return Views(name="views")
    if not views.replayable:
        raise ValueError(
            "Augmentation layers of Keras and keras-cv draw their own random "
            "numbers, so the student cannot be shown later what the teacher "
            "sees now. Leave them out, or train with a live teacher."
        )
    return views


def _checked(argument, value, kind):
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise TypeError(
            f"{argument} must be a kd.teachers.{kind.__name__}. Received: "
            f"{value!r} of type {type(value).__name__}"
        )
    return value
