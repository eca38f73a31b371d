"""A header that is damaged: one error, and never a wrong result."""

import copy
import pathlib
import re
import shutil

import building_worker
import numpy as np
import pytest
import tensorflow as tf

import keras_distill as kd
from keras_distill.teachers.cache.header import HEADER
from keras_distill.teachers.cache.header import read_header
from keras_distill.teachers.cache.header import write_header


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "whole"
    building_worker.build(path)
    return path


@pytest.fixture
def cache(built, tmp_path):
    return pathlib.Path(shutil.copytree(built, tmp_path / "copy"))


def check(path, header, content):
    """Reading this content is the one error, or gives the header itself."""
    (path / HEADER).write_bytes(content)
    try:
        found = read_header(path)
    except ValueError as error:
        assert type(error) is ValueError
        assert HEADER in str(error) and "overwrite=True" in str(error)
        assert str(path) in str(error)
        return False
    assert found == header
    return True


def test_bytes_that_differ(cache):
    header, content = read_header(cache), (cache / HEADER).read_bytes()
    rng = np.random.default_rng(0)
    survived = 0
    for _ in range(400):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= rng.integers(1, 256)
        survived += check(cache, header, bytes(damaged))
    assert survived < 100  # White space between the entries.
    assert check(cache, header, content)


def test_truncated_and_foreign_content(cache):
    header, content = read_header(cache), (cache / HEADER).read_bytes()
    for length in range(0, len(content) - 1, 7):
        assert not check(cache, header, content[:length])
    for text in (b"[]", b"null", b"3", b'"a"', b"[" * 100_000, b"\xff\xfe{}"):
        assert not check(cache, header, text)
    assert not check(cache, header, content + content)


def places(value, place=()):
    """The places of all values in a nested structure."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*place, key)
            yield from places(value[key], (*place, key))


def changed(header, place, change):
    """The header with one value changed or, for "del", without it."""
    header = copy.deepcopy(header)
    holder = header
    for key in place[:-1]:
        holder = holder[key]
    if change == "del":
        del holder[place[-1]]
    else:
        holder[place[-1]] = change
    return header


# Who the teacher is and what it sees is compared with a Distiller's own. A
# build goes on by the sizes of batches and shards. Other shapes than those of
# the files show when these are read.
FREE = ("teacher", "teacher_dtype", "views", "varies", "temperature")
FREE += ("batch_size", "samples_per_shard", "outputs")


@pytest.mark.parametrize(
    "change", ["del", None, -1, 0, 2.5, "../x", [], {}, True, 10**9], ids=str
)
def test_values_that_cannot_be(cache, change):
    """Also under a checksum that is right."""
    header = read_header(cache)
    for place in places(header):
        other = changed(header, place, change)
        write_header(cache, other)
        try:
            kd.TeacherCache(cache).verify()
        except ValueError as error:
            assert str(cache) in str(error), place
            assert re.search("overwrite=True|is unfinished", str(error)), place
        else:
            # As without a change, or about other things than the files.
            assert other == header or place[0] in FREE, (place, change)


@pytest.mark.parametrize(
    "name",
    ["../whole/epoch_0000_part_0000.tfrecord", "/etc/passwd", "inputs.crc32"],
)
def test_files_elsewhere(cache, name):
    header = read_header(cache)
    header["shards"][0]["file"] = name
    write_header(cache, header)
    with pytest.raises(ValueError, match="'shards' .*overwrite=True"):
        kd.TeacherCache(cache)


def test_what_a_killed_run_left_is_checked(cache):
    header = read_header(cache)
    write_header(cache, {**header, "complete": False, "inputs": None})
    (cache / "inputs.crc32").write_bytes(b"123")
    with pytest.raises(ValueError, match="'inputs.crc32' is 3 bytes long"):
        building_worker.build(cache)
    (cache / "inputs.crc32").unlink()
    with pytest.raises(ValueError, match="'inputs.crc32' is missing"):
        building_worker.build(cache)


@pytest.mark.parametrize("shape", [[], [3], [12], [7]])
def test_shapes_that_are_not_those_of_the_files(cache, shape):
    header = read_header(cache)
    header["outputs"]["output"] = shape
    write_header(cache, header)
    batches = kd.datasets.batches(building_worker.x(), indexed=True)
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(kd.TeacherCache(cache).join(batches).take(1))
