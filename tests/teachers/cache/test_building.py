"""The pass of the teacher: what it writes, resumes and refuses."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import building_worker
import keras
import numpy as np
import pytest
import tensorflow as tf
from building_worker import Shifted
from building_worker import build
from building_worker import stored
from marks import nightly

import keras_distill as kd
from keras_distill._data.batch_fields import unpacked
from keras_distill.teachers import TeacherRun
from keras_distill.teachers.cache import folder
from keras_distill.teachers.cache.header import VERSION

HERE = pathlib.Path(__file__).parent


def digests(path):
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(pathlib.Path(path).iterdir())
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The cache of an uninterrupted run. Not to be changed."""
    path = tmp_path_factory.mktemp("cache") / "whole"
    build(path)
    return path


@pytest.fixture
def copy(built, tmp_path):
    return pathlib.Path(shutil.copytree(built, tmp_path / "copy"))


def test_what_is_written(built):
    cache = kd.TeacherCache(built)
    assert (cache.samples, cache.epochs) == (83, 3)
    # 6 logits, and a map of 6 x 6 x 4.
    assert cache.bytes_per_view == 2 * (6 + 144)
    shards = [s["samples"] for s in cache.header["shards"]]
    assert shards == 3 * [32, 32, 19]
    assert set(digests(built)) == {
        "header.json",
        "inputs.crc32",
        *(s["file"] for s in cache.header["shards"]),
    }
    size = sum(p.stat().st_size for p in built.iterdir())
    assert size < 3 * 83 * cache.bytes_per_view + 4 * 83 + 8000
    assert "83 samples x 3 epoch(s), 300 bytes" in repr(cache)


@pytest.mark.slow
def test_the_same_in_other_shapes_of_data(built, tmp_path):
    x = building_worker.x()
    samples = tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x))))
    for number, dataset in enumerate(
        [
            samples,
            kd.views.indexed(samples),
            samples.map(lambda x, y: x),
            kd.datasets.batches(x, None, 24, indexed=True),
            kd.views.indexed(x),
            samples.filter(lambda x, y: True),  # of unknown length
        ]
    ):
        path = tmp_path / str(number)
        build(path, dataset=dataset)
        assert digests(path) == digests(built), number


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_killed_between_any_two_writes(built, tmp_path, monkeypatch):
    """The process ends before its n-th system call, and goes on after it."""
    path = tmp_path / "killed"
    calls = 0

    def dying(function):
        def call(*args):
            nonlocal calls
            calls += 1
            if calls == last:
                raise Killed
            return function(*args)

        return call

    monkeypatch.setattr(os, "replace", dying(os.replace))
    monkeypatch.setattr(os, "fsync", dying(os.fsync))
    finished = False
    for last in (1, 2, 3, 4, 5, 6, 7, 9, 12, 19, None):
        calls = 0
        try:
            build(path)
            finished = True
        except Killed:
            assert not finished
            if (path / "header.json").is_file():
                with pytest.raises(ValueError, match="is unfinished"):
                    kd.TeacherCache(path)
    assert finished
    assert digests(path) == digests(built)


@pytest.mark.slow
@pytest.mark.parametrize("moments", [(4,), *nightly((1, 4, 8))], ids=str)
def test_sigkill(built, tmp_path, moments):
    path = tmp_path / "killed"

    def shards():
        header = path / "header.json"
        if not header.is_file():
            return 0
        return len(json.loads(header.read_text())["shards"])

    for until in (*moments, None):
        process = subprocess.Popen(
            [
                sys.executable,
                HERE / "building_worker.py",
                path,
                "0" if until is None else "0.2",
            ]
        )
        if until is None:
            assert process.wait(timeout=120) == 0
            break
        began = time.time()
        while shards() < until and time.time() - began < 120:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert until <= shards() < 9
    assert digests(path) == digests(built)


