"""What is stored of the teacher's outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_distill.teachers.cache.encoding import columns_of
from keras_distill.teachers.cache.encoding import decoded
from keras_distill.teachers.cache.encoding import encoded


def there_and_back(outputs, dtype="float32", top_k=None, temperature=1.0):
    outputs = tf.nest.map_structure(tf.constant, outputs)
    shapes = {"taps": {n: t.shape[1:] for n, t in outputs["taps"].items()}}
    if "output" in outputs:
        shapes["output"] = tuple(outputs["output"].shape[1:])
    columns = columns_of(shapes, dtype, top_k)
    rows = encoded(outputs, columns, top_k, temperature)
    assert [c.name for c in columns] == list(rows)
    for column in columns:
        row = rows[column.name]
        assert row.dtype.name == column.dtype
        assert tuple(row.shape[1:]) == column.shape
        assert row[0].numpy().nbytes == column.bytes
    return decoded(rows, shapes, top_k, temperature)


def logits(*shape, scale=3.0):
    return np.random.normal(size=shape, scale=scale).astype("float32")


def test_all_logits_and_taps():
    given = {"output": logits(5, 7), "taps": {"a/b": logits(5, 2, 3, 4)}}
    exact = there_and_back(given)
    np.testing.assert_array_equal(exact["output"], given["output"])
    np.testing.assert_array_equal(exact["taps"]["a/b"], given["taps"]["a/b"])
    rounded = there_and_back(given, "float16")
    np.testing.assert_allclose(rounded["output"], given["output"], rtol=5e-4)
    assert not np.array_equal(rounded["output"], given["output"])
    assert rounded["output"].dtype == tf.float32


def test_no_output():
    found = there_and_back({"taps": {"a": logits(5, 2)}})
    assert set(found) == {"taps"}


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("shape", [(6, 12), (6, 3, 12)])
def test_largest_logits_and_the_rest(shape, temperature):
    given = logits(*shape)
    found = there_and_back(
        {"output": given, "taps": {}}, top_k=4, temperature=temperature
    )["output"]
    assert found.shape == shape
    order = np.argsort(-given, axis=-1)
    top, rest = order[..., :4], order[..., 4:]
    for a, b in zip(
        np.take_along_axis(found.numpy(), top, -1),
        np.take_along_axis(given, top, -1),
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    # The probabilities of the largest are the teacher's ...
    p, q = (keras.ops.softmax(z / temperature).numpy() for z in (given, found))
    np.testing.assert_allclose(
        np.take_along_axis(q, top, -1),
        np.take_along_axis(p, top, -1),
        rtol=1e-5,
    )
    # ... and what is left is shared by the others in equal parts.
    others = np.take_along_axis(q, rest, -1)
    np.testing.assert_allclose(
        others.sum(-1), np.take_along_axis(p, rest, -1).sum(-1), rtol=1e-5
    )
    np.testing.assert_allclose(others, others[..., :1].repeat(8, -1), rtol=1e-6)


def test_extreme_logits():
    given = np.full((2, 6), -6e4, "float32")
    given[:, 2] = 6e4
    found = there_and_back({"output": given, "taps": {}}, "float16", 1)
    assert np.isfinite(found["output"]).all()
    np.testing.assert_allclose(found["output"], given, rtol=1e-3)


def test_many_classes_have_wide_indices():
    def index_of(classes):
        columns = columns_of({"output": [classes], "taps": {}}, "float16", 3)
        return {c.name: c.dtype for c in columns}["output/classes"]

    assert index_of(2**16) == "uint16"
    assert index_of(2**16 + 1) == "int32"
    given = np.zeros((1, 70000), "float32")
    given[0, 69999] = 5.0
    found = there_and_back({"output": given, "taps": {}}, top_k=1)["output"]
    assert int(np.argmax(found)) == 69999
