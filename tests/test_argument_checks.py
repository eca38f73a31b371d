"""The checkers of arguments: what passes, and what an error says."""

import keras
import numpy as np
import pytest

from keras_distill._arguments import as_path
from keras_distill._arguments import checked_alpha
from keras_distill._arguments import checked_boolean
from keras_distill._arguments import checked_booleans
from keras_distill._arguments import checked_integer
from keras_distill._arguments import checked_integers
from keras_distill._arguments import checked_layer
from keras_distill._arguments import checked_number
from keras_distill._arguments import checked_numbers
from keras_distill._arguments import checked_range
from keras_distill._arguments import checked_seed
from keras_distill._arguments import checked_size
from keras_distill._arguments import checked_string
from keras_distill._arguments import checked_strings
from keras_distill._arguments import checked_teacher_dtype
from keras_distill._arguments import checked_temperature
from keras_distill._arguments import is_number
from keras_distill._arguments import one_of
from keras_distill._shapes import sizes_agree

NOT_NUMBERS = (True, "1", None, [1.0], 1j, float("nan"), float("inf"))


def test_integers():
    for value in (3, np.int64(3)):
        assert type(checked_integer("n", value)) is int
    assert checked_integer("n", None, or_none=True) is None
    assert checked_integer("n", 0, least=0, most=0) == 0
    for value in (*NOT_NUMBERS, 2.0, 0, -1):
        message = "n must be an integer of at least 1. Received"
        with pytest.raises(ValueError, match=message):
            checked_integer("n", value)
    with pytest.raises(ValueError, match="n must be an integer from 1 to 4"):
        checked_integer("n", 5, most=4)
    with pytest.raises(ValueError, match=r", or None \(a hint\). Received: 0"):
        checked_integer("n", 0, or_none=True, hint="a hint")


def test_lists_of_integers():
    assert checked_integers("n", np.array([1, 2])) == (1, 2)
    assert checked_integers("n", [0], least=0, length=1) == (0,)
    for values in ((), 3, "12", [1, 0], [1.0], [True], None):
        with pytest.raises(ValueError, match="list of integers of at least 1"):
            checked_integers("n", values)
    with pytest.raises(ValueError, match="n must be a list"):
        checked_integers("n", [1, 2], length=3)


@pytest.mark.parametrize(
    "interval, inside, outside, message",
    [
        ("(0, inf)", (1e-9, 7), (0, -1), "a positive, finite number"),
        ("[0, inf)", (0, 7.5), (-1e-9,), "a finite number of at least 0"),
        ("[0, 1)", (0, 0.9), (1, -0.1), r"a number in \[0, 1\)"),
        ("(0, 1]", (1, 0.1), (0, 1.1), r"a number in \(0, 1\]"),
    ],
)
def test_numbers(interval, inside, outside, message):
    for value in inside:
        checked = checked_number("x", value, interval)
        assert type(checked) is float and checked == value
    assert type(checked_number("x", np.float32(0.5), interval)) is float
    for value in (*outside, *NOT_NUMBERS):
        with pytest.raises(ValueError, match=f"x must be {message}. Received"):
            checked_number("x", value, interval)
    assert checked_number("x", None, interval, or_none=True) is None
    assert not any(is_number(value) for value in NOT_NUMBERS)


def test_what_has_a_meaning():
    schedule = keras.optimizers.schedules.CosineDecay(1.0, 10)
    assert checked_alpha(schedule) is schedule and checked_alpha(1) == 1.0
    with pytest.raises(ValueError, match=r"alpha must be a number in \[0, 1\]"):
        checked_alpha(1.5)
    with pytest.raises(ValueError, match="usually 1 to 10"):
        checked_temperature(0)
    assert checked_teacher_dtype(None) is None
    with pytest.raises(ValueError, match="None, 'float32', 'bfloat16'"):
        checked_teacher_dtype("float64")
    with pytest.raises(ValueError, match="one of 'a', 'b'. Received: 'c'"):
        one_of("x", "c", ("a", "b"))
    layer = keras.layers.Identity()
    assert (
        checked_layer("x", layer) is layer and checked_layer("x", None) is None
    )
    with pytest.raises(TypeError, match="x must be a Keras layer or model"):
        checked_layer("x", abs)