def test_a_finished_cache_is_only_opened(copy, monkeypatch):
    from keras_distill.teachers.cache.forward import Forward

    (copy / ".DS_Store").write_bytes(b"of the Mac's Finder")
    before = digests(copy)
    monkeypatch.setattr(Forward, "stored", None)
    build(copy)
    build(copy, epochs=1)
    assert digests(copy) == before


def test_more_epochs_are_added(built, tmp_path):
    build(tmp_path / "cache", epochs=1)
    build(tmp_path / "cache")
    assert digests(tmp_path / "cache") == digests(built)


def test_one_epoch_where_the_teacher_sees_the_same(tmp_path):
    cache = build(tmp_path, views=kd.views.Preprocessing(), epochs=7)
    assert cache.epochs == 1
    teacher, x = building_worker.teacher(), building_worker.x()
    batch = next(iter(cache.join(kd.datasets.batches(x, indexed=True))))
    outputs = batch["keras_distill/teacher_outputs"]
    np.testing.assert_allclose(outputs["output"], teacher(x[:32]), atol=1e-2)
    assert "keras_distill/epoch" not in batch


def test_overwrite(copy, tmp_path):
    others = building_worker.x() + 1
    with pytest.raises(ValueError, match="of another data set"):
        build(copy, dataset=others)
    build(copy, dataset=others, epochs=1, overwrite=True)
    assert len(kd.TeacherCache(copy).header["shards"]) == 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not a teacher cache and not empty"):
        build(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_says_what_to_expect_and_what_it_did(tmp_path, capsys):
    build(tmp_path / "cache", verbose=True)
    printed = capsys.readouterr().out
    assert "300 bytes per view x 3 epoch(s) x 83 samples = 0.07 MB" in printed
    assert "249/249" in printed
    assert "249 views in" in printed and "per second" in printed
    build(tmp_path / "cache", verbose=True)
    assert "is complete" in capsys.readouterr().out


# Another run's cache.


def other_teacher():
    teacher = building_worker.teacher()
    teacher.set_weights([w + 1 for w in teacher.get_weights()])
    return teacher


@pytest.mark.parametrize(
    "what,given",
    [
        ("teacher", {"teacher": other_teacher}),
        ("seed", {"views": lambda: Shifted(seed=1)}),
        ("views", {"views": lambda: Shifted(factor=2.0)}),
        ("views", {"views": lambda: None}),
        ("number of samples", {"dataset": lambda: building_worker.x()[:64]}),
        ("data set", {"dataset": lambda: building_worker.x()[::-1]}),
        ("outputs", {"outputs": lambda: stored(layer_names=None)}),
        ("dtype", {"outputs": lambda: stored(dtype="float32")}),
        ("top_k", {"outputs": lambda: stored(top_k=2)}),
        ("batch_size", {"run": lambda: TeacherRun(batch_size=32)}),
    ],
)
def test_of_something_else(built, what, given):
    given = {name: make() for name, make in given.items()}
    before = digests(built)
    with pytest.raises(ValueError, match=f"is of another {what}:"):
        build(built, **given)
    assert digests(built) == before


def changed(sample):
    x = building_worker.x()
    x[sample] += 1
    return x


@pytest.mark.parametrize("sample", [0, 50, 82])
def test_of_other_arrays(built, sample):
    """A finished cache, wherever they differ."""
    message = f"another data set: sample {sample} is not"
    with pytest.raises(ValueError, match=message):
        build(built, dataset=changed(sample))


@pytest.mark.slow
def test_going_on_with_other_samples(tmp_path, monkeypatch):
    """Of a pipeline the last whole shard is compared."""

    def stopped(path, header):
        written(path, header)
        if len(header["shards"]) == 2:
            raise Killed

    def samples(x):
        return tf.data.Dataset.from_tensor_slices(x)

    written = folder.write_header
    with monkeypatch.context() as patched:
        patched.setattr(folder, "write_header", stopped)
        with pytest.raises(Killed):
            build(tmp_path)
    for number in (0, 32):
        with pytest.raises(ValueError, match=f"sample {number} is not"):
            build(tmp_path, dataset=samples(changed(number)))
    with pytest.raises(ValueError, match="sample 50 is not"):
        build(tmp_path, dataset=changed(50))
    # Samples that were not reached yet are only known from now on.
    build(tmp_path, dataset=samples(changed(70)))
    build(tmp_path, dataset=changed(70))


@pytest.mark.slow
def test_of_a_teacher_that_computes_something_else(copy):
    """Its weights, and so its fingerprint, are the same."""
    before = digests(copy)
    other = building_worker.teacher()
    other.layers[0].activation = keras.activations.tanh
    with pytest.raises(ValueError, match="of another teacher's configurat"):
        build(copy, teacher=other)
    batches = kd.datasets.batches(building_worker.x(), indexed=True)
    with pytest.raises(ValueError, match="of another teacher's configurat"):
        kd.TeacherCache(copy).join(batches, teacher=other)
    with pytest.raises(ValueError, match="of another teacher's head: None,"):
        build(copy, teacher=scaled(1.0, "softmax"))
    assert digests(copy) == before
    # A cache from before this was written down, or of another Keras.
    header = folder.read_header(copy)
    header["teacher"]["computation"]["keras"] = "3.0.0"
    folder.write_header(copy, header)
    build(copy, teacher=other)
    del header["teacher"]["computation"]
    folder.write_header(copy, header)
    build(copy, teacher=other)
    kd.TeacherCache(copy).join(batches, teacher=other)


@pytest.mark.parametrize(
    "file", ["epoch_0001_part_0001.tfrecord", "inputs.crc32"]
)
@pytest.mark.parametrize("how", ["missing", "bytes long", "sha256"])
def test_damaged(copy, file, how):
    file = copy / file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(content if how == "sha256" else content[:-1])
    pattern = rf"is damaged: '{file.name}' is .*{how}"
    with pytest.raises(ValueError, match=pattern):
        cache = kd.TeacherCache(copy)
        cache.join(kd.datasets.batches(building_worker.x(), indexed=True))


def test_damaged_header(copy):
    file = copy / "header.json"
    text = file.read_text()
    file.write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match="header .* is damaged"):
        kd.TeacherCache(copy)
    assert '"seed": 0' in text
    file.write_text(text.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ValueError, match="header .* is damaged"):
        kd.TeacherCache(copy)


