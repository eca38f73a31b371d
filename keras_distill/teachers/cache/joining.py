"""A cache's outputs, added to the samples of a training pipeline."""

import keras
import numpy as np
import tensorflow as tf

from keras_distill._data import batch_fields
from keras_distill._data.sources import first_batch
from keras_distill._data.sources import unsupported
from keras_distill.teachers.cache import folder
from keras_distill.teachers.cache import shards
from keras_distill.teachers.cache import source
from keras_distill.teachers.cache import stream_positions
from keras_distill.teachers.cache.encoding import decoded
from keras_distill.teachers.cache.origin import origin_of
from keras_distill.views.mixup import advice


def joined(cache, dataset, part, first_epoch, check_inputs, name):
    """See `TeacherCache.join`; `part`: a `Part` of the cache."""
    dataset = stream_positions.of_cache(dataset, cache)
    _check_pipeline(dataset, name)
    if check_inputs or cache.epochs > 1:
        # Several passes over nothing would never end.
        batch = first_batch(dataset)
    if check_inputs:
        check = _InputsCheck(cache, part)
        check.look(batch)
        dataset = check.applied(dataset)
    knows_epochs = batch_fields.sample_spec(dataset).epoch is not None
    if knows_epochs and first_epoch:
        raise ValueError(
            "first_epoch must be 0 for a pipeline that knows its epochs "
            "itself: pass it to kd.datasets.batches(first_epoch=) "
            f"instead. Received: first_epoch={first_epoch}."
        )
    # If the teacher sees the same in every epoch, the epoch is only the
    # student's.
    if cache.header["varies"]:
        dataset = _with_cached_epoch(cache, dataset, knows_epochs, first_epoch)
    if cache.epochs == 1:
        with tf.device("CPU"):  # where tf.data reads; no GPU memory for it
            table = _load(cache, part, 0)
        joined = _mapped(
            dataset, lambda batch: _with_rows(cache, part, batch, table, name)
        )
    else:
        joined = _with_table_per_epoch(cache, part, dataset, name)
    return joined.prefetch(2)


def _with_cached_epoch(cache, dataset, knows_epochs, first_epoch):
    """Adds to every batch the number of the cached epoch it belongs to."""
    if knows_epochs:
        return _mapped(dataset, lambda batch: _in_cached_epoch(cache, batch))
    if cache.epochs == 1:
        return _mapped(dataset, lambda batch: batch_fields.with_epoch(batch, 0))
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "This pipeline never ends and does not say which epoch a batch "
            f"belongs to, but the cache holds {cache.epochs} epochs of views. "
            "Leave out .repeat(): what join gives has no end anyway."
        )
    epochs = tf.data.Dataset.counter(first_epoch)
    stream = epochs.flat_map(
        lambda epoch: _mapped(
            dataset,
            lambda batch: batch_fields.with_epoch(batch, epoch % cache.epochs),
        )
    )
    # flat_map forgets that there is no end.
    endless = tf.data.experimental.assert_cardinality(-1)
    return stream.apply(endless)


def _in_cached_epoch(cache, batch):
    sample = batch_fields.unpacked_batch(batch)[0]
    epoch = sample.epoch % cache.epochs
    if sample.teacher_outputs is not None:
        tf.debugging.assert_equal(
            epoch,
            sample.epoch,
            f"The cache '{cache.path}' holds {cache.epochs} epochs of views, "
            "fewer than the cache that was joined before. Join the one with "
            "the fewest epochs first.",
        )
    return batch_fields.with_epoch(batch, epoch)


def _with_table_per_epoch(cache, part, dataset, name):
    """Reads the table again whenever the epoch of the batches changes."""
    empty = {c.name: tf.zeros([0, *c.shape], c.dtype) for c in cache.columns()}

    @tf.autograph.experimental.do_not_convert
    def step(state, batch):
        current, table = state
        epochs = batch_fields.unpacked_batch(batch)[0].epoch
        epoch = epochs[0]
        tf.debugging.assert_equal(
            epochs, epoch, "A batch must belong to one epoch: batch first."
        )
        table = tf.cond(
            tf.equal(epoch, current),
            lambda: table,
            lambda: _load(cache, part, epoch),
        )
        for column in cache.columns():
            table[column.name].set_shape([None, *column.shape])
        return (epoch, table), _with_rows(cache, part, batch, table, name)

    joined = dataset.scan((tf.constant(-1), empty), step)
    endless = dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    if endless and joined.cardinality() != tf.data.INFINITE_CARDINALITY:
        joined = joined.apply(tf.data.experimental.assert_cardinality(-1))
    return joined


def _mapped(dataset, function, **kwargs):
    whole = isinstance(dataset.element_spec, tuple)
    # There is no Python control flow to convert; looking for it is slow.
    return dataset.map(
        tf.autograph.experimental.do_not_convert(
            lambda *batch: function(batch if whole else batch[0])
        ),
        **kwargs,
    )


def _load(cache, part, epoch):
    """Reads the table of an epoch, a dict column name -> `(samples, ...)`."""
    names = [
        [str(cache.path.absolute() / entry["file"]) for entry in entries]
        for entries in part.shards
    ]
    files = tf.constant(names)[epoch]
    table = shards.read(files, cache.columns(), part.rows)
    first = part.samples.start - part.start
    return {
        name: rows[first : first + len(part.samples)]
        for name, rows in table.items()
    }


