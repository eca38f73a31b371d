"""The teacher's outputs in a training pipeline."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd
from keras_distill._data.batch_fields import unpacked
from keras_distill.teachers.cache import joining

SAMPLES, CLASSES = 70, 5


def make_teacher(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, activation="relu", name="hidden"),
            keras.layers.Dense(CLASSES),
        ]
    )


def arrays():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 3)).astype("float32")
    return x, np.arange(SAMPLES, dtype="int32")


@keras.saving.register_keras_serializable(package="tests")
class Scaled(kd.views.Views):
    """x * (1 + epoch): the views of an epoch are told by their size."""

    teacher_varies = True

    def training(self, x, y=None, w=None, epoch=None, sample_index=None):
        factor = 1.0 + keras.ops.cast(epoch, "float32")
        seen = x * keras.ops.reshape(factor, (-1, 1))
        return kd.views.View(seen, seen, y, w)


def build(path, **kwargs):
    # 3 shards.
    return kd.TeacherCache.build(
        make_teacher(),
        arrays()[0],
        path,
        outputs=kd.teachers.StoredOutputs(
            layer_names="hidden", dtype="float32"
        ),
        run=kd.teachers.TeacherRun(batch_size=8, samples_per_shard=32),
        verbose=False,
        **kwargs,
    )


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return build(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return build(tmp_path_factory.mktemp("three"), views=Scaled(), epochs=3)


def samples():
    return kd.views.indexed(tf.data.Dataset.from_tensor_slices(arrays()))


def check_rows(x, factor=1.0):
    """Every sample has its own outputs."""
    sample = unpacked(x)
    expected = make_teacher()(sample.inputs * factor)
    outputs = sample.teacher_outputs
    np.testing.assert_allclose(outputs["output"], expected, rtol=1e-5)
    hidden = make_teacher().layers[0](sample.inputs * factor)
    np.testing.assert_allclose(outputs["taps"]["hidden"], hidden, rtol=1e-5)


@pytest.mark.slow
def test_shuffled_sharded_and_cut(one):
    pipeline = samples().shuffle(SAMPLES, seed=0).shard(2, 1).batch(8)
    joined = one.join(pipeline)
    assert joined.cardinality() == pipeline.cardinality()
    for _ in range(2):
        seen = []
        for x, y in joined:
            np.testing.assert_array_equal(unpacked(x).sample_index, y)
            check_rows(x)
            seen += list(y.numpy())
        assert len(seen) == SAMPLES // 2 and seen != sorted(seen)


PARTS = [range(0, 70), range(5, 9), range(30, 40), range(64, 70), range(32, 64)]


def files_read(monkeypatch):
    """Names of the files that are read from now on."""
    seen = set()
    checked, read = joining.folder.check_content, joining.shards.read

    def check_content(path, header, entries):
        seen.update(entry["file"] for entry in entries)
        return checked(path, header, entries)

    def read_shards(files, columns, rows):
        if tf.executing_eagerly():
            seen.update(f.decode().split("/")[-1] for f in files.numpy())
        return read(files, columns, rows)

    monkeypatch.setattr(joining.folder, "check_content", check_content)
    monkeypatch.setattr(joining.shards, "read", read_shards)
    return seen


@pytest.mark.parametrize(
    "part, shards",
    list(zip(PARTS, [(0, 1, 2), (0,), (0, 1), (2,), (1,)])),
    ids=str,
)
def test_a_part_reads_its_own_files_only(one, part, shards, monkeypatch):
    seen = files_read(monkeypatch)
    pipeline = samples().skip(part.start).take(len(part)).batch(8)
    joined = kd.TeacherCache(one.path).join(pipeline, samples=part)
    rows = 0
    for x, y in joined:
        np.testing.assert_array_equal(unpacked(x).sample_index, y)
        check_rows(x)
        rows += len(y)
    assert rows == len(part)
    names = {f"epoch_0000_part_{k:04d}.tfrecord" for k in shards}
    assert seen == {*names, "inputs.crc32"}


@pytest.mark.slow
def test_a_part_of_several_epochs(three):
    part = range(40, 50)
    pipeline = samples().skip(40).take(10).batch(5)
    joined = three.join(pipeline, samples=part)
    for step, (x, _) in enumerate(joined.take(8)):
        check_rows(x, factor=1.0 + step // 2 % 3)


@pytest.mark.parametrize(
    "part", [range(0), range(0, 71), range(-1, 3), range(0, 8, 2), 8, [0, 1]]
)
def test_what_is_no_part(one, part):
    with pytest.raises(ValueError, match=r"within range\(70\)"):
        one.join(samples().batch(8), samples=part)


def test_samples_outside_of_the_part(one):
    with pytest.raises(ValueError, match=r"skip\(8\).take\(4\)"):
        one.join(samples().batch(8), samples=range(8, 12))
    joined = one.join(samples().skip(8).batch(4), samples=range(8, 12))
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(joined)


@pytest.mark.slow
def test_x_alone_weights_and_tuples(one):
    x, y = arrays()
    weight = np.ones(SAMPLES, "float32")
    pipelines = [
        kd.datasets.batches(x, None, 16, indexed=True),
        kd.datasets.batches(x, y, 16, indexed=True, sample_weight=weight),
    ]
    for pipeline in pipelines:
        joined = one.join(pipeline)
        for a, b in zip(pipeline, joined):
            a, b = (e if isinstance(e, tuple) else (e,) for e in (a, b))
            assert len(a) == len(b)
            check_rows(b[0])


@pytest.mark.slow
def test_each_pass_is_the_next_epoch(three):
    pipeline = samples().shuffle(SAMPLES, seed=0).batch(16)
    joined = three.join(pipeline)
    assert joined.cardinality() == tf.data.INFINITE_CARDINALITY
    passes = []
    for number, (x, y) in enumerate(joined.take(5 * 4)):
        epoch = number // 5
        np.testing.assert_array_equal(unpacked(x).epoch, len(y) * [epoch % 3])
        check_rows(x, 1.0 + epoch % 3)
        passes.append(y.numpy())
    first, second = (np.concatenate(passes[i : i + 5]) for i in (0, 5))
    assert sorted(first) == sorted(second) == list(range(SAMPLES))
    assert list(first) != list(second)


@pytest.mark.slow
def test_first_epoch(three):
    joined = three.join(samples().batch(32), first_epoch=5)
    epochs = [int(unpacked(x).epoch[0]) for x, _ in joined.take(6)]
    assert epochs == [2, 2, 2, 0, 0, 0]


@pytest.mark.slow
def test_a_stream_that_knows_its_epochs(three):
    x, y = arrays()
    stream = kd.datasets.batches(x, y, 32, seed=3, first_epoch=1, indexed=True)
    joined = three.join(stream)
    assert joined.cardinality() == tf.data.INFINITE_CARDINALITY
    for number, ((a, _), (b, _)) in enumerate(zip(stream, joined.take(9))):
        epoch = (1 + number // 3) % 3
        np.testing.assert_array_equal(
            unpacked(a).sample_index, unpacked(b).sample_index
        )
        assert int(unpacked(b).epoch[0]) == epoch
        check_rows(b, 1.0 + epoch)


def test_one_epoch_of_views_that_vary(tmp_path):
    """The student sees that one again and again."""
    cache = build(tmp_path, views=Scaled())
    joined = cache.join(samples().batch(32))
    assert joined.cardinality() == 3
    for x, _ in joined:
        assert set(unpacked(x).epoch.numpy()) == {0}


@pytest.mark.slow
def test_the_students_epoch_is_its_own_where_the_teacher_sees_the_same(one):
    x, y = arrays()
    stream = kd.datasets.batches(x, y, 32, seed=3, first_epoch=9, indexed=True)
    x, _ = next(iter(one.join(stream)))
    assert int(unpacked(x).epoch[0]) == 9
    check_rows(x)
    x, _ = next(iter(one.join(samples().batch(8))))
    assert unpacked(x).epoch is None


# What cannot be joined.


def other():
    x, y = arrays()
    return x + 1e-3, y


@pytest.mark.parametrize(
    "message,pipeline",
    [
        ("kd.views.indexed", lambda: samples().map(lambda x, y: y).batch(8)),
        ("Call .batch", samples),
        ("must be a tf.data.Dataset of batches", lambda: arrays()[0]),
        (
            "of another data set .*, or in another order: 8 of the first 8",
            lambda: kd.datasets.batches(*other(), 8, indexed=True),
        ),
        (
            "a sample of index 71, the cache 70 samples",
            lambda: (
                samples()
                .concatenate(
                    samples().map(
                        lambda x, y: (
                            {**x, "keras_distill/sample_index": 70 + y},
                            y,
                        )
                    )
                )
                .skip(64)
                .batch(8)
            ),
        ),
    ],
)
def test_pipelines_that_cannot_be_joined(one, message, pipeline):
    with pytest.raises((ValueError, TypeError), match=message):
        one.join(pipeline())


def differing(kind):
    """Pipelines whose first batch is right, as the others are not."""
    x, y = arrays()
    if kind == "content":
        x[50] += 1e-3
    elif kind == "order":
        x[[30, 31]] = x[[31, 30]]
    elif kind == "a sample left out":
        x = np.delete(x, 40, axis=0)
    return kd.views.indexed(tf.data.Dataset.from_tensor_slices(x)).batch(8)


@pytest.mark.parametrize(
    "kind, wrong",
    [
        ("content", "1 of the 8 .* those of index 50. "),
        ("order", "2 of the 8 .* those of index 30, 31. "),
        ("a sample left out", "8 of the 8 .*index 40, 41, 42"),
    ],
)
def test_what_differs_after_the_first_batch(one, three, kind, wrong):
    for cache in (one, three):
        with pytest.raises(tf.errors.InvalidArgumentError, match=wrong):
            list(cache.join(differing(kind)))
    assert list(one.join(differing(kind), check_inputs=False))


def test_what_differs_in_the_second_pass_only(one):
    """As an .interleave without determinism may."""
    x, _ = arrays()
    passes = []

    def read():
        passes.append(None)
        yield from x if len(passes) < 3 else x[::-1]

    spec = tf.TensorSpec((3,), tf.float32)
    samples = tf.data.Dataset.from_generator(read, output_signature=spec)
    joined = one.join(kd.views.indexed(samples).batch(8))
    list(joined)
    with pytest.raises(tf.errors.InvalidArgumentError, match="deterministic"):
        list(joined)


@pytest.mark.parametrize("check", [True, False])
def test_an_empty_pipeline(three, check):
    """Of several epochs, the next batch would be sought for ever."""
    empty = samples().batch(SAMPLES + 1, drop_remainder=True)
    with pytest.raises(ValueError, match="not one batch"):
        three.join(empty, check_inputs=check)


def test_joined_twice(one):
    joined = one.join(samples().batch(8))
    with pytest.raises(ValueError, match="carries teacher outputs already"):
        one.join(joined)


def test_inputs_changed_on_purpose(one):
    changed = kd.datasets.batches(*other(), 8, indexed=True)
    joined = one.join(changed, check_inputs=False)
    np.testing.assert_allclose(
        unpacked(next(iter(joined))[0]).teacher_outputs["output"],
        make_teacher()(arrays()[0][:8]),
        rtol=1e-5,
    )


def test_endless_without_epochs(three, one):
    endless = samples().repeat().batch(8)
    with pytest.raises(ValueError, match="Leave out .repeat"):
        three.join(endless)
    assert one.join(endless).cardinality() == tf.data.INFINITE_CARDINALITY


def test_first_epoch_of_a_stream_that_has_its_own(three):
    x, y = arrays()
    stream = kd.datasets.batches(x, y, 32, seed=3, indexed=True)
    with pytest.raises(ValueError, match="first_epoch"):
        three.join(stream, first_epoch=1)
    with pytest.raises(ValueError, match="first_epoch must be an integer"):
        three.join(samples().batch(8), first_epoch=-1)


def test_another_teacher(one):
    one.join(samples().batch(8), teacher=make_teacher())
    with pytest.raises(ValueError, match="is of another teacher"):
        one.join(samples().batch(8), teacher=make_teacher(seed=1))