def test_no_cache(tmp_path, copy):
    with pytest.raises(FileNotFoundError, match="no teacher cache at"):
        kd.TeacherCache(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no header.json"):
        kd.TeacherCache(tmp_path)
    (tmp_path / "header.json").write_text('{"format": "another"}')
    with pytest.raises(ValueError, match="format='another'"):
        kd.TeacherCache(tmp_path)
    header = json.loads((copy / "header.json").read_text())
    (copy / "header.json").write_text(json.dumps({**header, "version": 99}))
    with pytest.raises(ValueError, match=f"version 99.*version {VERSION}"):
        kd.TeacherCache(copy)


# Data, teachers and arguments that do not do.


def batches(**kwargs):
    return kd.datasets.batches(building_worker.x(), None, 16, **kwargs)


def changing(rows=slice(None)):
    counter = iter(range(1000))

    def samples():
        x = building_worker.x()
        x[rows] += next(counter)
        return iter(x)

    spec = tf.TensorSpec((8, 8, 1))
    return tf.data.Dataset.from_generator(samples, output_signature=spec)


def with_nan(sample):
    x = building_worker.x()
    x[sample, 3, 3] = np.nan
    return x


@pytest.mark.parametrize(
    "message,dataset",
    [
        ("must end", lambda: batches(indexed=True, seed=0)),
        ("must end", lambda: batches().unbatch().repeat()),
        ("must give single samples", batches),
        ("is empty", lambda: batches().unbatch().take(0)),
        (
            "index 16 at position 0",
            lambda: kd.views.indexed(batches().unbatch()).skip(16),
        ),
        ("other samples in epoch 1", changing),
        ("epoch 1 .*such as sample 82", lambda: changing([82])),
        ("dataset must .*such as image 40", lambda: with_nan(40)),
        (
            r"inputs of shape \(.*9, 8, 1\), but .* takes \(None, 8, 8, 1\)",
            lambda: np.zeros((16, 9, 8, 1), "float32"),
        ),
        ("must be a tf.data.Dataset", lambda: "images"),
    ],
)
def test_data_that_does_not_do(tmp_path, message, dataset):
    with pytest.raises((ValueError, TypeError), match=message):
        build(tmp_path / "cache", dataset=dataset())


@pytest.mark.parametrize(
    "message,arguments",
    [
        (
            "multiple of 16",
            {
                "run": TeacherRun(batch_size=24),
                "views": kd.views.FunctionMatching(8),
            },
        ),
        (
            "multiple of batch_size=16",
            {"run": TeacherRun(batch_size=16, samples_per_shard=40)},
        ),
        ("epochs must be", {"epochs": 0}),
        ("from 1 to 5", {"outputs": stored(top_k=6)}),
        ("no layer 'pool'", {"outputs": stored(layer_names="pool")}),
        ("must be a kd.teachers.StoredOutputs", {"outputs": "pool"}),
        ("must be a kd.teachers.TeacherRun", {"run": 16}),
        ("trained keras.Model", {"teacher": keras.Sequential()}),
        ("views must be", {"views": "mixup"}),
    ],
)
def test_arguments_that_do_not_do(tmp_path, message, arguments):
    with pytest.raises((ValueError, TypeError), match=message):
        build(tmp_path / "cache", **arguments)


@pytest.mark.parametrize(
    "kind,arguments",
    [
        (stored, {"dtype": "int8"}),
        (stored, {"top_k": 0}),
        (stored, {"top_k": 2.0}),
        (stored, {"temperature": 0.0}),
        (TeacherRun, {"dtype": "int8"}),
        (TeacherRun, {"batch_size": 0}),
        (TeacherRun, {"samples_per_shard": 1.5}),
    ],
)
def test_options_that_do_not_do(kind, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be"):
        kind(**arguments)


def test_views_that_cannot_be_replayed(tmp_path):
    views = [keras.layers.GaussianNoise(1.0), kd.views.FunctionMatching(8)]
    with pytest.raises(ValueError, match="cannot be shown later"):
        build(tmp_path / "cache", views=views)


def scaled(factor, activation=None):
    teacher = building_worker.teacher()
    teacher.layers[-1].activation = keras.activations.get(activation)
    teacher.layers[-1].kernel.assign(factor * teacher.layers[-1].kernel)
    return teacher


@pytest.mark.slow
def test_outputs_that_cannot_be_stored(tmp_path):
    with pytest.raises(ValueError, match='sample .*float16.*dtype="float32"'):
        build(tmp_path / "cache", teacher=scaled(1e6), views=None)
    cache = build(
        tmp_path / "wide",
        teacher=scaled(1e6),
        views=None,
        outputs=stored(dtype="float32"),
    )
    assert cache.bytes_per_view == 4 * 150
    with pytest.raises(ValueError, match="'output' of sample 0 .*NaN"):
        build(tmp_path / "nan", teacher=scaled(np.nan), views=None)
    with pytest.raises(ValueError, match="ends in a softmax"):
        build(
            tmp_path / "cache",
            teacher=scaled(1, "softmax"),
            outputs=stored(top_k=2),
        )


def test_a_teacher_with_several_outputs(tmp_path):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten(name="flat")(inputs)
    outputs = [keras.layers.Dense(3)(x), keras.layers.Dense(4, name="b")(x)]
    teacher = keras.Model(inputs, outputs)
    path = tmp_path / "cache"
    with pytest.raises(ValueError, match="has several outputs"):
        build(path, teacher=teacher, outputs=stored(layer_names=None))
    cache = build(path, teacher=teacher, outputs=stored(layer_names="b"))
    assert [c.name for c in cache.columns()] == ["taps/b"]
    with pytest.raises(ValueError, match="top_k keeps the largest"):
        build(
            tmp_path / "top",
            teacher=teacher,
            outputs=stored(layer_names="b", top_k=2),
        )


def test_probabilities_keep_their_small_numbers(tmp_path):
    """Float16 has no number below 6e-8; logarithms would not be the same."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    logits = keras.layers.Dense(
        50, kernel_initializer=keras.initializers.RandomNormal(stddev=2.0)
    )(x)
    shown = keras.Model(inputs, keras.layers.Softmax(name="p")(logits))

    @keras.saving.register_keras_serializable(package="tests")
    class Hidden(keras.Model):
        def call(self, inputs):
            return shown(inputs)

    hidden = Hidden()
    hidden(building_worker.x()[:1])
    expected = shown.predict(building_worker.x(), verbose=0)
    assert (expected < 6e-8).mean() > 0.2
    for number, (teacher, names) in enumerate([(shown, ["p"]), (hidden, None)]):
        cache = build(
            tmp_path / str(number),
            teacher=teacher,
            views=None,
            outputs=stored(layer_names=names),
        )
        assert {c.dtype for c in cache.columns()} == {"float32"}
        samples = kd.datasets.batches(building_worker.x(), indexed=True)
        batch = next(iter(cache.join(samples)))
        outputs = unpacked(batch).teacher_outputs
        for found in (outputs["output"], *outputs["taps"].values()):
            np.testing.assert_allclose(found, expected[: len(found)], rtol=1e-4)
    # One that was written before reads as it was, and is not gone on with.
    header = folder.read_header(cache.path)
    del header["outputs"]["in_float32"]
    folder.write_header(cache.path, header)
    assert {c.dtype for c in kd.TeacherCache(cache.path).columns()} == {
        "float16"
    }
    with pytest.raises(ValueError, match="of another outputs"):
        build(
            cache.path,
            teacher=hidden,
            views=None,
            outputs=stored(layer_names=None),
        )


def test_an_ensemble(tmp_path):
    teachers = [building_worker.teacher(), other_teacher()]
    cache = build(
        tmp_path,
        teacher=teachers,
        outputs=stored(layer_names=None),
        views=None,
    )
    x = building_worker.x()
    batch = next(iter(cache.join(kd.datasets.batches(x, indexed=True))))
    np.testing.assert_allclose(
        batch["keras_distill/teacher_outputs"]["output"],
        kd.Ensemble(teachers)(x[:32]),
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.slow
def test_a_teacher_in_half_precision(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    teacher = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])

    def logits(name, teacher_dtype):
        cache = kd.TeacherCache.build(
            teacher,
            x,
            tmp_path / name,
            outputs=stored(layer_names=None, dtype="float32"),
            run=TeacherRun(dtype=teacher_dtype),
            verbose=False,
        )
        batches = kd.datasets.batches(x, x, 20, indexed=True)
        ((sample, _),) = cache.join(batches)
        outputs = unpacked(sample).teacher_outputs["output"]
        return np.asarray(outputs)

    exact, half = logits("exact", None), logits("half", "bfloat16")
    np.testing.assert_allclose(exact, teacher(x), atol=1e-5)
    difference = np.abs(half - exact).max() / np.abs(exact).max()
    assert 1e-4 < difference < 2e-2
    assert teacher.layers[-1].compute_dtype == "float32"
    with pytest.raises(ValueError, match="another teacher_dtype.*None, not"):
        logits("exact", "bfloat16")
    # A cache from before there was a choice was of the teacher's own.
    header = folder.read_header(tmp_path / "exact")
    del header["teacher_dtype"]
    folder.write_header(tmp_path / "exact", header)
    logits("exact", None)
    teacher.set_weights([1e6 * w for w in teacher.get_weights()])
    with pytest.raises(ValueError, match='infinite.*dtype="bfloat16"'):
        logits("large", "float16")
