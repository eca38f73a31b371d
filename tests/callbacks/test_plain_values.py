import ml_dtypes
import numpy as np
import pytest

from keras_distill.callbacks.plain_values import from_bytes
from keras_distill.callbacks.plain_values import to_bytes

VALUE = {
    "none": None,
    "numbers": [1, 2.5, True, float("inf"), -0.0],
    ("a", 1): ("tuple", [{"nested": {}}]),
    "array": np.arange(6, dtype="int16").reshape(2, 3),
    "scalar": np.float32(0.1),
    "bfloat16": np.array([1.5, -2.0], ml_dtypes.bfloat16),
    "empty": np.zeros((0, 3), "bool"),
}


def test_values_come_back_with_their_types():
    found = from_bytes(to_bytes(VALUE))
    assert list(found) == list(VALUE)
    for key in ("none", "numbers", ("a", 1)):
        assert found[key] == VALUE[key]
    assert [type(n) for n in found["numbers"]] == [
        int,
        float,
        bool,
        float,
        float,
    ]
    for key in ("array", "scalar", "bfloat16", "empty"):
        assert found[key].dtype == VALUE[key].dtype
        assert type(found[key]) is type(VALUE[key])
        np.testing.assert_array_equal(found[key], VALUE[key])


def test_any_damage_is_noticed():
    content = to_bytes({"a": np.arange(4), "b": [1]})
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 4
        with pytest.raises(ValueError, match="checksum"):
            from_bytes(bytes(damaged))
        with pytest.raises(ValueError, match="checksum"):
            from_bytes(content[:position])


def test_objects_are_not_plain():
    for value in (print, {1}, np.array([None])):
        with pytest.raises(TypeError, match="not plain"):
            to_bytes({"a": value})
