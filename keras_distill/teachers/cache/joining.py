"""A cache's outputs, taken to the samples of a training pipeline."""

import numpy as np
import tensorflow as tf

from keras_distill._data import batch_fields
from keras_distill.teachers.cache import header as headers
from keras_distill.teachers.cache import shards
from keras_distill.teachers.cache import source
from keras_distill.teachers.cache.encoding import decoded
from keras_distill.teachers.cache.origin import origin_of
from keras_distill.views.mixup import advice


def joined(cache, dataset, part, first_epoch=0, check_inputs=True):
    """See `TeacherCache.join`; `part`: a `Part` of the cache."""
    _check_pipeline(dataset)
    if check_inputs or cache.epochs > 1:
        batch = next(iter(dataset), None)
        if batch is None:  # Several passes over nothing would never end.
            raise ValueError(
                "The pipeline gives not one batch. Is the dataset empty, or "
                "smaller than one batch with drop_remainder=True?"
            )
    if check_inputs:
        _check_first_batch(cache, batch, part)
    own_epochs = source.x_spec(dataset).epoch is not None
    if first_epoch < 0 or (own_epochs and first_epoch):
        raise ValueError(
            "first_epoch must be >= 0, and is 0 for a pipeline that knows its "
            "epochs itself: there give it to kd.datasets.batches(first_epoch="
            f"). Received: first_epoch={first_epoch}."
        )
    # Where the teacher sees the same in every epoch, the epoch is the
    # student's business.
    if cache.header["varies"]:
        dataset = _with_cached_epoch(cache, dataset, own_epochs, first_epoch)
    if cache.epochs == 1:
        with tf.device("CPU"):  # where tf.data reads; no GPU memory for it
            table = _load(cache, part, 0)
        joined = _mapped(
            dataset, lambda batch: _with_rows(cache, part, batch, table)
        )
    else:
        joined = _with_table_per_epoch(cache, part, dataset)
    return joined.prefetch(2)


def _with_cached_epoch(cache, dataset, own_epochs, first_epoch):
    """Every batch with the number of the cached epoch that it belongs to."""
    if own_epochs:
        return _mapped(
            dataset,
            lambda batch: batch_fields.with_epoch(
                batch,
                batch_fields.unpacked_batch(batch)[0].epoch % cache.epochs,
            ),
        )
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


def _with_table_per_epoch(cache, part, dataset):
    """The table is read anew when the batches' epoch changes."""
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
        return (epoch, table), _with_rows(cache, part, batch, table)

    joined = dataset.scan((tf.constant(-1), empty), step)
    endless = dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    if endless and joined.cardinality() != tf.data.INFINITE_CARDINALITY:
        joined = joined.apply(tf.data.experimental.assert_cardinality(-1))
    return joined


def _mapped(dataset, function):
    whole = isinstance(dataset.element_spec, tuple)
    # There is no Python control flow to convert, and looking for it is slow.
    return dataset.map(
        tf.autograph.experimental.do_not_convert(
            lambda *batch: function(batch if whole else batch[0])
        )
    )


def _load(cache, part, epoch):
    """The table of an epoch: dict column name -> `(samples, ...)`."""
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


def _with_rows(cache, part, batch, table):
    index = batch_fields.unpacked_batch(batch)[0].sample_index
    header = cache.header
    _check_groups(index, header)
    place = index - part.samples.start
    rows = {name: tf.gather(array, place) for name, array in table.items()}
    outputs = decoded(
        rows, header["outputs"], header["top_k"], header["temperature"]
    )
    origin = tf.constant(origin_of(header), tf.int32)[None]
    origin = tf.repeat(origin, tf.shape(index)[0], axis=0)
    origin.set_shape([index.shape[0], origin.shape[1]])
    return batch_fields.with_teacher_outputs(
        batch, {**outputs, "origin": origin}
    )


def _check_groups(index, header):
    """Every batch must have whole groups of the samples that mixup blends:
    with other partners, the student would see other images."""
    if not header["views"].get("mixup"):
        return
    size = header["views"]["mixup_group_size"]
    groups, _, counts = tf.unique_with_counts(index // size)
    tf.debugging.assert_equal(
        counts,
        tf.minimum(size, header["samples"] - groups * size),
        f"The teacher saw samples blended within groups of {size} neighbours, "
        "and a batch has a part of a group. " + advice(size),
    )


def _check_pipeline(dataset):
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            "cache.join takes a tf.data.Dataset of batches. Received: "
            f"{type(dataset).__name__}. For arrays: kd.datasets.batches(x, y, "
            "batch_size, seed=0, indexed=True)."
        )
    spec = source.x_spec(dataset)
    if spec.teacher_outputs is not None:
        raise ValueError("This pipeline carries teacher outputs already.")
    if spec.sample_index is None:
        raise ValueError(
            "The pipeline must carry the index of every sample in the data "
            "set, by which the teacher's outputs are found; this one carries "
            "none. Give it one before shuffling and batching: "
            "kd.views.indexed(samples).shuffle(n).batch(b); for arrays, "
            "kd.datasets.batches(x, y, indexed=True)."
        )
    if spec.sample_index.shape.rank != 1:
        raise ValueError(
            "cache.join takes batches with one index per sample. Received "
            f"indices of shape {spec.sample_index.shape}. Call .batch() on the "
            "indexed samples first."
        )


def _check_first_batch(cache, batch, part):
    """The samples of the first batch must be those that the teacher saw."""
    sample, _, _ = batch_fields.unpacked_batch(batch)
    index = sample.sample_index.numpy()
    if index.max(initial=0) >= cache.samples:
        raise ValueError(
            f"The pipeline is of another data set than the teacher cache "
            f"'{cache.path}': it has a sample of index {index.max()}, the "
            f"cache {cache.samples} samples."
        )
    own = part.samples
    if not set(index.tolist()) <= set(own):
        raise ValueError(
            f"The pipeline is to have samples of {own} only, and its first "
            f"batch has others: {index}. Take these samples after indexing: "
            f"kd.views.indexed(samples).skip({own.start}).take({len(own)})."
        )
    seen = np.fromfile(cache.path / headers.INPUTS, "<u4")[index]
    wrong = index[source.checksums(sample.inputs) != seen]
    if len(wrong):
        raise ValueError(
            f"The pipeline is of another data set than the teacher cache "
            f"'{cache.path}', or in another order: {len(wrong)} of the first "
            f"{len(index)} samples, such as that of index {wrong[0]}, are not "
            "what the teacher saw. Index the very samples that the cache was "
            "built from, before shuffling. If the pipeline changes inputs on "
            "purpose: cache.join(..., check_inputs=False)."
        )