def _with_rows(cache, part, batch, table, name):
    index = batch_fields.unpacked_batch(batch)[0].sample_index
    header = cache.header
    _check_groups(index, header)
    place = index - part.samples.start
    rows = {name: tf.gather(array, place) for name, array in table.items()}
    outputs = decoded(
        rows, header["outputs"], header["top_k"], header["temperature"]
    )
    origin = tf.constant(origin_of(header), tf.int64)[None]
    origin = tf.repeat(origin, tf.shape(index)[0], axis=0)
    origin.set_shape([index.shape[0], origin.shape[1]])
    return batch_fields.with_teacher_outputs(
        batch, {**outputs, "origin": origin}, name
    )


def _check_groups(index, header):
    """Checks that a batch has whole groups of the samples that mixup blends.

    With other partners, the student would see other images.
    """
    size = header["views"].get("mixup_group_size")
    if not size:
        return
    groups, _, counts = tf.unique_with_counts(index // size)
    tf.debugging.assert_equal(
        counts,
        tf.minimum(size, header["samples"] - groups * size),
        f"The teacher saw samples blended within groups of {size} neighbours, "
        "and a batch has a part of a group. " + advice(size),
    )


def _check_pipeline(dataset, name):
    if not isinstance(dataset, tf.data.Dataset):
        raise unsupported(
            dataset,
            "dataset",
            "a tf.data.Dataset of batches (for arrays: kd.datasets.batches(x, "
            "y, batch_size, seed=0, indexed=True))",
        )
    spec = batch_fields.sample_spec(dataset)
    before = spec.teacher_outputs
    if before is not None:
        before = list(before.get(batch_fields.OF_TEACHERS, ()))
        if name is None or not before or name in before:
            raise ValueError(
                "This pipeline carries teacher outputs already"
                + (f", of {before}" if before else "")
                + f". Received: name={name!r}. Of several teachers, join the "
                "cache of each under its own name: cache.join(dataset, "
                "name='...')."
            )
    if spec.sample_index is None:
        raise ValueError(
            "The pipeline must carry the index of every sample in the data "
            "set, which finds the teacher's outputs; this one carries none. "
            "Add it before shuffling and batching: "
            "kd.views.indexed(samples).shuffle(n).batch(b); for arrays, "
            "kd.datasets.batches(x, y, indexed=True)."
        )
    if spec.sample_index.shape.rank != 1:
        raise ValueError(
            "cache.join takes batches with one index per sample. Received "
            f"indices of shape {spec.sample_index.shape}. Call .batch() on the "
            "indexed samples first."
        )


class _InputsCheck:
    """Raises unless all samples of all batches are what the teacher saw.

    A pipeline may go wrong in its tenth batch or in its second pass only, such
    as one that reads several files at once in no fixed order and counts the
    samples afterwards. A CRC-32 takes about a thousandth of a training step.

    Args:
        cache: The `TeacherCache`.
        part: The `Part` of it that the pipeline reads.
    """

    def __init__(self, cache, part):
        self.cache, self.part = cache, part
        self.checksums = np.fromfile(cache.path / folder.INPUTS, "<u4")

    def applied(self, dataset):
        """Returns a dataset of the same batches, each checked."""

        def checked(index, *inputs):
            self.check(index, inputs, f"{len(index)} samples of a batch")
            return index

        def look(batch):
            sample, _, _ = batch_fields.unpacked_batch(batch)
            index = sample.sample_index
            inputs = keras.tree.flatten(sample.inputs)
            same = tf.numpy_function(checked, [index, *inputs], index.dtype)
            same.set_shape(index.shape)
            return batch_fields.with_sample_index(batch, same)

        return _mapped(dataset, look, num_parallel_calls=2)

    def look(self, batch):
        """Checks one batch of the pipeline."""
        sample, _, _ = batch_fields.unpacked_batch(batch)
        index = sample.sample_index.numpy()
        self.check(index, sample.inputs, f"first {len(index)} samples")

    def check(self, index, inputs, which):
        """Checks the inputs of samples, of which `index` is `(batch,)`."""
        path, count = self.cache.path, self.cache.samples
        outside = index[(index < 0) | (index >= count)]
        if len(outside):
            raise ValueError(
                f"The pipeline is of another data set than the teacher cache "
                f"'{path}': it has a sample of index {outside.max()}, the "
                f"cache {count} samples."
            )
        samples = self.part.samples
        outside = index[(index < samples.start) | (index >= samples.stop)]
        if len(outside):
            raise ValueError(
                f"The pipeline must have samples of {samples} only, and a "
                f"batch has others: {outside}. Take these samples after "
                f"indexing: kd.views.indexed(samples).skip({samples.start})"
                f".take({len(samples)})."
            )
        wrong = index[source.checksums(inputs) != self.checksums[index]]
        if len(wrong):
            raise ValueError(
                f"The pipeline is of another data set than the teacher cache "
                f"'{path}', or in another order: {len(wrong)} of the {which} "
                f"are not what the teacher saw, those of index "
                f"{_listed(wrong)}. Index the very samples that the cache was "
                "built from, in the same order, before shuffling: "
                "kd.views.indexed(samples).shuffle(n).batch(b). If it reads "
                "several files at once (.interleave), pass deterministic=True "
                "there. If the pipeline changes inputs on purpose: "
                "cache.join(..., check_inputs=False)."
            )


def _listed(numbers, most=8):
    listed = ", ".join(map(str, numbers[:most]))
    return listed + (", ..." if len(numbers) > most else "")