def test_sizes_and_ranges():
    assert checked_size("x", 3) == (3, 3) and checked_size("x", [2, 3]) == (
        2,
        3,
    )
    for size in (0, True, 2.0, (1, 2, 3), "ab", None):
        with pytest.raises(ValueError, match="number of pixels"):
            checked_size("x", size)
    assert checked_range("x", [0.5, 2]) == (0.5, 2.0)
    for bounds in ((2, 1), (0, 1), (1, float("inf")), 3, ("a", "b")):
        with pytest.raises(ValueError, match="least first"):
            checked_range("x", bounds)
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        checked_range("x", (0.5, 1.1), most=1.0)


def test_booleans():
    for value in (True, np.bool_(True)):
        assert checked_boolean("b", value) is True
    assert checked_boolean("b", None, or_none=True) is None
    for value in ("no", "", 0, 1, 1.0, None, [], np.int64(1)):
        with pytest.raises(ValueError, match="b must be True or False"):
            checked_boolean("b", value)
    assert checked_booleans("b", [True, np.False_], 2) == (True, False)
    for values in ("ab", [True], [True, "no"], True):
        with pytest.raises(ValueError, match="b must be a list .* 2 of them"):
            checked_booleans("b", values, 2)


def test_choices_of_unlike_kinds():
    """1 is neither `True` nor 1.0, and an array is no choice."""
    assert one_of("x", np.int64(2), (1, 2)) == 2
    assert one_of("x", np.bool_(True), (False, True, "as_given")) is True
    for value, options in (
        (True, (1, 2)),
        (1.0, (1, 2)),
        (1, (False, True)),
        ("", (False, True)),
        (np.ones(2), ("a", 1)),
    ):
        with pytest.raises(ValueError, match="x must be one of"):
            one_of("x", value, options)


def test_numbers_that_float32_does_not_hold():
    for value in (1e39, 10**400, 1e-50, -1e300):
        assert not is_number(value)
    assert is_number(0) and is_number(np.float64(1e-38))
    for value in (1e-4, 1e4, 1e30):
        with pytest.raises(ValueError, match=r"in \[0.001, 1000\]"):
            checked_temperature(value)


def test_lists_of_numbers():
    assert checked_numbers("x", np.array([1, 2.5])) == (1.0, 2.5)
    for values in ("12", 3.0, [], [1.0, float("nan")], [True], {1.0: 2}):
        with pytest.raises(ValueError, match="x must be a list of positive"):
            checked_numbers("x", values)


def test_seeds():
    """Of 32 bits; two seeds that would draw alike cannot be given."""
    assert checked_seed(2**32 - 1) == 2**32 - 1
    assert checked_seed(None, or_none=True) is None
    for value in (-1, 2**32, 1.0, "0", True):
        with pytest.raises(ValueError, match="seed must be .* 4294967295"):
            checked_seed(value)


def test_texts_and_paths():
    assert checked_string("x", "a") == "a"
    assert checked_strings("x", ("a", "b")) == ["a", "b"]
    assert checked_strings("x", None, or_none=True) is None
    for values in ("abcd", ["a", 1], [""], [], 3):
        with pytest.raises(ValueError, match="x must be a list of strings"):
            checked_strings("x", values)
    assert as_path("x", "a/b").name == "b"
    for path in (None, "", 3, b"a"):
        with pytest.raises(TypeError, match="x must be a path"):
            as_path("x", path)


def test_static_shapes():
    assert sizes_agree((), ()) and sizes_agree((None, 3), (2, 3))
    assert not sizes_agree((2,), (2, 3)) and not sizes_agree((2, 3), (2, 4))
